//! Partitions that come and go.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::failpoint;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{Rebalance, assign, unassign};
use super::{Lane, LaneError, offsets};
use crate::health::Work;
use crate::record::Partition;

/// How often partitions whose position could not be found are tried again.
const RETRY_POSITIONS_AFTER: Duration = Duration::from_secs(1);

impl Lane {
    pub(super) fn carry_out_rebalances(&mut self) -> Result<(), LaneError> {
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => {
                    self.assignment_open = true;
                    self.await_placing(self.topic.partitions(&partitions));
                }
                Rebalance::Revoke(partitions) => {
                    let count = partitions.count();
                    let topic = self.topic.name();
                    tracing::info!(topic, count, "partitions are to go: finishing what is held");
                    let deadline = Instant::now() + self.parts.options.revoke_timeout();
                    if failpoint::is_on("writer::drop-on-revoke") {
                        let dropped = std::mem::take(&mut self.building);
                        self.finish(deadline)?;
                        self.commit(&dropped);
                    }
                    self.finish(deadline)?;
                    self.let_go(&self.topic.partitions(&partitions), "revoked");
                }
                Rebalance::Lose(partitions) => {
                    self.give_up_settling()?;
                    self.let_go(&self.topic.partitions(&partitions), "lost");
                }
            }
        }
        Ok(())
    }

    /// Finds where newly assigned partitions begin, and takes them on.
    pub(super) fn place_partitions(&mut self) -> Result<(), LaneError> {
        if self.place_at.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        let partitions = self.topic.list(&self.unplaced);
        let (topic, silent) = (self.topic.name(), &mut self.silent_brokers);
        let starts = match offsets::starts(&self.consumer, topic, &partitions, silent, &self.parts)
        {
            Ok(starts) => starts,
            Err(error) => {
                let code = error.rdkafka_error_code();
                if !code.is_some_and(|code| self.note_refusal(code))
                    && let Some(left_out) = self.parts.health.positions().failed(&error)
                {
                    tracing::warn!(
                        %error,
                        topic = self.topic.name(),
                        left_out,
                        "cannot ask where partitions begin; trying again"
                    );
                }
                self.place_at = Some(Instant::now() + RETRY_POSITIONS_AFTER);
                return Ok(());
            }
        };
        // Also when there are none: until the group has its answer, no partition is fetched.
        if self.assignment_open || starts.count() > 0 {
            assign(&self.consumer, &starts)?;
            self.assignment_open = false;
            // The group has taken the lane in; whether the topic may be read will show.
            if self.refusal.is_none() {
                self.parts.health.succeeded(Work::Consuming);
            }
            self.note_moved("assigned", &starts);
        }
        if self.paused {
            self.change_fetching(BaseConsumer::pause);
        }
        let placed = self.topic.partitions(&starts);
        self.change_unplaced(|unplaced| unplaced.retain(|partition| !placed.contains(partition)));
        self.place_at = match self.unplaced.is_empty() {
            true => {
                self.parts.health.consuming();
                if let Some(over) = self.parts.health.positions().over() {
                    let (failures, seconds) = (over.failures, over.seconds());
                    tracing::info!(
                        topic = self.topic.name(),
                        failures,
                        seconds,
                        "all partitions have a beginning"
                    );
                }
                None
            }
            false => Some(Instant::now() + RETRY_POSITIONS_AFTER),
        };
        Ok(())
    }

    /// Some partition's position is not in Kafka any more. Kafka's client reports it once, does
    /// not say which, and neither fetches the partition again nor lets it be moved. So all are
    /// taken on anew, from where this lane has got to.
    pub(super) fn take_on_anew_if_due(&mut self) -> Result<(), LaneError> {
        if !std::mem::take(&mut self.position_lost) {
            return Ok(());
        }
        self.finish(Instant::now() + self.parts.options.revoke_timeout())?;
        let assigned = self.consumer.assignment()?;
        let let_go = unassign(&self.consumer, &assigned)?;
        self.note_moved("revoked", &let_go);
        self.await_placing(self.topic.partitions(&assigned));
        Ok(())
    }

    fn await_placing(&mut self, partitions: BTreeSet<Partition>) {
        self.change_unplaced(|unplaced| unplaced.extend(partitions));
        self.place_at = Some(Instant::now());
    }

    /// Changes which partitions wait for their position, where probes and metrics see it.
    pub(super) fn change_unplaced(&mut self, change: impl FnOnce(&mut BTreeSet<Partition>)) {
        let count =
            |unplaced: &BTreeSet<Partition>| i64::try_from(unplaced.len()).unwrap_or(i64::MAX);
        let before = count(&self.unplaced);
        change(&mut self.unplaced);
        self.parts.metrics.partitions_unplaced.add(count(&self.unplaced) - before);
        self.parts.health.set_unplaced(self.unplaced.len());
    }

    /// Drops what is held of partitions that go, and lets them go.
    pub(super) fn let_go(&mut self, partitions: &BTreeSet<Partition>, change: &str) {
        let returned = self.building.retain(|partition| !partitions.contains(&partition));
        self.parts.accounts.give_back(returned);
        self.note_held();
        let stopped_before = self.stopped.len();
        self.stopped.retain(|partition| !partitions.contains(partition));
        self.settled.retain(|partition, _| !partitions.contains(partition));
        if self.stopped.len() < stopped_before {
            let fewer = i64::try_from(stopped_before - self.stopped.len()).unwrap_or(i64::MAX);
            self.note_stopped(-fewer);
        }
        self.change_unplaced(|unplaced| {
            unplaced.retain(|partition| !partitions.contains(partition));
        });
        let list = self.topic.list(partitions);
        self.consumer.context().forget_lag(&list);
        match unassign(&self.consumer, &list) {
            Ok(let_go) => self.note_moved(change, &let_go),
            Err(error) => {
                let topic = self.topic.name();
                tracing::warn!(%error, topic, change, ?partitions, "cannot let partitions go");
            }
        }
    }

    /// Counts and logs partitions that came or went.
    fn note_moved(&self, change: &str, moved: &TopicPartitionList) {
        let metrics = &self.parts.metrics;
        let count = moved.count();
        metrics.rebalanced_partitions.with_label_values(&[change]).inc_by(count as u64);
        let signed = i64::try_from(count).unwrap_or(i64::MAX);
        metrics.partitions_assigned.add(if change == "assigned" { signed } else { -signed });
        let (lane, topic) = (self.number, self.topic.name());
        let numbers: Vec<_> = moved.elements().iter().map(|it| it.partition()).collect();
        tracing::info!(lane, topic, change, count, ?numbers, "partitions");
    }
}
