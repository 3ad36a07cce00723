//! Settling a batch: every row that can be written is, the rest goes to the dead letters, and
//! what is nobody's fault is retried for as long as it takes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use common::repeats::Repeats;
use common::time::Timestamp;
use common::traces::Traces;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::accounts::Settled;
use crate::batch::{Batch, CloseReason};
use crate::batch_span::BatchSpan;
use crate::dead_letters::{DeadLetters, Reason};
use crate::failure::{Failure, Poison, judge};
use crate::health::{LaneHealth, Work};
use crate::metrics::WriterMetrics;
use crate::poison_gauge::PoisonGauge;
use crate::record::{Content, Record};
use crate::selection::{Narrowed, Part, Selection, ranges_text};
use crate::store::{Store, WriteError, Written};

/// Pauses between attempts: from the first to the longest, with jitter so that lanes that failed
/// together do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A batch on its way to Postgres.
pub struct Handover {
    /// The records.
    pub batch: Batch,
    /// What closed the batch.
    pub closed_by: CloseReason,
    /// Cancelled when the batch must be given up.
    pub give_up: CancellationToken,
}

/// What became of a batch.
pub enum Outcome {
    /// Every event found its end: the offsets may be committed.
    Settled {
        /// The batch.
        batch: Batch,
        /// What became of its events.
        settled: Settled,
    },
    /// It was given up; nothing may be committed.
    GivenUp(Batch),
    /// Too much of it was poison; nothing may be committed, and the lane stops.
    Halted(Batch),
}

/// A lane's way of settling batches, one at a time.
pub struct Settler {
    /// The way to Postgres.
    pub store: Store,
    /// The way to the dead letters.
    pub dead_letters: DeadLetters,
    /// How much poison there was.
    pub poison_gauge: PoisonGauge,
    /// Told whether Postgres answers.
    pub health: LaneHealth,
    /// What went to the dead letters.
    pub buried: Repeats,
    /// Where spans go.
    pub traces: Traces,
    /// That of the batch being settled.
    pub span: BatchSpan,
    /// The metrics.
    pub metrics: WriterMetrics,
}

/// The refused parts of a record.
struct Refusal {
    poison: Poison,
    events: Vec<Range<usize>>,
}

/// What writing a batch came to.
#[derive(Default)]
struct Progress {
    written: Written,
    refused: BTreeMap<usize, Refusal>,
}

impl Settler {
    /// Settles a batch, or gives it up when told to.
    pub async fn settle(&mut self, handover: Handover) -> Outcome {
        let Handover { batch, closed_by, give_up } = handover;
        let begun = Instant::now();
        self.span = BatchSpan::begin(&self.traces, &batch, closed_by);
        let log_span = self.span.log_span();
        let work = async {
            let progress = self.write_all(&batch).await;
            self.bury(&batch, progress).await
        };
        let work = work.instrument(log_span);
        let settled = tokio::select! {
            biased;
            () = give_up.cancelled() => {
                // Dropping the session is what rolls back; a dropped future alone would not.
                self.store.disconnect();
                std::mem::take(&mut self.span).not_settled("given_up");
                self.health.forget(Work::Writing);
                self.health.forget(Work::Burying);
                return Outcome::GivenUp(batch);
            }
            settled = work => settled,
        };
        self.metrics.settle_seconds.observe(begun.elapsed().as_secs_f64());
        let span = std::mem::take(&mut self.span);
        let Some(settled) = settled else {
            span.not_settled("halted");
            return Outcome::Halted(batch);
        };
        span.settled(&settled);
        self.metrics.batches.with_label_values(&[closed_by.label()]).inc();
        observe(&batch, &self.metrics);
        Outcome::Settled { batch, settled }
    }

    /// Writes every row that can be written.
    async fn write_all(&mut self, batch: &Batch) -> Progress {
        let mut progress = Progress::default();
        let mut open = Selection::all(batch.records());
        while let Some(selection) = open.pop() {
            let Err(poison) = self.write(batch, &selection, &mut progress).await else {
                continue;
            };
            match selection.narrow() {
                Narrowed::Halves(halves) => open.extend(halves),
                Narrowed::Refused(part) => progress.refuse(part, poison),
                Narrowed::Nothing => {}
                Narrowed::Head(part) => {
                    let head = Selection::one(part.head());
                    match self.write(batch, &head, &mut progress).await {
                        Ok(()) => open.push(Selection::one(part.below_head())),
                        Err(poison) => progress.refuse(part, poison),
                    }
                }
            }
        }
        progress
    }

    /// Writes a selection in one transaction, however often it takes; only poison comes back.
    async fn write(
        &mut self,
        batch: &Batch,
        selection: &Selection,
        progress: &mut Progress,
    ) -> Result<(), Poison> {
        let mut pauses = pauses();
        loop {
            let begun = Instant::now();
            let result = self.store.write(batch.records(), selection).await;
            let outcome = if result.is_ok() { "committed" } else { "failed" };
            let seconds = begun.elapsed().as_secs_f64();
            self.metrics.transaction_seconds.with_label_values(&[outcome]).observe(seconds);
            let error = match result {
                Ok(written) => {
                    self.health.succeeded(Work::Writing);
                    progress.add(written);
                    return Ok(());
                }
                Err(error) => error,
            };
            let failure = match &error {
                WriteError::Database { code, .. } => judge(*code),
                WriteError::Repeated => Failure::Repeated,
                WriteError::ParentGone => Failure::ParentGone,
                WriteError::Connect(_) | WriteError::TooSlow { .. } => Failure::Session,
            };
            match failure {
                Failure::Poison(poison) => return Err(poison),
                Failure::ParentGone => self.store.forget(),
                Failure::Session => {
                    // The next session may lead to a server that lost what this one had.
                    self.store.disconnect();
                    self.store.forget();
                }
                Failure::Repeated | Failure::Crossed | Failure::Waited => {}
            }
            self.metrics.retries.with_label_values(&[failure.label()]).inc();
            self.span.retried();
            if failure == Failure::Repeated {
                // Nothing is wrong with the database.
                continue;
            }
            self.health.failed(Work::Writing, &error);
            pause(&mut pauses).await;
        }
    }

    /// Sends what was refused or cannot be read to the dead letters; `None` when that would be
    /// most of the stream.
    async fn bury(&mut self, batch: &Batch, progress: Progress) -> Option<Settled> {
        let Progress { written, refused } = progress;
        let reasons: Vec<Option<Reason>> = batch
            .records()
            .iter()
            .enumerate()
            .map(|(place, record)| reason(record, refused.get(&place)))
            .collect();
        // Taken over only at the end: a batch given up meanwhile comes again.
        let mut poison_gauge = self.poison_gauge.clone();
        for reason in &reasons {
            poison_gauge.record(reason.is_some());
            if poison_gauge.too_much() {
                return None;
            }
        }
        for (record, reason) in batch.records().iter().zip(&reasons) {
            if let Some(reason) = reason {
                self.bury_one(record, reason).await;
            }
        }
        self.poison_gauge = poison_gauge;
        let refused_events = |refusal: &Refusal| -> usize {
            refusal.events.iter().map(ExactSizeIterator::len).sum()
        };
        let dead_lettered: usize = refused.values().map(refused_events).sum();
        Some(Settled {
            written: written.events,
            duplicate: written.duplicates,
            dead_lettered: dead_lettered as u64,
        })
    }

    async fn bury_one(&mut self, record: &Record, reason: &Reason) {
        let mut pauses = pauses();
        while let Err(error) = self.dead_letters.send(&record.message, reason).await {
            self.health.failed(Work::Burying, &error);
            pause(&mut pauses).await;
        }
        self.health.succeeded(Work::Burying);
        self.metrics.records_dead_lettered.with_label_values(&[reason.class]).inc();
        // By class: the dead letters themselves say which they are.
        let Some(left_out) = self.buried.failed(&reason.class) else { return };
        tracing::warn!(
            class = reason.class,
            reason = %reason.message,
            left_out,
            topic = rdkafka::Message::topic(&record.message),
            partition = record.partition.number,
            offset = rdkafka::Message::offset(&record.message),
            events = reason.events.as_deref().unwrap_or("unreadable"),
            "record sent to the dead letters"
        );
    }
}

impl Progress {
    fn add(&mut self, written: Written) {
        self.written.events += written.events;
        self.written.duplicates += written.duplicates;
    }

    fn refuse(&mut self, part: Part, poison: Poison) {
        let refusal = self
            .refused
            .entry(part.record)
            .or_insert_with(|| Refusal { poison, events: Vec::new() });
        refusal.events.push(part.events);
    }
}

/// Why a record goes to the dead letters, if it does.
fn reason(record: &Record, refusal: Option<&Refusal>) -> Option<Reason> {
    if let Content::Unreadable(unreadable) = &record.content {
        let message = unreadable.to_string();
        return Some(Reason { class: unreadable.class(), message, events: None });
    }
    refusal.map(|refusal| Reason {
        class: refusal.poison.class(),
        message: refusal.poison.message().to_owned(),
        events: Some(ranges_text(refusal.events.clone())),
    })
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

async fn pause(pauses: &mut impl Iterator<Item = Duration>) {
    tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
}

/// Sizes and freshness of a settled batch.
fn observe(batch: &Batch, metrics: &WriterMetrics) {
    let now = Timestamp::now();
    metrics.last_settled.set(now.as_seconds());
    #[expect(clippy::cast_precision_loss, reason = "a batch holds far fewer than 2^53 events")]
    metrics.batch_events.observe(batch.events() as f64);
    let freshness = metrics.freshness.local();
    for record in batch.records() {
        if let Content::Events(content) = &record.content {
            let seconds = now.seconds_since(content.received_at).max(0.0);
            for _ in 0..content.events.len() {
                freshness.observe(seconds);
            }
        }
    }
    freshness.flush();
}
