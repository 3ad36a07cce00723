//! Traces: spans of this process, exported by OTLP where the environment asks for it.
//!
//! Without an address nothing is made: every [`TraceSpan`] is none, and what would be its attributes
//! is never computed. With one, spans wait in a bounded queue ([`queue`]) and are sent in batches
//! ([`export`]); what finds no room, or no receiver, is counted and gone. Nobody waits for a span.

mod context;
mod export;
mod links;
mod options;
mod queue;
mod sampler;
mod settings;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, Status, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use prometheus::Registry;

pub use context::{header, parse};
pub use links::{Links, MAX_LINKS};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::{SpanContext, SpanKind, TraceState};
pub use options::TraceOptions;

use queue::Queue;

/// How long the last spans may take on their way at the end, however much time is left.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

crate::metrics! {
    /// What becomes of spans.
    pub struct TraceMetrics {
        /// Spans that ended and were sampled, by what became of them: exported (the receiver took them), failed (it did not, or not in time), dropped (there was no room in the queue).
        spans: IntCounterVec = "tapedeck_trace_spans_total", labels ["outcome"];
        /// Spans that wait to be exported or are on their way.
        queue: IntGauge = "tapedeck_trace_queue_spans";
        /// Spans that may wait to be exported; 0 where none are made.
        queue_limit: IntGauge = "tapedeck_trace_queue_limit_spans";
    }
}

/// The outcome labels of a span.
const EXPORTED: &str = "exported";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

/// Where the spans of this process go; nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Exporting>);

#[derive(Clone, Debug)]
struct Exporting {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    queue: Arc<Queue>,
}

/// What a span begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Its name, of bounded variety.
    pub name: Cow<'static, str>,
    /// What it is to others.
    pub kind: SpanKind,
    /// What it is a part of.
    pub parent: Option<SpanContext>,
    /// What it has to do with besides.
    pub links: Vec<SpanContext>,
    /// What is known of it.
    pub attributes: Vec<KeyValue>,
}

impl Traces {
    /// Begins to export, if the options ask for it; `service` is the service's name where they do
    /// not give one. Must be called on a runtime, which then sends.
    ///
    /// # Errors
    /// When the metrics' names are taken, or the exporter cannot be made of the options.
    pub fn start(
        options: &TraceOptions,
        service: &'static str,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let metrics = TraceMetrics::register(registry)?;
        for outcome in [EXPORTED, FAILED, DROPPED] {
            metrics.spans.with_label_values(&[outcome]);
        }
        let Some(settings) =
            options.settings(service).map_err(|it| anyhow::anyhow!(it.join("; ")))?
        else {
            return Ok(Self::default());
        };
        let queue = Arc::new(Queue::new(settings.queue_limit, &metrics));
        let exporter = export::Exporter::new(&settings, Arc::clone(&queue), metrics.clone())
            .map_err(anyhow::Error::msg)?;
        let processor =
            queue::QueueProcessor::new(exporter, &settings, Arc::clone(&queue), metrics);
        tracing::info!(
            endpoint = %settings.endpoint,
            sampler = ?settings.sampler,
            "spans are exported"
        );
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler::ByLinks::around(settings.sampler))
            .with_resource(settings.resource)
            .with_span_processor(processor)
            .build();
        let tracer = provider.tracer("tapedeck");
        Ok(Self(Some(Exporting { tracer, provider, queue })))
    }

    /// Whether spans are made.
    pub const fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span of what `beginning` gives, which is not asked for where none is made.
    pub fn begin(&self, beginning: impl FnOnce() -> Beginning) -> TraceSpan {
        let Some(Exporting { tracer, .. }) = &self.0 else {
            return TraceSpan::default();
        };
        let Beginning { name, kind, parent, links, attributes } = beginning();
        let parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let links = links.into_iter().map(|context| Link::new(context, Vec::new(), 0)).collect();
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes)
            .with_links(links);
        TraceSpan(Some(tracer.build_with_context(builder, &parent)))
    }

    /// Sends what there is, for as long as `within` and a limit of its own allow. Spans that end
    /// later are gone.
    pub async fn finish(&self, within: Duration) {
        let Some(Exporting { provider, queue, .. }) = self.0.clone() else {
            return;
        };
        let within = within.min(LAST_EXPORT_TIMEOUT);
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(within));
        let ended = ended.await.map_err(|error| error.to_string());
        if let Err(error) = ended.and_then(|it| it.map_err(|error| error.to_string())) {
            let (spans, within_ms) = (queue.len(), within.as_millis());
            tracing::warn!(error, spans, within_ms, "the last spans are not exported");
        }
    }
}

/// A span, or none where none are made. It ends when dropped.
#[derive(Debug, Default)]
pub struct TraceSpan(Option<Span>);

impl TraceSpan {
    /// Adds what is known now.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Notes that what it stands for failed; `error_type` is of bounded variety.
    pub fn fail(&mut self, error_type: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", error_type.into()));
            span.set_status(Status::error(""));
        }
    }

    /// What others refer to it by.
    pub fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|span| span.span_context().clone())
    }

    /// What stands on each log line that is written within it.
    pub fn log_span(&self) -> tracing::Span {
        match &self.0 {
            Some(span) => {
                let context = span.span_context();
                let (trace_id, span_id) = (context.trace_id(), context.span_id());
                tracing::error_span!("trace", %trace_id, %span_id)
            }
            None => tracing::Span::none(),
        }
    }
}
