//! What Kafka's client tells a lane, put aside until the lane's loop takes it.
//!
//! Callbacks run inside `poll()`, in the middle of the loop's work. Here they only take notes;
//! the loop acts on them in its own order, so that data flow one way. A rebalance is not over
//! for the group until the loop has assigned or unassigned, which `max.poll.interval.ms` bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use common::client_log::ClientLog;
use common::failpoint;
use common::time::Timestamp;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::metrics::WriterMetrics;

/// The state of a client that is not in a group
/// (<https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md>, `cgrp.join_state`).
const NO_MEMBER: &str = "init";

/// A change of the lane's partitions that the loop has yet to carry out.
#[derive(Debug)]
pub(super) enum Rebalance {
    /// These are ours now.
    Assign(TopicPartitionList),
    /// These go; what is held of them may still be finished.
    Revoke(TopicPartitionList),
    /// These are another's already; nothing of them may be committed.
    Lose(TopicPartitionList),
}

/// A lane's notes.
pub(super) struct LaneContext {
    log: ClientLog,
    metrics: WriterMetrics,
    rebalances: Mutex<Vec<Rebalance>>,
    /// By partition of the lane's topic: when the newest record written was appended to Kafka, or
    /// where none is yet, the first one read.
    written_until: Mutex<HashMap<i32, Timestamp>>,
    closing: AtomicBool,
    /// The group has told the client which partitions are its own, and not taken it for dead since.
    joined: AtomicBool,
    /// When the client last reported that it is no member of its group, if it did so last.
    outside_at: Mutex<Option<Instant>>,
}

impl LaneContext {
    pub(super) fn new(log: ClientLog, metrics: WriterMetrics) -> Self {
        Self {
            log,
            metrics,
            rebalances: Mutex::default(),
            written_until: Mutex::default(),
            closing: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            outside_at: Mutex::default(),
        }
    }

    /// Whether the client has become a member of its group, and is one for all it knows.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Whether the client has reported since then that it is no member of its group and does not
    /// become one.
    pub(super) fn has_left_since(&self, then: Instant) -> bool {
        lock(&self.outside_at).is_some_and(|reported_at| reported_at > then)
    }

    /// The oldest change not yet carried out.
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        let mut rebalances = lock(&self.rebalances);
        (!rebalances.is_empty()).then(|| rebalances.remove(0))
    }

    /// Notes when the first record read of a partition was appended: until something of it is
    /// written, that is how far behind it is.
    pub(super) fn began(&self, partition: i32, appended_at: Timestamp) {
        lock(&self.written_until).entry(partition).or_insert(appended_at);
    }

    /// Notes how far a partition is written, for its lag in seconds.
    pub(super) fn written(&self, partition: i32, appended_at: Timestamp) {
        lock(&self.written_until).insert(partition, appended_at);
    }

    /// The lane no longer answers for the lag of these partitions.
    pub(super) fn forget_lag(&self, partitions: &TopicPartitionList) {
        let mut written_until = lock(&self.written_until);
        for element in partitions.elements() {
            let number = element.partition().to_string();
            let labels = [element.topic(), &number];
            // Absent where no statistics came while it was ours.
            let _ = self.metrics.lag_records.remove_label_values(&labels);
            let _ = self.metrics.lag_seconds.remove_label_values(&labels);
            written_until.remove(&element.partition());
        }
    }

    /// The loop is about to end: from now on partitions are let go at once and none is taken on.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn note_lag(&self, topic: &str, partition: i32, lag: i64) {
        let number = partition.to_string();
        self.metrics.lag_records.with_label_values(&[topic, &number]).set(lag);
        let written_until = lock(&self.written_until).get(&partition).copied();
        let seconds = match written_until {
            Some(until) if lag > 0 => Timestamp::now().seconds_since(until).max(0.0),
            _ => 0.0,
        };
        self.metrics.lag_seconds.with_label_values(&[topic, &number]).set(seconds);
    }
}

impl ClientContext for LaneContext {
    fn stats(&self, statistics: Statistics) {
        self.log.note_statistics(&statistics);
        let outside = statistics.cgrp.is_some_and(|group| group.join_state == NO_MEMBER);
        *lock(&self.outside_at) = outside.then(Instant::now);
        for topic in statistics.topics.values() {
            // Partition -1 is the client's own for what has no partition yet.
            for partition in topic.partitions.values().filter(|it| it.partition >= 0) {
                let begin = partition.committed_offset.max(partition.lo_offset).max(0);
                let assigned = partition.fetch_state == "active";
                if assigned && partition.hi_offset >= 0 {
                    let lag = (partition.hi_offset - begin).max(0);
                    self.note_lag(&topic.topic, partition.partition, lag);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.metrics.kafka_errors.inc();
        self.log.note_error(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }
}

impl ConsumerContext for LaneContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let closing = self.closing.load(Ordering::Acquire);
        if !assigned && !closing {
            failpoint::pass("writer::on-revoke");
        }
        let lost = !assigned && consumer.assignment_lost();
        self.joined.store(!lost, Ordering::Release);
        if closing {
            let answered = match assigned {
                true => assign(consumer, &TopicPartitionList::new()),
                false => unassign(consumer, partitions).map(drop),
            };
            if let Err(error) = answered {
                let (count, client) = (partitions.count(), self.log.client());
                tracing::warn!(%error, client, assigned, count, "cannot answer a rebalance while leaving");
            }
            return;
        }
        let partitions = partitions.clone();
        lock(&self.rebalances).push(if assigned {
            Rebalance::Assign(partitions)
        } else if lost {
            Rebalance::Lose(partitions)
        } else {
            Rebalance::Revoke(partitions)
        });
    }
}

/// Lets those of the partitions go that are held, as the group's protocol wants it; gives them.
pub(super) fn unassign(
    consumer: &BaseConsumer<LaneContext>,
    partitions: &TopicPartitionList,
) -> KafkaResult<TopicPartitionList> {
    // Those never taken on, or gone already, cannot be let go, and would spoil the list.
    let assigned = consumer.assignment()?;
    let mut held = TopicPartitionList::new();
    for element in partitions.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        if assigned.find_partition(topic, partition).is_some() {
            held.add_partition(topic, partition);
        }
    }
    // Kafka's client keeps a pause beyond the assignment: a partition that came back would never be
    // fetched.
    if held.count() > 0
        && let Err(error) = consumer.resume(&held)
    {
        let client = consumer.context().log.client();
        tracing::warn!(%error, client, count = held.count(), "cannot resume partitions that go");
    }
    // Also when there are none: the group waits for the answer.
    match consumer.rebalance_protocol() {
        rdkafka::consumer::RebalanceProtocol::Cooperative => consumer.incremental_unassign(&held),
        _ => consumer.unassign(),
    }?;
    Ok(held)
}

/// Takes partitions on, as the group's protocol wants it.
pub(super) fn assign(
    consumer: &BaseConsumer<LaneContext>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        rdkafka::consumer::RebalanceProtocol::Cooperative => {
            consumer.incremental_assign(partitions)
        }
        _ => consumer.assign(partitions),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
