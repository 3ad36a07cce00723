//! Where a partition begins, decided by us and never by Kafka's client, which would skip or
//! repeat without telling.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::kafka::BROKER_QUESTION_TIMEOUT;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::LaneParts;
use super::context::LaneContext;
use crate::metrics::WriterMetrics;

/// How long a partition's leader may take to answer: others wait for their turn.
const LEADER_QUESTION_TIMEOUT: Duration = Duration::from_secs(3);

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

/// What came of asking where partitions begin.
pub(super) struct Answers {
    /// Partitions with the offset to begin at.
    pub starts: TopicPartitionList,
    /// Those whose leader did not answer.
    pub silent: TopicPartitionList,
}

/// Asks where partitions begin, in their order, for as long as one round may take: one broker's
/// absence stops neither the lane nor the others' partitions.
///
/// # Errors
/// When the group's coordinator doesn't answer; try again.
pub(super) fn starts(
    consumer: &BaseConsumer<LaneContext>,
    partitions: &TopicPartitionList,
    parts: &LaneParts,
) -> KafkaResult<Answers> {
    let mut answers =
        Answers { starts: TopicPartitionList::new(), silent: TopicPartitionList::new() };
    // A member may be given nothing; Kafka is not asked about nothing.
    if partitions.count() == 0 {
        return Ok(answers);
    }
    let committed = consumer.committed_offsets(partitions.clone(), BROKER_QUESTION_TIMEOUT)?;
    let until = Instant::now() + BROKER_QUESTION_TIMEOUT;
    for element in committed.elements().iter().take_while(|_| Instant::now() < until) {
        parts.health.tick();
        let (topic, partition) = (element.topic(), element.partition());
        // Else an error would pass for "nothing committed", and all be read again.
        let watermarks = element
            .error()
            .and_then(|()| consumer.fetch_watermarks(topic, partition, LEADER_QUESTION_TIMEOUT));
        let (oldest, end) = match watermarks {
            Ok(watermarks) => watermarks,
            Err(error) => {
                tracing::warn!(%error, topic, partition, "cannot find where it begins for now");
                answers.silent.add_partition(topic, partition);
                continue;
            }
        };
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let start = Start::decide(committed, oldest, end);
        start.tell(topic, partition, &parts.metrics);
        answers.starts.add_partition_offset(topic, partition, Offset::Offset(start.offset()))?;
    }
    learn_leaders(consumer, &answers.silent);
    Ok(answers)
}

/// Has the client ask who leads partitions, for the next attempt. By itself it takes what it heard
/// last (that there is no leader, or one whose broker is gone) for final, until it refreshes all
/// it knows: minutes later.
fn learn_leaders(consumer: &BaseConsumer<LaneContext>, partitions: &TopicPartitionList) {
    let topics: BTreeSet<String> =
        partitions.elements().iter().map(|it| it.topic().to_owned()).collect();
    for topic in topics {
        if let Err(error) = consumer.fetch_metadata(Some(&topic), LEADER_QUESTION_TIMEOUT) {
            tracing::warn!(%error, topic, "cannot ask for leaders for now");
        }
    }
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
