//! Spans that wait to be exported: as many as fit, the rest is counted and gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanProcessor,
};
use prometheus::IntGauge;

use super::export::Exporter;
use super::settings::TraceSettings;
use super::{DROPPED, TraceMetrics};

/// How many spans there are between their end and the end of their export.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    held: AtomicUsize,
    gauge: IntGauge,
}

impl Queue {
    pub(super) fn new(limit: usize, metrics: &TraceMetrics) -> Self {
        metrics.queue_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        Self { limit, held: AtomicUsize::new(0), gauge: metrics.queue.clone() }
    }

    /// Takes one in, if there is room.
    fn enter(&self) -> bool {
        let more = |held: usize| (held < self.limit).then_some(held + 1);
        let entered = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        if entered {
            self.gauge.inc();
        }
        entered
    }

    /// Lets some go.
    pub(super) fn leave(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::AcqRel);
        self.gauge.sub(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

/// OpenTelemetry's own processor, which counts nothing, behind a count of what it holds: it never
/// gets more than it has room for.
#[derive(Debug)]
pub(super) struct QueueProcessor {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
    metrics: TraceMetrics,
}

impl QueueProcessor {
    pub(super) fn new(
        exporter: Exporter,
        settings: &TraceSettings,
        queue: Arc<Queue>,
        metrics: TraceMetrics,
    ) -> Self {
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue_limit)
            .with_max_export_batch_size(settings.batch_limit)
            .with_scheduled_delay(settings.schedule_delay)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, queue, metrics }
    }
}

impl SpanProcessor for QueueProcessor {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.batches.on_end(span);
        } else {
            self.metrics.spans.with_label_values(&[DROPPED]).inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn a_queue_takes_what_fits_and_has_room_again_for_what_has_left() {
        let metrics = TraceMetrics::register(&Registry::new()).unwrap();
        let queue = Queue::new(2, &metrics);
        assert_eq!([queue.enter(), queue.enter(), queue.enter()], [true, true, false]);
        assert_eq!((queue.len(), metrics.queue.get(), metrics.queue_limit.get()), (2, 2, 2));
        queue.leave(2);
        assert!(queue.enter());
        assert_eq!((queue.len(), metrics.queue.get()), (1, 1));
    }
}
