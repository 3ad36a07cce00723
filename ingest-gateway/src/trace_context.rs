//! The W3C trace context of a request, which travels on with its records.

use std::str::FromStr;

use common::traces::{self, SpanContext, TraceState};
use http::HeaderMap;

/// What is taken of `tracestate`: what the specification has everybody carry on at least
/// (<https://www.w3.org/TR/trace-context/#tracestate-limits>). It is copied into every span.
const MAX_TRACE_STATE_BYTES: usize = 512;

/// The request's `traceparent`, if it is well formed.
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    traces::parse(value).map(|_| value.to_owned())
}

/// What the request is a part of, with what other systems say of the trace (`tracestate`).
pub fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let context = traces::parse(headers.get("traceparent")?.to_str().ok()?)?;
    let state = headers.get("tracestate").and_then(|value| value.to_str().ok());
    let state = state.filter(|state| state.len() <= MAX_TRACE_STATE_BYTES);
    let state = state.and_then(|value| TraceState::from_str(value).ok()).unwrap_or_default();
    let (trace_id, span_id) = (context.trace_id(), context.span_id());
    Some(SpanContext::new(trace_id, span_id, context.trace_flags(), true, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn only_well_formed_contexts_travel() {
        fn check(value: &str, expected: Option<&str>) {
            assert_eq!(traceparent(&headers(&[("traceparent", value)])).as_deref(), expected);
        }
        check(TRACEPARENT, Some(TRACEPARENT));
        check(&TRACEPARENT.to_uppercase(), None);
        check("", None);
        assert_eq!(traceparent(&HeaderMap::new()), None);
    }

    #[test]
    fn a_parent_keeps_what_others_say_of_its_trace() {
        fn check(tracestate: &str, expected: &str) {
            let headers = headers(&[("traceparent", TRACEPARENT), ("tracestate", tracestate)]);
            let parent = parent(&headers).unwrap();
            assert_eq!(parent.trace_state().header(), expected);
            assert_eq!(traces::header(&parent), TRACEPARENT);
        }
        check("vendor=value,other=1", "vendor=value,other=1");
        check("no pair", "");
        assert_eq!(parent(&headers(&[("tracestate", "vendor=value")])), None);
    }
}
