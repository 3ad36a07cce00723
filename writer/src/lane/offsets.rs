//! Where a partition begins, decided by us and never by Kafka's client, which would skip or
//! repeat without telling.

use common::kafka::BROKER_QUESTION_TIMEOUT;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::LaneContext;
use crate::metrics::WriterMetrics;

/// Where to begin, and what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing was committed: from the oldest record.
    Beginning(i64),
    /// At the committed offset.
    Committed(i64),
    /// The committed offset was deleted from Kafka: from the oldest record kept.
    BelowOldest {
        /// The oldest record kept.
        at: i64,
        /// How many records were deleted unread.
        lost: i64,
    },
    /// The committed offset lies beyond the end: the topic was made anew, or Kafka lost records.
    /// From the oldest record; what is known already is a duplicate.
    AboveNewest {
        /// The oldest record kept.
        at: i64,
    },
}

impl Start {
    /// Decides from the committed offset, the oldest kept and the end (the next to be written).
    pub(super) const fn decide(committed: Option<i64>, oldest: i64, end: i64) -> Self {
        match committed {
            None => Self::Beginning(oldest),
            Some(offset) if offset < oldest => {
                Self::BelowOldest { at: oldest, lost: oldest - offset }
            }
            Some(offset) if offset > end => Self::AboveNewest { at: oldest },
            Some(offset) => Self::Committed(offset),
        }
    }

    pub(super) const fn offset(self) -> i64 {
        match self {
            Self::Beginning(at)
            | Self::Committed(at)
            | Self::BelowOldest { at, .. }
            | Self::AboveNewest { at } => at,
        }
    }

    /// Counts and logs what is out of the ordinary.
    fn tell(self, topic: &str, partition: i32, metrics: &WriterMetrics) {
        match self {
            Self::Beginning(_) | Self::Committed(_) => {}
            Self::BelowOldest { at, lost } => {
                metrics.records_lost.inc_by(lost.cast_unsigned());
                metrics.offsets_out_of_range.with_label_values(&["below_oldest"]).inc();
                tracing::error!(topic, partition, at, lost, "records were deleted unread");
            }
            Self::AboveNewest { at } => {
                metrics.offsets_out_of_range.with_label_values(&["above_newest"]).inc();
                tracing::error!(
                    topic,
                    partition,
                    at,
                    "offset beyond the end: reading from the oldest"
                );
            }
        }
    }
}

/// A partition and where it begins.
struct Resolved {
    topic: String,
    partition: i32,
    start: Start,
}

/// Gives each partition the offset to begin at.
///
/// # Errors
/// When the brokers don't answer; try again.
pub(super) fn starts(
    consumer: &BaseConsumer<LaneContext>,
    partitions: &TopicPartitionList,
    metrics: &WriterMetrics,
) -> KafkaResult<TopicPartitionList> {
    // A member may be given nothing; Kafka is not asked about nothing.
    if partitions.count() == 0 {
        return Ok(TopicPartitionList::new());
    }
    let committed = consumer.committed_offsets(partitions.clone(), BROKER_QUESTION_TIMEOUT)?;
    let resolved = resolve(consumer, &committed)?;
    tell(&resolved, metrics);
    as_list(&resolved)
}

/// Moves each partition to where it goes on: to its own place, or, where Kafka no longer has
/// that, to the oldest record.
///
/// # Errors
/// When the brokers don't answer; try again.
pub(super) fn reposition(
    consumer: &BaseConsumer<LaneContext>,
    metrics: &WriterMetrics,
) -> KafkaResult<()> {
    // A partition never read from has no position yet: it goes on from what was committed.
    let mut reached = consumer.committed(BROKER_QUESTION_TIMEOUT)?;
    for element in consumer.position()?.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        if let Offset::Offset(_) = element.offset() {
            reached.set_partition_offset(topic, partition, element.offset())?;
        }
    }
    if reached.count() == 0 {
        return Ok(());
    }
    let resolved = resolve(consumer, &reached)?;
    let moved = consumer.seek_partitions(as_list(&resolved)?, BROKER_QUESTION_TIMEOUT)?;
    moved.elements().iter().try_for_each(|element| element.error())?;
    tell(&resolved, metrics);
    Ok(())
}

fn resolve(
    consumer: &BaseConsumer<LaneContext>,
    reached: &TopicPartitionList,
) -> KafkaResult<Vec<Resolved>> {
    let mut resolved = Vec::with_capacity(reached.count());
    for element in reached.elements() {
        // Else an error would pass for "nothing committed", and all be read again.
        element.error()?;
        let (topic, partition) = (element.topic().to_owned(), element.partition());
        let (oldest, end) =
            consumer.fetch_watermarks(&topic, partition, BROKER_QUESTION_TIMEOUT)?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let start = Start::decide(committed, oldest, end);
        resolved.push(Resolved { topic, partition, start });
    }
    Ok(resolved)
}

/// Only once all is resolved: what is tried again must not be counted twice.
fn tell(resolved: &[Resolved], metrics: &WriterMetrics) {
    for it in resolved {
        it.start.tell(&it.topic, it.partition, metrics);
    }
}

fn as_list(resolved: &[Resolved]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for it in resolved {
        list.add_partition_offset(&it.topic, it.partition, Offset::Offset(it.start.offset()))?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_begin_where_nothing_is_skipped_silently() {
        fn check(committed: Option<i64>, oldest: i64, end: i64, expected: Start) {
            assert_eq!(Start::decide(committed, oldest, end), expected);
        }
        check(None, 0, 0, Start::Beginning(0));
        check(None, 40, 90, Start::Beginning(40));
        check(Some(50), 40, 90, Start::Committed(50));
        check(Some(90), 40, 90, Start::Committed(90));
        check(Some(40), 40, 90, Start::Committed(40));
        check(Some(10), 40, 90, Start::BelowOldest { at: 40, lost: 30 });
        check(Some(91), 40, 90, Start::AboveNewest { at: 40 });
        check(Some(7), 0, 0, Start::AboveNewest { at: 0 });
    }
}
