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
    resolve(consumer, &committed, metrics)
}

/// Finds the partitions whose position Kafka no longer has, and where they must go on.
///
/// # Errors
/// When the brokers don't answer; try again.
pub(super) fn out_of_range(
    consumer: &BaseConsumer<LaneContext>,
    metrics: &WriterMetrics,
) -> KafkaResult<TopicPartitionList> {
    // A partition never read from has no position yet: it goes on from what was committed.
    let mut reached = consumer.committed(BROKER_QUESTION_TIMEOUT)?;
    for element in consumer.position()?.elements() {
        if let Offset::Offset(_) = element.offset() {
            reached.set_partition_offset(element.topic(), element.partition(), element.offset())?;
        }
    }
    let resolved = resolve(consumer, &reached, metrics)?;
    let mut moved = TopicPartitionList::new();
    for (before, after) in reached.elements().iter().zip(resolved.elements()) {
        if before.offset() != after.offset() {
            moved.add_partition_offset(after.topic(), after.partition(), after.offset())?;
        }
    }
    Ok(moved)
}

fn resolve(
    consumer: &BaseConsumer<LaneContext>,
    reached: &TopicPartitionList,
    metrics: &WriterMetrics,
) -> KafkaResult<TopicPartitionList> {
    let mut starts = Vec::new();
    for element in reached.elements() {
        // Else an error would pass for "nothing committed", and all be read again.
        element.error()?;
        let (topic, partition) = (element.topic(), element.partition());
        let (oldest, end) = consumer.fetch_watermarks(topic, partition, BROKER_QUESTION_TIMEOUT)?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        starts.push((topic.to_owned(), partition, Start::decide(committed, oldest, end)));
    }
    let mut resolved = TopicPartitionList::new();
    for (topic, partition, start) in starts {
        start.tell(&topic, partition, metrics);
        resolved.add_partition_offset(&topic, partition, Offset::Offset(start.offset()))?;
    }
    Ok(resolved)
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
