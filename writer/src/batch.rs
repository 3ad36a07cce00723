//! What a lane gathers before it writes: a batch closes on rows, bytes or age.

use std::time::{Duration, Instant};

use crate::record::{Partition, Record};

/// When a batch is large or old enough.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Rows: events, and one for each record besides.
    pub rows: usize,
    /// Bytes of memory.
    pub bytes: usize,
    /// Time since its first record.
    pub age: Duration,
}

/// Why a batch was closed; the label in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It holds as many rows as allowed.
    Rows,
    /// It holds as many bytes as allowed.
    Bytes,
    /// Its first record has waited long enough.
    Age,
    /// A partition goes, or the service stops.
    Drain,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Rows, Self::Bytes, Self::Age, Self::Drain];

    /// The label in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Drain => "drain",
        }
    }
}

/// Records gathered, in the order in which Kafka gave them.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Record>,
    rows: usize,
    bytes: usize,
    opened_at: Option<Instant>,
}

impl Batch {
    /// Adds a record.
    pub fn push(&mut self, record: Record, now: Instant) {
        self.opened_at.get_or_insert(now);
        self.rows += rows(&record);
        self.bytes += record.bytes();
        self.records.push(record);
    }

    /// Why the batch should be written now, if it should.
    pub fn due(&self, limits: &BatchLimits, now: Instant) -> Option<CloseReason> {
        self.full(limits).or_else(|| {
            let opened_at = self.opened_at?;
            (now.duration_since(opened_at) >= limits.age).then_some(CloseReason::Age)
        })
    }

    /// Why the batch may take no more, if it may not.
    pub fn full(&self, limits: &BatchLimits) -> Option<CloseReason> {
        if self.rows >= limits.rows {
            Some(CloseReason::Rows)
        } else if self.bytes >= limits.bytes {
            Some(CloseReason::Bytes)
        } else {
            None
        }
    }

    /// How long until age makes it due.
    pub fn due_in(&self, limits: &BatchLimits, now: Instant) -> Option<Duration> {
        self.opened_at.map(|opened_at| limits.age.saturating_sub(now.duration_since(opened_at)))
    }

    /// Drops the records that `keep` refuses and returns how many events they held.
    pub fn retain(&mut self, keep: impl Fn(Partition) -> bool) -> usize {
        let before = self.events();
        self.records.retain(|record| keep(record.partition));
        self.rows = self.records.iter().map(rows).sum();
        self.bytes = self.records.iter().map(Record::bytes).sum();
        if self.records.is_empty() {
            self.opened_at = None;
        }
        before - self.events()
    }

    /// Puts the records of a batch that was not written before these.
    pub fn prepend(&mut self, mut earlier: Batch) {
        earlier.rows += self.rows;
        earlier.bytes += self.bytes;
        earlier.opened_at = earlier.opened_at.or(self.opened_at);
        earlier.records.append(&mut self.records);
        *self = earlier;
    }

    /// The records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many events they hold.
    pub fn events(&self) -> usize {
        self.records.iter().map(Record::events).sum()
    }

    /// What they take of the memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn rows(record: &Record) -> usize {
    record.events() + 1
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;
    use crate::record::Topic;

    const LIMITS: BatchLimits =
        BatchLimits { rows: 3, bytes: 10_000, age: Duration::from_millis(100) };

    fn record(partition: i32, length: usize) -> Record {
        let value = Some(vec![b'x'; length]);
        let message =
            OwnedMessage::new(value, None, "t".into(), Timestamp::NotAvailable, partition, 0, None);
        Record::read(Topic::Events, message, 0).unwrap()
    }

    fn check(lengths: &[usize], waited_ms: u64, expected: Option<CloseReason>) {
        let opened = Instant::now();
        let mut batch = Batch::default();
        for length in lengths {
            batch.push(record(0, *length), opened);
        }
        let now = opened + Duration::from_millis(waited_ms);
        assert_eq!(batch.due(&LIMITS, now), expected);
    }

    #[test]
    fn a_batch_closes_on_rows_bytes_or_age() {
        check(&[], 1_000, None);
        check(&[1, 1], 99, None);
        check(&[1, 1], 100, Some(CloseReason::Age));
        check(&[1, 1, 1], 0, Some(CloseReason::Rows));
        check(&[20_000], 0, Some(CloseReason::Bytes));
    }

    #[test]
    fn records_of_a_lost_partition_go_and_the_rest_stays_in_order() {
        let now = Instant::now();
        let mut earlier = Batch::default();
        earlier.push(record(1, 10), now);
        earlier.push(record(2, 20), now);
        let mut batch = Batch::default();
        batch.push(record(1, 30), now);
        batch.prepend(earlier);
        batch.retain(|partition| partition.number == 1);
        let lengths: Vec<_> = batch.records().iter().map(|r| r.value().len()).collect();
        assert_eq!(lengths, [10, 30]);
        assert_eq!(batch.bytes(), batch.records().iter().map(Record::bytes).sum::<usize>());
    }
}
