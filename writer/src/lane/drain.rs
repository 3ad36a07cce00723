//! Finishing what is held: before partitions go, and for good.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{Rebalance, assign};
use super::{Ended, Lane, LaneError, ROUND};
use crate::batch::CloseReason;

/// How often a lane that has finished looks whether it may go on leaving.
const LEAVING_ROUND: Duration = Duration::from_millis(10);

/// How long to wait until the client has become a member, and then until it has left: a rebalance
/// under way takes the other members a heartbeat to notice. After that, the group waits for this
/// member's session to time out.
const JOIN_WITHIN: Duration = Duration::from_secs(3);
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

impl Lane {
    /// Settles all that is held and has its offsets committed, as far as the deadline allows.
    pub(super) fn finish(&mut self, deadline: Instant) -> Result<(), LaneError> {
        self.pause();
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        while !self.halted && (self.settling.is_some() || !self.building.is_empty()) {
            if left(deadline).is_zero() {
                self.give_up_settling()?;
                break;
            }
            self.parts.health.tick();
            if self.settling.is_none() {
                self.hand_over(CloseReason::Drain);
            }
            self.take_outcomes(ROUND.min(left(deadline)))?;
        }
        while !self.commits.done() && self.may_commit() && !left(deadline).is_zero() {
            self.parts.health.tick();
            self.proceed_with_commits(ROUND.min(left(deadline)));
        }
        Ok(())
    }

    /// Takes the batch back from the settler, unwritten.
    pub(super) fn give_up_settling(&mut self) -> Result<(), LaneError> {
        while let Some(settling) = &self.settling {
            settling.give_up.cancel();
            self.parts.health.tick();
            self.take_outcomes(ROUND)?;
        }
        Ok(())
    }

    /// Settles and commits what is held; returns until when the lane may take to leave.
    pub(super) fn finish_for_good(&mut self) -> Result<Instant, LaneError> {
        self.parts.health.draining();
        let deadline = Instant::now() + self.parts.options.drain_timeout();
        self.finish(deadline)?;
        Ok(deadline)
    }

    /// From now on rebalances are answered at once, and those still open are answered here: a
    /// consumer that owes its group an answer cannot leave it.
    pub(super) fn answer_rebalances_for_good(&mut self) {
        self.consumer.context().close();
        self.place_at = None;
        self.change_unplaced(BTreeSet::clear);
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(_) => self.assignment_open = true,
                Rebalance::Revoke(partitions) => {
                    self.let_go(&self.topic.partitions(&partitions), "revoked");
                }
                Rebalance::Lose(partitions) => {
                    self.let_go(&self.topic.partitions(&partitions), "lost");
                }
            }
        }
        if self.assignment_open
            && let Err(error) = assign(&self.consumer, &TopicPartitionList::new())
        {
            let topic = self.topic.name();
            tracing::warn!(%error, topic, "cannot answer a rebalance while leaving");
        }
    }

    /// Leaves the group, after its siblings have finished too: a lane that leaves starts a
    /// rebalance, in which they could not commit.
    pub(super) fn leave(mut self, deadline: Instant) -> Result<Ended, LaneError> {
        let drained = self.building.is_empty() && self.commits.done();
        self.poll_until(deadline, |lane| lane.parts.unfinished.load(Ordering::Acquire) == 0)?;
        let all = self.topic.partitions(&self.consumer.assignment()?);
        self.let_go(&all, "revoked");
        // Who has a name is expected back: its partitions wait until its session times out.
        if self.parts.options.group_instance_id.is_none() {
            self.unsubscribe(deadline)?;
        }
        self.parts.accounts.give_back(self.building.retain(|_| false));
        self.commits.close(deadline);
        Ok(if drained || self.halted { Ended::Drained } else { Ended::GivenUp })
    }

    /// Leaves the group. Closing alone does not when no partition is held: the others would wait
    /// for this member until its session times out.
    fn unsubscribe(&mut self, deadline: Instant) -> Result<(), LaneError> {
        // Who asks to join is first given a member id, and the group then waits for its owner. A
        // client that unsubscribes in between does not read the id, and so cannot give it back.
        let join_deadline = deadline.min(Instant::now() + JOIN_WITHIN);
        self.poll_until(join_deadline, |lane| lane.consumer.context().has_joined())?;
        self.consumer.unsubscribe();
        // In the middle of a rebalance the client puts that off, and forgets it when closed.
        let unsubscribed = Instant::now();
        self.poll_until(deadline.min(unsubscribed + LEAVE_WITHIN), |lane| {
            lane.consumer.context().has_left_since(unsubscribed)
        })
    }

    /// Answers the group until something has come about, or the deadline passed.
    fn poll_until(
        &mut self,
        deadline: Instant,
        come_about: impl Fn(&Self) -> bool,
    ) -> Result<(), LaneError> {
        while !come_about(self) && Instant::now() < deadline {
            self.parts.health.tick();
            self.poll(LEAVING_ROUND)?;
        }
        Ok(())
    }
}
