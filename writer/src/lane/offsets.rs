//! Where a partition begins, decided by us and never by Kafka's client, which would skip or
//! repeat without telling.

use std::collections::BTreeMap;
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

/// How long a broker that did not answer is left alone.
const SILENT_BROKER_PAUSE: Duration = Duration::from_secs(10);

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

/// Brokers that left a question unanswered: asking them again and again would hold up the lane, and
/// with it the other brokers' partitions.
#[derive(Debug, Default)]
pub(super) struct SilentBrokers(BTreeMap<i32, Instant>);

impl SilentBrokers {
    /// Whether a broker is to be asked, and last of all when it left the last question unanswered.
    fn turn(&self, broker: i32, now: Instant) -> Option<Turn> {
        match self.0.get(&broker) {
            None => Some(Turn::First),
            Some(until) if now >= *until => Some(Turn::Last),
            Some(_) => None,
        }
    }

    fn note_silence(&mut self, broker: i32, now: Instant) {
        self.0.insert(broker, now + SILENT_BROKER_PAUSE);
    }

    fn note_answer(&mut self, broker: i32) {
        self.0.remove(&broker);
    }
}

/// When in a round a broker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    First,
    Last,
}

/// Asks where partitions of a topic begin, for as long as one round may take: one broker's absence
/// stops neither the lane nor the others' partitions. Gives those whose leader answered, with the
/// offset to begin at; the rest is to be asked for again.
///
/// # Errors
/// When the group's coordinator, or whoever is asked for the leaders, does not answer; try again.
pub(super) fn starts(
    consumer: &BaseConsumer<LaneContext>,
    topic: &str,
    partitions: &TopicPartitionList,
    silent: &mut SilentBrokers,
    parts: &LaneParts,
) -> KafkaResult<TopicPartitionList> {
    let mut starts = TopicPartitionList::new();
    // A member may be given nothing; Kafka is not asked about nothing.
    if partitions.count() == 0 {
        return Ok(starts);
    }
    let leaders = leaders(consumer, topic)?;
    let committed = consumer.committed_offsets(partitions.clone(), BROKER_QUESTION_TIMEOUT)?;
    let now = Instant::now();
    let mut askable = Vec::new();
    for element in committed.elements() {
        let partition = element.partition();
        let Some(leader) = leaders.get(&partition) else {
            if let Some(left_out) = parts.health.positions().failed(&"no leader") {
                tracing::warn!(
                    topic,
                    partition,
                    left_out,
                    "cannot find where it begins for now: no leader"
                );
            }
            continue;
        };
        askable.push((*leader, element));
    }
    askable.sort_by_key(|(leader, _)| silent.turn(*leader, now));
    let until = now + BROKER_QUESTION_TIMEOUT;
    for (leader, element) in askable {
        let now = Instant::now();
        if now >= until {
            break;
        }
        // Also when it has fallen silent in this round.
        if silent.turn(leader, now).is_none() {
            continue;
        }
        parts.health.tick();
        let partition = element.partition();
        // Else an error would pass for "nothing committed", and all be read again.
        let watermarks = element
            .error()
            .and_then(|()| consumer.fetch_watermarks(topic, partition, LEADER_QUESTION_TIMEOUT));
        let (oldest, end) = match watermarks {
            Ok(watermarks) => watermarks,
            Err(error) => {
                if let Some(left_out) = parts.health.positions().failed(&error) {
                    tracing::warn!(
                        %error,
                        topic,
                        partition,
                        leader,
                        left_out,
                        "cannot find where it begins for now"
                    );
                }
                if now.elapsed() >= LEADER_QUESTION_TIMEOUT {
                    silent.note_silence(leader, Instant::now());
                }
                continue;
            }
        };
        silent.note_answer(leader);
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let start = Start::decide(committed, oldest, end);
        start.tell(topic, partition, &parts.metrics);
        starts.add_partition_offset(topic, partition, Offset::Offset(start.offset()))?;
    }
    Ok(starts)
}

/// Who leads the partitions of a topic, of those that have a leader. The client learns it along: by itself it
/// takes what it heard last (that there is no leader, or one whose broker is gone) for final, until
/// it refreshes all it knows: minutes later.
fn leaders(consumer: &BaseConsumer<LaneContext>, topic: &str) -> KafkaResult<BTreeMap<i32, i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), LEADER_QUESTION_TIMEOUT)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    // Minus one says that there is none.
    let led = partitions.filter(|partition| partition.leader() >= 0);
    Ok(led.map(|partition| (partition.id(), partition.leader())).collect())
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

    #[test]
    fn a_silent_broker_is_left_alone_for_a_while_and_then_asked_last_until_it_answers() {
        let begun = Instant::now();
        let mut silent = SilentBrokers::default();
        assert_eq!(silent.turn(1, begun), Some(Turn::First));
        silent.note_silence(1, begun);
        let paused = begun + SILENT_BROKER_PAUSE / 2;
        assert_eq!(silent.turn(1, paused), None);
        assert_eq!(silent.turn(2, paused), Some(Turn::First));
        let over = begun + SILENT_BROKER_PAUSE;
        assert_eq!(silent.turn(1, over), Some(Turn::Last));
        silent.note_answer(1);
        assert_eq!(silent.turn(1, over), Some(Turn::First));
    }
}
