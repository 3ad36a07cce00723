//! The way of spans to their receiver: OTLP over HTTP.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as ExportSpans};
use tokio::runtime::Handle;

use super::queue::Queue;
use super::settings::TraceSettings;
use super::{EXPORTED, FAILED, TraceMetrics};
use crate::repeats::Repeats;

/// Exports batches on the service's own runtime, counts what becomes of them, and logs when none
/// can be. Called by the processor's thread, one batch at a time.
#[derive(Debug)]
pub(super) struct Exporter {
    spans: Arc<SpanExporter>,
    runtime: Handle,
    timeout: Duration,
    endpoint: String,
    queue: Arc<Queue>,
    failure: Arc<Mutex<Option<String>>>,
    repeats: Repeats,
    metrics: TraceMetrics,
}

impl Exporter {
    pub(super) fn new(
        settings: &TraceSettings,
        queue: Arc<Queue>,
        metrics: TraceMetrics,
    ) -> Result<Self, String> {
        let failure = Arc::default();
        let carrier = Carrier::new(settings, Arc::clone(&failure))?;
        Ok(Self {
            spans: Arc::new(spans_by(carrier, settings)?),
            runtime: Handle::try_current().map_err(|error| error.to_string())?,
            timeout: settings.batch_timeout,
            endpoint: settings.endpoint.to_string(),
            queue,
            failure,
            repeats: Repeats::default(),
            metrics,
        })
    }

    fn note(&self, count: usize, failure: Option<&str>) {
        self.queue.leave(count);
        let outcome = if failure.is_none() { EXPORTED } else { FAILED };
        self.metrics.spans.with_label_values(&[outcome]).inc_by(count as u64);
        let (spans, endpoint) = (count, &self.endpoint);
        match failure {
            None => {
                if let Some(over) = self.repeats.over() {
                    let (failures, seconds) = (over.failures, over.seconds());
                    tracing::info!(endpoint, failures, seconds, "spans are exported again");
                }
            }
            Some(error) => {
                if let Some(left_out) = self.repeats.failed(&error) {
                    tracing::warn!(error, endpoint, spans, left_out, "spans are not exported");
                }
            }
        }
    }
}

impl ExportSpans for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let (spans, timeout) = (Arc::clone(&self.spans), self.timeout);
        let sending = self
            .runtime
            .spawn(async move { tokio::time::timeout(timeout, spans.export(batch)).await });
        let sent = match sending.await {
            Ok(Ok(sent)) => sent.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err(format!("not done within {} ms", timeout.as_millis())),
            Err(error) => Err(error.to_string()),
        };
        // The exporter says that the network failed, the client why.
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sent = sent.map_err(|error| failure.unwrap_or(error));
        self.note(count, sent.as_ref().err().map(String::as_str));
        sent.map_err(OTelSdkError::InternalFailure)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.spans.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Set once, before there is a batch that shares it.
        if let Some(spans) = Arc::get_mut(&mut self.spans) {
            spans.set_resource(resource);
        }
    }
}

/// An exporter of these settings: whether there can be one.
///
/// # Errors
/// What in the settings, or in variables that only the exporter knows, it does not take.
pub(super) fn check(settings: &TraceSettings) -> Result<(), String> {
    let carrier = Carrier::new(settings, Arc::default())?;
    spans_by(carrier, settings).map(drop)
}

fn spans_by(carrier: Carrier, settings: &TraceSettings) -> Result<SpanExporter, String> {
    SpanExporter::builder()
        .with_http()
        .with_http_client(carrier)
        .with_endpoint(settings.endpoint.to_string())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(settings.timeout)
        .build()
        .map_err(|error| error.to_string())
}

/// Carries requests, with the headers that the operator wants on them.
#[derive(Debug)]
struct Carrier {
    client: HyperClient<HttpsConnector<HttpConnector>>,
    headers: HeaderMap,
    failure: Arc<Mutex<Option<String>>>,
}

impl Carrier {
    fn new(settings: &TraceSettings, failure: Arc<Mutex<Option<String>>>) -> Result<Self, String> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match settings.endpoint.scheme_str() {
            Some("https") => builder
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(|error| format!("cannot read whom the system trusts: {error}"))?,
            // No authority is needed, and none may be there.
            _ => builder.with_tls_config(without_authorities()?),
        };
        let connector = builder.https_or_http().enable_http1().build();
        let client = HyperClient::new(connector, settings.timeout, None);
        Ok(Self { client, headers: settings.headers.clone(), failure })
    }
}

fn without_authorities() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

#[async_trait]
impl HttpClient for Carrier {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        request.headers_mut().extend(self.headers.clone());
        let sent = self.client.send_bytes(request).await;
        let failure = sent.as_ref().err().map(|error| with_causes(&**error));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        sent
    }
}

/// An error with all that caused it, from the outermost to the innermost.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
