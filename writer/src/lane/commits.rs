//! Committing offsets, one commit at a time, off the lane's own thread.
//!
//! Kafka's client tells the outcome of a commit only to whoever waits for it, and while the
//! coordinator is away that takes as long as the session time-out. So a thread waits. Each commit
//! is of everything settled so far: one that failed is made up for by the next.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use common::failpoint;
use common::kafka::permissions::lacking_to_consume;
use common::repeats::Repeats;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::LaneParts;
use super::context::LaneContext;
use super::lane_topic::LaneTopic;
use crate::health::{LaneHealth, Work};
use crate::metrics::WriterMetrics;

/// How long after a failed commit the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The same where the group has rebalanced meanwhile. Partitions that are to go wait for it, and
/// with them all others of the lane.
const RETRY_AFTER_REBALANCE: Duration = Duration::from_millis(20);

/// A lane's commits.
pub(super) struct Commits {
    requests: SyncSender<TopicPartitionList>,
    answers: Receiver<KafkaResult<()>>,
    failures: Repeats,
    metrics: WriterMetrics,
    health: LaneHealth,
    topic: String,
    group: String,
    /// Something is settled that no commit has been asked for.
    wanted: bool,
    /// A commit has been asked for and not been answered.
    asked: bool,
    not_before: Instant,
    /// That before the commit to come; none after a success.
    pause: Duration,
}

impl Commits {
    /// Starts the thread that waits.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(
        consumer: Arc<BaseConsumer<LaneContext>>,
        topic: &LaneTopic,
        parts: &LaneParts,
    ) -> std::io::Result<Self> {
        let (requests, requested) = sync_channel::<TopicPartitionList>(1);
        let (answered, answers) = sync_channel(1);
        std::thread::Builder::new().name("lane-commits".to_owned()).spawn(move || {
            for offsets in requested {
                failpoint::pass("writer::before-offset-commit");
                if answered.send(consumer.commit(&offsets, CommitMode::Sync)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            requests,
            answers,
            metrics: parts.metrics.clone(),
            failures: Repeats::default(),
            health: parts.health.clone(),
            topic: topic.name().to_owned(),
            group: parts.options.consumer_group.clone(),
            wanted: false,
            asked: false,
            not_before: Instant::now(),
            pause: Duration::ZERO,
        })
    }

    /// Something more is settled.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether everything settled is committed.
    pub(super) const fn done(&self) -> bool {
        !self.wanted && !self.asked
    }

    /// Takes the answer of the commit under way, waiting for it up to `timeout`, and begins the
    /// next one, if one is wanted, with what `settled` gives.
    pub(super) fn proceed(
        &mut self,
        timeout: Duration,
        settled: impl FnOnce() -> KafkaResult<TopicPartitionList>,
    ) {
        if self.asked
            && let Ok(answer) = self.answers.recv_timeout(timeout)
        {
            self.asked = false;
            self.note(answer);
        }
        let pause = self.not_before.saturating_duration_since(Instant::now());
        if self.wanted && !self.asked && !pause.is_zero() {
            std::thread::sleep(pause.min(timeout));
        } else if self.wanted && !self.asked {
            self.wanted = false;
            match settled() {
                // All that was settled has gone to others meanwhile.
                Ok(offsets) if offsets.count() == 0 => {
                    self.failures.over();
                    self.health.forget(Work::Committing);
                }
                // There is room: none is under way.
                Ok(offsets) => self.asked = self.requests.try_send(offsets).is_ok(),
                Err(error) => self.note(Err(error)),
            }
        }
    }

    fn note(&mut self, answer: KafkaResult<()>) {
        let outcome = if answer.is_ok() { "committed" } else { "failed" };
        self.metrics.offset_commits.with_label_values(&[outcome]).inc();
        let Err(error) = answer else {
            self.pause = Duration::ZERO;
            self.health.succeeded(Work::Committing);
            if let Some(over) = self.failures.over() {
                let (failures, seconds) = (over.failures, over.seconds());
                tracing::info!(failures, seconds, "offsets are committed again");
            }
            return;
        };
        let lacking = error
            .rdkafka_error_code()
            .and_then(|code| lacking_to_consume(code, &self.topic, &self.group));
        if let Some(lacking) = lacking {
            // Nobody but who looks after Kafka can help.
            self.health.failed(Work::Committing, &lacking);
        } else if let Some(left_out) = self.failures.failed(&error) {
            tracing::warn!(%error, left_out, "offsets not committed; trying again");
        }
        self.wanted = true;
        self.pause = retry_after(&error, self.pause);
        self.not_before = Instant::now() + self.pause;
    }

    /// Waits until the thread has let go of the consumer, which only then can leave its group.
    pub(super) fn close(self, deadline: Instant) {
        drop(self.requests);
        let left = deadline.saturating_duration_since(Instant::now());
        while !matches!(self.answers.recv_timeout(left), Err(RecvTimeoutError::Disconnected))
            && Instant::now() < deadline
        {}
    }
}

/// How long to wait after an error and, since the last success, a pause: longer each time while a
/// rebalance lasts.
fn retry_after(error: &KafkaError, pause: Duration) -> Duration {
    match error {
        KafkaError::ConsumerCommit(
            RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration,
        ) => (pause * 2).clamp(RETRY_AFTER_REBALANCE, RETRY_AFTER),
        _ => RETRY_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rebalance_refused_is_asked_for_again_at_once() {
        fn check(code: RDKafkaErrorCode, pause: Duration, expected: Duration) {
            let error = KafkaError::ConsumerCommit(code);
            assert_eq!(retry_after(&error, pause), expected, "{code} after {pause:?}");
        }
        let first = RETRY_AFTER_REBALANCE;
        check(RDKafkaErrorCode::RebalanceInProgress, Duration::ZERO, first);
        check(RDKafkaErrorCode::IllegalGeneration, Duration::ZERO, first);
        check(RDKafkaErrorCode::IllegalGeneration, first, 2 * first);
        check(RDKafkaErrorCode::IllegalGeneration, RETRY_AFTER, RETRY_AFTER);
        check(RDKafkaErrorCode::RequestTimedOut, Duration::ZERO, RETRY_AFTER);
        check(RDKafkaErrorCode::CoordinatorNotAvailable, first, RETRY_AFTER);
    }
}
