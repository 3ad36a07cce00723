//! What a run came to: rates, latencies, bytes, retries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};

use super::body::Body;
use super::retry::Answer;
use crate::ledger::Outcome;
use crate::recordings::envelope::{Capture, Envelope};

/// Latencies are kept in microseconds, with three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The longest latency that is kept as it is: an hour. Longer ones count as that.
const LONGEST_MICROS: u64 = 3_600_000_000;

/// Counts while recorders are at work.
pub(super) struct Tally(Mutex<Report>);

/// One request and its answer.
pub(super) struct Attempt<'a> {
    pub(super) body: &'a Body,
    pub(super) answer: &'a Answer,
    pub(super) took: Duration,
}

/// Counts of batches, with the events in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Batches.
    pub batches: u64,
    /// Their events.
    pub events: u64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took.
    pub elapsed: Duration,
    /// What is in Kafka.
    pub acknowledged: Batches,
    /// What the gateway refused for good.
    pub refused: Batches,
    /// What may have arrived or not.
    pub unknown: Batches,
    /// Statuses of what was refused.
    pub refusals: BTreeMap<u16, u64>,
    /// Requests with batches, resent ones too.
    pub requests: u64,
    /// Their answers: statuses, or why there was none.
    pub answers: BTreeMap<String, u64>,
    /// The longest request, answered or not.
    pub longest_request: Duration,
    /// Why requests were sent again.
    pub retries: BTreeMap<String, u64>,
    /// Acknowledged batches that were sent once more.
    pub duplicated: u64,
    /// Statuses with which those were refused: never, if the recorder API is kept.
    pub refused_again: BTreeMap<u16, u64>,
    /// Batches that were given up after an answer that left them unknown.
    pub abandoned: u64,
    /// Bytes of bodies as they went over the wire, resent ones too.
    pub wire_bytes: u64,
    /// Bytes of the same bodies decompressed.
    pub plain_bytes: u64,
    /// Page states seen.
    pub pages: u64,
    /// Bytes of their content.
    pub page_bytes: u64,
    /// Page states that had to be sent.
    pub pages_uploaded: u64,
    /// Bytes of their content.
    pub page_bytes_uploaded: u64,
    /// From a request's first byte to its answer, in microseconds; every request that was answered.
    pub request_micros: Histogram<u64>,
    /// From a batch's first request to its acknowledgement, in microseconds.
    pub acknowledgement_micros: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Report {
            elapsed: Duration::ZERO,
            acknowledged: Batches::default(),
            refused: Batches::default(),
            unknown: Batches::default(),
            refusals: BTreeMap::new(),
            requests: 0,
            answers: BTreeMap::new(),
            longest_request: Duration::ZERO,
            duplicated: 0,
            refused_again: BTreeMap::new(),
            abandoned: 0,
            retries: BTreeMap::new(),
            wire_bytes: 0,
            plain_bytes: 0,
            pages: 0,
            page_bytes: 0,
            pages_uploaded: 0,
            page_bytes_uploaded: 0,
            request_micros: histogram(),
            acknowledgement_micros: histogram(),
        }))
    }

    fn report_so_far(&self) -> MutexGuard<'_, Report> {
        // Counting does not panic, so a poisoned lock cannot hold half a count.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Page states as they were seen and as they are sent.
    pub(super) fn pages(&self, seen: &[Capture], sent: &[Capture]) {
        let mut report = self.report_so_far();
        for page in seen {
            report.pages += 1;
            report.page_bytes += page.content_bytes() as u64;
        }
        for page in sent.iter().filter(|page| page.html_content.is_some()) {
            report.pages_uploaded += 1;
            report.page_bytes_uploaded += page.content_bytes() as u64;
        }
    }

    pub(super) fn attempt(&self, attempt: &Attempt<'_>) {
        let mut report = self.report_so_far();
        report.requests += 1;
        report.wire_bytes += attempt.body.bytes.len() as u64;
        report.plain_bytes += attempt.body.plain_bytes as u64;
        if !matches!(attempt.answer, Answer::Unclear(_)) {
            report.request_micros.saturating_record(micros(attempt.took));
        }
        report.longest_request = report.longest_request.max(attempt.took);
        let name = attempt.answer.name();
        if !matches!(attempt.answer, Answer::Acknowledged | Answer::Refused(_)) {
            *report.retries.entry(name.clone()).or_default() += 1;
        }
        *report.answers.entry(name).or_default() += 1;
    }

    pub(super) fn sent_again(&self, answer: &Answer) {
        let mut report = self.report_so_far();
        report.duplicated += 1;
        if let Answer::Refused(status) = answer {
            *report.refused_again.entry(*status).or_default() += 1;
        }
    }

    pub(super) fn abandoned(&self) {
        self.report_so_far().abandoned += 1;
    }

    pub(super) fn acknowledged_after(&self, took: Duration) {
        self.report_so_far().acknowledgement_micros.saturating_record(micros(took));
    }

    pub(super) fn settled(&self, envelope: &Envelope, outcome: Outcome, status: Option<u16>) {
        let mut report = self.report_so_far();
        let batches = match outcome {
            Outcome::Acknowledged => &mut report.acknowledged,
            Outcome::Refused => &mut report.refused,
            Outcome::Unknown => &mut report.unknown,
        };
        batches.batches += 1;
        batches.events += envelope.events.len() as u64;
        if let (Outcome::Refused, Some(status)) = (outcome, status) {
            *report.refusals.entry(status).or_default() += 1;
        }
    }

    /// The whole, after `elapsed`.
    pub(super) fn report(&self, elapsed: Duration) -> Report {
        Report { elapsed, ..self.report_so_far().clone() }
    }
}

fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "fails for constants out of range only")]
    Histogram::new_with_max(LONGEST_MICROS, SIGNIFICANT_DIGITS).expect("the range is valid")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Report {
    /// Whether everything that was sent is in Kafka.
    pub fn is_complete(&self) -> bool {
        self.refused == Batches::default() && self.unknown == Batches::default()
    }

    /// Acknowledged events a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn events_per_second(&self) -> f64 {
        self.acknowledged.events as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// The value below which a share of the latencies lie.
pub fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Duration {
    Duration::from_micros(histogram.value_at_quantile(quantile))
}

impl fmt::Display for Report {
    /// A table for people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let batches = |counted: &Batches| {
            format!("{} in {} batches", HumanCount(counted.events), HumanCount(counted.batches))
        };
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("events acknowledged", batches(&self.acknowledged));
        if !self.is_complete() {
            row("events refused", format!("{} {}", batches(&self.refused), named(&self.refusals)));
            row("events unknown", batches(&self.unknown));
        }
        row("elapsed", format!("{:.1} s", self.elapsed.as_secs_f64()));
        row("rate", format!("{:.0} events/s", self.events_per_second()));
        row("request latency", latencies(&self.request_micros));
        row("until acknowledged", latencies(&self.acknowledgement_micros));
        row("on the wire", {
            format!("{} for {} of JSON", HumanBytes(self.wire_bytes), HumanBytes(self.plain_bytes))
        });
        row("pages", {
            let [seen, sent] = [self.page_bytes, self.page_bytes_uploaded].map(HumanBytes);
            format!("{} seen ({seen}), {} sent ({sent})", self.pages, self.pages_uploaded)
        });
        row("requests", format!("{} {}", HumanCount(self.requests), named(&self.answers)));
        row("longest request", format!("{:.1} s", self.longest_request.as_secs_f64()));
        if self.duplicated + self.abandoned > 0 {
            let again = HumanCount(self.duplicated);
            row("batches sent once more", format!("{again} {}", named(&self.refused_again)));
            row("batches abandoned", HumanCount(self.abandoned).to_string());
        }
        row("retries", {
            let count = HumanCount(self.retries.values().sum());
            format!("{count} {}", named(&self.retries))
        });
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Left);
        }
        write!(formatter, "{table}")
    }
}

fn latencies(histogram: &Histogram<u64>) -> String {
    let show = |share: f64| format!("{:.1}", quantile(histogram, share).as_secs_f64() * 1_000.0);
    format!("p50 {} · p90 {} · p99 {} · max {} ms", show(0.5), show(0.9), show(0.99), show(1.0))
}

/// `(503: 2, connect: 1)`.
fn named<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let named: Vec<_> = counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    format!("({})", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_to_three_digits_and_up_to_an_hour() {
        let mut kept = histogram();
        for millis in [1, 20, 300, 4_000, 7_200_000] {
            kept.saturating_record(micros(Duration::from_millis(millis)));
        }
        fn check(kept: &Histogram<u64>, share: f64, expected_millis: f64) {
            let found = quantile(kept, share).as_secs_f64() * 1_000.0;
            let ratio = found / expected_millis;
            assert!((0.999..1.001).contains(&ratio), "{share}: {found} ms");
        }
        check(&kept, 0.0, 1.0);
        check(&kept, 0.5, 300.0);
        check(&kept, 1.0, 3_600_000.0);
    }
}
