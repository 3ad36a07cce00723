//! Taking records from Kafka into the batch, and when to stop fetching.

use std::time::{Duration, Instant};

use common::failpoint;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::LaneContext;
use super::{Lane, LaneError, ROUND};
use crate::record::{NewerSchema, Partition, Record};

/// How long a poll may wait while a batch is settled: its outcome may come at any time, and is not
/// heard while polling.
const OUTCOME_ROUND: Duration = Duration::from_millis(5);

impl Lane {
    /// How long a poll may wait: until the batch is due or the settler may be done.
    pub(super) fn poll_timeout(&self) -> Duration {
        let limits = self.parts.options.batch_limits();
        let due_in = self.building.due_in(&limits, Instant::now());
        poll_timeout(self.halted, self.settling.is_some(), due_in)
    }

    /// Takes one record, if there is one.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<(), LaneError> {
        match self.consumer.poll(timeout) {
            None => Ok(()),
            Some(Ok(message)) => {
                let partition = self.topic.partition(message.partition());
                let (offset, page_limit) =
                    (message.offset(), self.parts.options.limits.page_limit_bytes);
                // Copied out of the fetch buffer, which a borrowed message would pin whole.
                let record = Record::read(partition.topic, message.detach(), page_limit);
                drop(message);
                if let Some(over) = self.consume_failures.over() {
                    let (failures, seconds) = (over.failures, over.seconds());
                    tracing::info!(failures, seconds, "consuming again");
                }
                failpoint::pass("writer::after-poll");
                self.end_refusal();
                self.take(partition, offset, record);
                Ok(())
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(error.into()),
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ))) => {
                self.position_lost = true;
                Ok(())
            }
            Some(Err(error)) => {
                self.parts.metrics.kafka_errors.inc();
                let code = error.rdkafka_error_code();
                if !code.is_some_and(|code| self.note_refusal(code))
                    && let Some(left_out) = self.consume_failures.failed(&error)
                {
                    tracing::warn!(%error, left_out, "cannot consume for now");
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, partition: Partition, offset: i64, record: Result<Record, NewerSchema>) {
        // Nothing more is committed of these, so what is dropped here will be read again.
        if self.stopped.contains(&partition) || self.halted {
            return;
        }
        match record {
            Ok(record) => {
                let topic = record.message.topic();
                self.parts.metrics.records_consumed.with_label_values(&[topic]).inc();
                if let Some(appended_at) = record.appended_at() {
                    self.consumer.context().began(partition.number, appended_at);
                }
                self.parts.metrics.record_bytes.inc_by(record.value().len() as u64);
                self.parts.accounts.consume(record.events());
                self.building.push(record, Instant::now());
                self.note_held();
            }
            Err(NewerSchema(version)) => self.stop_partition(partition, offset, version),
        }
    }

    /// A record of a newer format: its partition stays here, unread, until a newer writer.
    fn stop_partition(&mut self, partition: Partition, offset: i64, version: u32) {
        tracing::error!(
            topic = self.topic.name(),
            partition = partition.number,
            offset,
            version,
            "a record is of a newer format: upgrade the writers; this partition waits"
        );
        if let Err(error) = self.consumer.pause(&self.topic.list([&partition])) {
            let (topic, partition) = (self.topic.name(), partition.number);
            tracing::warn!(
                %error,
                topic,
                partition,
                "cannot pause the partition; its records are dropped unread"
            );
        }
        self.stopped.insert(partition);
        self.note_stopped(1);
    }

    pub(super) fn note_stopped(&self, change: i64) {
        self.parts.metrics.partitions_stopped.add(change);
        self.parts.health.set_stopped(self.stopped.clone());
    }

    /// Stops fetching; polling goes on, for the group's sake.
    pub(super) fn pause(&mut self) {
        if !self.paused {
            self.change_fetching(BaseConsumer::pause);
            self.paused = true;
        }
    }

    pub(super) fn resume(&mut self) {
        if self.paused {
            self.change_fetching(BaseConsumer::resume);
            self.paused = false;
        }
    }

    pub(super) fn change_fetching(
        &self,
        change: impl Fn(&BaseConsumer<LaneContext>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let changed = self.consumer.assignment().and_then(|all| {
            let all = self.topic.partitions(&all);
            change(&self.consumer, &self.topic.list(all.difference(&self.stopped)))
        });
        if let Err(error) = changed {
            tracing::warn!(%error, topic = self.topic.name(), "cannot pause or resume partitions");
        }
    }
}

/// `due_in` is when the batch that is being built is to be closed, if there is one.
fn poll_timeout(halted: bool, settling: bool, due_in: Option<Duration>) -> Duration {
    if halted {
        // What a halted lane holds is long due and goes nowhere.
        return ROUND;
    }
    if settling {
        return OUTCOME_ROUND;
    }
    // Kafka's client waits for whole milliseconds, and spins through what is left of one.
    let milliseconds = due_in.unwrap_or(ROUND).min(ROUND).as_micros().div_ceil(1_000);
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_waits_for_what_comes_next() {
        fn check(halted: bool, settling: bool, due_in: Option<Duration>, expected: Duration) {
            assert_eq!(poll_timeout(halted, settling, due_in), expected, "{due_in:?}");
        }
        check(false, false, None, ROUND);
        check(false, false, Some(Duration::ZERO), Duration::ZERO);
        check(false, false, Some(Duration::from_micros(1_500)), Duration::from_millis(2));
        check(false, false, Some(2 * ROUND), ROUND);
        check(false, true, Some(Duration::ZERO), OUTCOME_ROUND);
        check(true, false, Some(Duration::ZERO), ROUND);
    }
}
