//! The spans of a request, by OpenTelemetry's conventions for HTTP servers and for messaging. They
//! hold neither content nor key, replay or address of who sends.

use std::borrow::Cow;

use common::record::headers::RecordHeaders;
use common::traces::{self, Beginning, KeyValue, SpanContext, SpanKind, TraceSpan, Traces};
use http::{Method, Request, StatusCode, Version};

use crate::answers::Accepted;
use crate::metrics::OTHER_PATH;
use crate::problem::{Kind, Problem};
use crate::trace_context;

/// The span that a request is in, for the handlers of its path.
#[derive(Clone, Debug)]
pub struct RequestContext(SpanContext);

/// The span of a request to one of the API's paths.
pub fn of_request<B>(
    traces: &Traces,
    scheme: &'static str,
    request: &Request<B>,
    path: &'static str,
) -> TraceSpan {
    traces.begin(|| {
        let method = method_name(request.method());
        let mut attributes =
            vec![KeyValue::new("http.request.method", method), KeyValue::new("url.scheme", scheme)];
        attributes.extend(
            version(request.version())
                .map(|version| KeyValue::new("network.protocol.version", version)),
        );
        // Anything may stand in a path that the API does not have.
        let name = match path {
            OTHER_PATH => Cow::Borrowed(method),
            route => {
                attributes.push(KeyValue::new("http.route", route));
                attributes.push(KeyValue::new("url.path", route));
                Cow::Owned(format!("{method} {route}"))
            }
        };
        Beginning {
            name,
            kind: SpanKind::Server,
            parent: trace_context::parent(request.headers()),
            links: Vec::new(),
            attributes,
        }
    })
}

/// Lets the handlers know which span they are in.
pub fn enter<B>(span: &TraceSpan, request: &mut Request<B>) {
    if let Some(context) = span.context() {
        request.extensions_mut().insert(RequestContext(context));
    }
}

/// Notes how a request was answered, and why not with what it asked for; no status where its client
/// gave it up.
pub fn answered(span: &mut TraceSpan, status: Option<StatusCode>, refusal: Option<Kind>) {
    let Some(status) = status else {
        span.set("error.type", "aborted");
        return;
    };
    span.set("http.response.status_code", i64::from(status.as_u16()));
    match refusal {
        // By the conventions only these are the server's failures.
        Some(kind) if status.is_server_error() => span.fail(kind.slug()),
        Some(kind) => span.set("error.type", kind.slug()),
        None => {}
    }
}

/// The span of publishing the records of a request.
pub fn of_publication(
    traces: &Traces,
    request: Option<&RequestContext>,
    events_topic: &str,
    records: usize,
    pages: usize,
) -> TraceSpan {
    traces.begin(|| Beginning {
        name: "publish".into(),
        kind: SpanKind::Producer,
        parent: request.map(|RequestContext(context)| context.clone()),
        links: Vec::new(),
        attributes: vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "publish"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", events_topic.to_owned()),
            KeyValue::new("messaging.batch.message_count", count(records + pages)),
            KeyValue::new("tapedeck.pages", count(pages)),
        ],
    })
}

/// The headers of records that are published in the span: its context instead of the request's,
/// which it is a part of.
pub fn record_headers(span: &TraceSpan, headers: &RecordHeaders) -> RecordHeaders {
    let traceparent = span.context().as_ref().map(traces::header);
    RecordHeaders {
        received_at: headers.received_at,
        traceparent: traceparent.or_else(|| headers.traceparent.clone()),
    }
}

/// Notes what became of each envelope.
pub fn published(span: &mut TraceSpan, outcomes: &[Result<Accepted, Problem>]) {
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    span.set("tapedeck.envelopes.accepted", count(accepted));
    span.set("tapedeck.envelopes.refused", count(outcomes.len() - accepted));
    if let Some(problem) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
        span.fail(problem.kind.slug());
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The method, unless it is one of a client's own making.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or("_OTHER")
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;

    use super::*;

    #[test]
    fn methods_are_of_bounded_variety() {
        fn check(method: &[u8], expected: &str) {
            assert_eq!(method_name(&Method::from_bytes(method).unwrap()), expected);
        }
        check(b"POST", "POST");
        check(b"post", "_OTHER");
        check(b"PROPFIND", "_OTHER");
    }

    #[test]
    fn without_spans_the_context_of_the_request_travels() {
        let headers = RecordHeaders {
            received_at: Timestamp::from_micros(5),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        };
        assert_eq!(record_headers(&TraceSpan::default(), &headers), headers);
    }
}
