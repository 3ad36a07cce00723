//! The span of a batch: from its hand-over until it is settled, with links to the requests that its
//! records come from. Links, not a parent: a batch has many. It holds nothing of the records'
//! content.

use std::collections::BTreeSet;

use common::record::headers::{TRACEPARENT, text};
use common::traces::{self, Beginning, KeyValue, Links, SpanKind, TraceSpan, Traces};
use rdkafka::Message;

use crate::accounts::Settled;
use crate::batch::{Batch, CloseReason};
use crate::record::Record;

/// The span of one batch, or none where none are made.
#[derive(Debug, Default)]
pub struct BatchSpan {
    span: TraceSpan,
    retries: i64,
}

impl BatchSpan {
    /// Begins with the batch's settling. Headers are looked at only where spans are made.
    pub fn begin(traces: &Traces, batch: &Batch, closed_by: CloseReason) -> Self {
        let span = traces.begin(|| {
            let records = batch.records();
            let links = Links::to(records.iter().filter_map(context));
            let topics: BTreeSet<_> = records.iter().map(|it| it.message.topic()).collect();
            let topics: Vec<_> = topics.into_iter().collect();
            let partitions: BTreeSet<_> = records.iter().map(|it| it.partition).collect();
            Beginning {
                name: "write batch".into(),
                kind: SpanKind::Consumer,
                parent: None,
                links: links.contexts,
                attributes: vec![
                    KeyValue::new("messaging.system", "kafka"),
                    KeyValue::new("messaging.operation.name", "write"),
                    KeyValue::new("messaging.operation.type", "process"),
                    KeyValue::new("messaging.destination.name", topics.join(",")),
                    KeyValue::new("messaging.batch.message_count", count(records.len())),
                    KeyValue::new("db.system.name", "postgresql"),
                    KeyValue::new("tapedeck.closed_by", closed_by.label()),
                    KeyValue::new("tapedeck.events", count(batch.events())),
                    KeyValue::new("tapedeck.bytes", count(batch.bytes())),
                    KeyValue::new("tapedeck.partitions", count(partitions.len())),
                    KeyValue::new("tapedeck.links.dropped", count(links.dropped)),
                ],
            }
        });
        Self { span, retries: 0 }
    }

    /// What stands on each log line about the batch.
    pub fn log_span(&self) -> tracing::Span {
        self.span.log_span()
    }

    /// A transaction failed and is tried again.
    pub const fn retried(&mut self) {
        self.retries += 1;
    }

    /// All of it found its end.
    pub fn settled(mut self, settled: &Settled) {
        self.span.set("tapedeck.events.written", signed(settled.written));
        self.span.set("tapedeck.events.duplicate", signed(settled.duplicate));
        self.span.set("tapedeck.events.dead_lettered", signed(settled.dead_lettered));
        self.end("settled");
    }

    /// Nothing of it counts: it is read again, here or elsewhere.
    pub fn not_settled(mut self, outcome: &'static str) {
        self.span.fail(outcome);
        self.end(outcome);
    }

    fn end(&mut self, outcome: &'static str) {
        self.span.set("tapedeck.retries", self.retries);
        self.span.set("tapedeck.outcome", outcome);
    }
}

/// The context that a record carries.
fn context(record: &Record) -> Option<traces::SpanContext> {
    traces::parse(text(record.message.headers(), TRACEPARENT)?)
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
