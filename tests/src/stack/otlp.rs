//! A receiver of traces, as a collector is one: OTLP over HTTP, decoded by its own schema.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::wait::eventually;

/// How long spans may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// A span as it came.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    /// The name of the service that sent it.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl ReceivedSpan {
    /// What it is referred to by: a `traceparent`.
    pub fn traceparent(&self) -> String {
        let (trace, span) = (hex::encode(&self.span.trace_id), hex::encode(&self.span.span_id));
        format!("00-{trace}-{span}-01")
    }

    /// An attribute as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.span.attributes, name)
    }

    /// The spans that it is linked to, `trace_id-span_id`.
    pub fn links(&self) -> Vec<String> {
        let links = self.span.links.iter();
        links
            .map(|it| format!("{}-{}", hex::encode(&it.trace_id), hex::encode(&it.span_id)))
            .collect()
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref() {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        _ => None,
    }
}

/// What came.
#[derive(Debug, Default)]
struct Received {
    headers: Vec<HeaderMap>,
    spans: Vec<ReceivedSpan>,
}

/// A receiver on a port of this machine. It goes when dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    /// One that takes what comes.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        Self::serving(|received| Router::new().route("/v1/traces", post(take)).with_state(received))
            .await
    }

    /// One that never answers.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn silent() -> Result<Self> {
        let never = || std::future::pending::<StatusCode>();
        Self::serving(|_| Router::new().route("/v1/traces", post(never))).await
    }

    async fn serving(router: impl FnOnce(Arc<Mutex<Received>>) -> Router) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::default();
        let router = router(Arc::clone(&received));
        let serving = tokio::spawn(async move {
            // It ends with its listener, which ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, received, _serving: AbortOnDropHandle::new(serving) })
    }

    /// What services are told, `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans that have come.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// The headers of each export that has come.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).headers.clone()
    }

    /// Waits for a span of that name that satisfies `is_it`.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn wait_span(
        &self,
        name: &str,
        is_it: impl Fn(&ReceivedSpan) -> bool,
    ) -> Result<ReceivedSpan> {
        eventually(&format!("a span {name:?} arrives"), ARRIVES_WITHIN, async || {
            let spans = self.spans();
            let found = spans.iter().find(|it| it.span.name == name && is_it(it)).cloned();
            found.ok_or_else(|| format!("{spans:#?}"))
        })
        .await
    }
}

async fn take(
    State(received): State<Arc<Mutex<Received>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let request = ExportTraceServiceRequest::decode(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.headers.push(headers);
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let service = attribute(&resource.attributes, "service.name").unwrap_or_default();
        let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        let spans = spans.map(|span| ReceivedSpan { service: service.clone(), span });
        received.spans.extend(spans);
    }
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}
