//! A lane: one consumer on a thread of its own, one connection, nothing shared with other lanes.
//!
//! The thread polls Kafka and fills a batch while the settler (a task) settles the one before:
//! at most two batches are held. Everything that happens to the lane happens in [`Lane::run`],
//! in order: outcomes, rebalances, handing over, polling.

mod commits;
mod context;
mod offsets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use common::kafka::unique_client_id;
use common::time::Timestamp;
use common::topics::TopicOptions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::batch::{Batch, CloseReason};
use crate::health::LaneHealth;
use crate::metrics::WriterMetrics;
use crate::options::RunOptions;
use crate::record::{NewerSchema, Partition, Record, Topic};
use crate::settle::{Handover, Outcome, Settler};
use commits::Commits;
use context::{LaneContext, Rebalance, assign, unassign};

/// The longest wait for anything before the lane looks around again.
const ROUND: Duration = Duration::from_millis(100);

/// A full lane that has waited so long for its settler stops fetching and goes on polling, so
/// that its group does not give it up. Not at once: stopping throws away what was prefetched.
const PAUSE_AFTER: Duration = Duration::from_secs(5);

/// How often a lane that has finished looks whether its siblings have.
const SIBLING_ROUND: Duration = Duration::from_millis(10);

/// How often partitions whose position could not be found are tried again.
const RETRY_POSITIONS_AFTER: Duration = Duration::from_secs(1);

/// A dead writer's partitions go to others after this many milliseconds. Kafka's default is 45 s;
/// the least that brokers allow by default is 6.
const SESSION_TIMEOUT_MS: &str = "10000";

/// How often a member says that it lives, in milliseconds: a third of the session time-out.
const HEARTBEAT_INTERVAL_MS: &str = "3000";

/// A full fetch queue looks again after this many milliseconds; Kafka's default is a second.
const FETCH_QUEUE_BACKOFF_MS: &str = "10";

/// How often the client reports lag, in milliseconds.
const STATISTICS_INTERVAL_MS: &str = "1000";

/// What a lane shares with the rest of the process.
pub struct LaneParts {
    /// Its options.
    pub options: RunOptions,
    /// The events' accounts.
    pub accounts: Accounts,
    /// The metrics.
    pub metrics: WriterMetrics,
    /// Its health.
    pub health: LaneHealth,
    /// How many lanes of the process have not finished yet.
    pub unfinished: Arc<AtomicUsize>,
}

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything held was settled and its offsets committed.
    Drained,
    /// The deadline passed before.
    GivenUp,
}

/// Why a lane cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// Kafka's client gave up for good, or refuses what the lane asks of it.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The settler's task ended early: a bug.
    #[error("the settler ended before its lane")]
    SettlerGone,
}

/// A lane.
pub struct Lane {
    consumer: Arc<BaseConsumer<LaneContext>>,
    commits: Commits,
    parts: LaneParts,
    handovers: mpsc::Sender<Handover>,
    outcomes: Receiver<Outcome>,
    building: Batch,
    settling: Option<Settling>,
    /// Assigned, but their position could not be found yet.
    unplaced: Vec<(String, i32)>,
    /// When to find it, if an assignment waits to be answered.
    place_at: Option<Instant>,
    /// Waiting for a newer writer.
    stopped: BTreeSet<Partition>,
    full_since: Option<Instant>,
    paused: bool,
    halted: bool,
    /// The next offset of each partition of which something is settled.
    settled: BTreeMap<Partition, i64>,
    /// What this lane last added to the gauge of bytes held.
    held_bytes: i64,
}

/// The batch with the settler.
struct Settling {
    give_up: CancellationToken,
    bytes: usize,
}

/// The settler's side of a lane: settles one batch after the other until the lane ends.
pub async fn settle_batches(
    mut settler: Settler,
    mut handovers: mpsc::Receiver<Handover>,
    outcomes: SyncSender<Outcome>,
) {
    while let Some(handover) = handovers.recv().await {
        let outcome = settler.settle(handover).await;
        // There is room: the lane takes each outcome before it hands over again.
        if outcomes.try_send(outcome).is_err() {
            return;
        }
    }
}

impl Lane {
    /// A member of the consumer group, number `number` in this process. Also returns the two ends
    /// that [`settle_batches`] takes.
    ///
    /// # Errors
    /// When the Kafka options are wrong.
    pub fn new(
        number: usize,
        parts: LaneParts,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Handover>, SyncSender<Outcome>)> {
        let context = LaneContext::new(parts.metrics.clone());
        let consumer: BaseConsumer<LaneContext> =
            consumer_config(number, &parts.options)?.create_with_context(context)?;
        let consumer = Arc::new(consumer);
        let commits = Commits::start(consumer.clone(), parts.metrics.clone())?;
        let topics = &parts.options.topics;
        consumer.subscribe(&[&topics.events(), &topics.webstates()])?;
        let (handovers, handovers_receiver) = mpsc::channel(1);
        let (outcomes_sender, outcomes) = sync_channel(1);
        let lane = Self {
            consumer,
            commits,
            parts,
            handovers,
            outcomes,
            building: Batch::default(),
            settling: None,
            unplaced: Vec::new(),
            place_at: None,
            stopped: BTreeSet::new(),
            full_since: None,
            paused: false,
            halted: false,
            settled: BTreeMap::new(),
            held_bytes: 0,
        };
        Ok((lane, handovers_receiver, outcomes_sender))
    }

    /// Consumes until `stop`, then drains.
    ///
    /// # Errors
    /// See [`LaneError`].
    pub fn run(mut self, stop: &CancellationToken) -> Result<Ended, LaneError> {
        let finished = self.consume(stop).and_then(|()| self.finish_for_good());
        // Whichever way it came out, the siblings need not wait for this lane.
        self.parts.unfinished.fetch_sub(1, Ordering::AcqRel);
        let deadline = finished?;
        self.leave(deadline)
    }

    fn consume(&mut self, stop: &CancellationToken) -> Result<(), LaneError> {
        while !stop.is_cancelled() {
            self.parts.health.tick();
            self.take_outcomes(Duration::ZERO)?;
            self.proceed_with_commits(Duration::ZERO);
            self.carry_out_rebalances()?;
            self.place_partitions()?;
            if self.may_take_more()? {
                self.poll(self.poll_timeout())?;
            }
        }
        Ok(())
    }

    /// Hands over what is due. Whether there is room for another record.
    fn may_take_more(&mut self) -> Result<bool, LaneError> {
        if self.halted {
            self.pause();
            return Ok(true);
        }
        let limits = self.parts.options.batch_limits();
        let now = Instant::now();
        if self.settling.is_none()
            && let Some(reason) = self.building.due(&limits, now)
        {
            self.hand_over(reason);
        }
        if self.building.full(&limits).is_none() {
            self.full_since = None;
            self.resume();
            return Ok(true);
        }
        let full_since = *self.full_since.get_or_insert(now);
        if now.duration_since(full_since) >= PAUSE_AFTER {
            self.pause();
            return Ok(true);
        }
        self.take_outcomes(ROUND)?;
        Ok(false)
    }

    /// Stops fetching; polling goes on, for the group's sake.
    fn pause(&mut self) {
        if !self.paused {
            self.change_fetching(BaseConsumer::pause);
            self.paused = true;
        }
    }

    fn resume(&mut self) {
        if self.paused {
            self.change_fetching(BaseConsumer::resume);
            self.paused = false;
        }
    }

    fn change_fetching(
        &self,
        change: impl Fn(&BaseConsumer<LaneContext>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let changed = self.consumer.assignment().and_then(|all| {
            let stopped = |topic: &str, number| {
                self.stopped
                    .iter()
                    .any(|it| self.topic_name(it.topic) == topic && it.number == number)
            };
            let mut partitions = TopicPartitionList::new();
            for element in all.elements() {
                if !stopped(element.topic(), element.partition()) {
                    partitions.add_partition(element.topic(), element.partition());
                }
            }
            change(&self.consumer, &partitions)
        });
        if let Err(error) = changed {
            tracing::warn!(%error, "cannot pause or resume partitions");
        }
    }

    /// How long a poll may wait: until the batch is due or the settler may be done.
    fn poll_timeout(&self) -> Duration {
        if self.settling.is_some() {
            // An outcome may come at any time and is not heard while polling.
            return Duration::from_millis(5);
        }
        let limits = self.parts.options.batch_limits();
        self.building.due_in(&limits, Instant::now()).map_or(ROUND, |due_in| due_in.min(ROUND))
    }

    /// Takes one record, if there is one.
    fn poll(&mut self, timeout: Duration) -> Result<(), LaneError> {
        match self.consumer.poll(timeout) {
            None => Ok(()),
            Some(Ok(message)) => {
                let read = read(&message, &self.parts.options);
                drop(message);
                self.take(read);
                Ok(())
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(error.into()),
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ))) => {
                self.reposition();
                Ok(())
            }
            Some(Err(error)) => {
                self.parts.metrics.kafka_errors.inc();
                tracing::warn!(%error, "cannot consume for now");
                Ok(())
            }
        }
    }

    fn take(&mut self, read: (Partition, i64, Result<Record, NewerSchema>)) {
        let (partition, offset, record) = read;
        // Nothing more is committed of these, so what is dropped here will be read again.
        if self.stopped.contains(&partition) || self.halted {
            return;
        }
        match record {
            Ok(record) => {
                let topic = [record.message.topic()];
                self.parts.metrics.records_consumed.with_label_values(&topic).inc();
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
        let topic = self.topic_name(partition.topic);
        tracing::error!(
            topic,
            partition = partition.number,
            offset,
            version,
            "a record is of a newer format: upgrade the writers; this partition waits"
        );
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(&topic, partition.number);
        if let Err(error) = self.consumer.pause(&partitions) {
            tracing::warn!(%error, "cannot pause the partition; its records are dropped unread");
        }
        self.stopped.insert(partition);
        self.note_stopped(1);
    }

    fn note_stopped(&self, change: i64) {
        self.parts.metrics.partitions_stopped.add(change);
        self.parts.health.set_stopped(self.stopped.clone());
    }

    fn note_held(&mut self) {
        let settling = self.settling.as_ref().map_or(0, |settling| settling.bytes);
        let held = i64::try_from(self.building.bytes() + settling).unwrap_or(i64::MAX);
        // The gauge is all lanes' together, so each adds its own change.
        self.parts.metrics.batch_bytes_held.add(held - self.held_bytes);
        self.held_bytes = held;
    }

    fn hand_over(&mut self, closed_by: CloseReason) {
        let batch = std::mem::take(&mut self.building);
        let give_up = CancellationToken::new();
        self.settling = Some(Settling { give_up: give_up.clone(), bytes: batch.bytes() });
        // There is room: nothing else is with the settler.
        if self.handovers.try_send(Handover { batch, closed_by, give_up }).is_err() {
            tracing::error!("the settler is gone");
        }
    }

    /// Acts on what the settler is done with, waiting for it up to `timeout`.
    fn take_outcomes(&mut self, timeout: Duration) -> Result<(), LaneError> {
        if self.settling.is_none() {
            return Ok(());
        }
        let outcome = match self.outcomes.recv_timeout(timeout) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(LaneError::SettlerGone),
        };
        self.settling = None;
        match outcome {
            Outcome::Settled { batch, settled } => {
                self.parts.accounts.settle(settled);
                self.commit(&batch);
            }
            Outcome::GivenUp(batch) => self.building.prepend(batch),
            Outcome::Halted(batch) => {
                self.building.prepend(batch);
                self.halted = true;
                self.parts.health.halted();
                self.parts.metrics.lanes_halted.inc();
                tracing::error!(
                    "most of the last records are poison: this lane stops and keeps its \
                     partitions; find the cause, then restart the writer"
                );
            }
        }
        self.note_held();
        Ok(())
    }

    /// Notes how far a settled batch reaches, and asks Kafka to commit that.
    fn commit(&mut self, batch: &Batch) {
        // In order, so the last of a partition is its newest.
        let newest: BTreeMap<Partition, &Record> =
            batch.records().iter().map(|record| (record.partition, record)).collect();
        for (partition, record) in newest {
            self.settled.insert(partition, record.message.offset() + 1);
            if let Some(appended_ms) = record.message.timestamp().to_millis() {
                let appended_at = Timestamp::from_micros(appended_ms.saturating_mul(1_000));
                let topic = record.message.topic();
                self.consumer.context().written(topic, partition.number, appended_at);
            }
        }
        self.commits.want();
        self.proceed_with_commits(Duration::ZERO);
    }

    fn proceed_with_commits(&mut self, timeout: Duration) {
        let (settled, topics) = (&self.settled, &self.parts.options.topics);
        self.commits.proceed(timeout, || settled_offsets(settled, topics));
    }

    fn carry_out_rebalances(&mut self) -> Result<(), LaneError> {
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => {
                    let elements = partitions.elements();
                    self.unplaced
                        .extend(elements.iter().map(|it| (it.topic().to_owned(), it.partition())));
                    self.place_at = Some(Instant::now());
                }
                Rebalance::Revoke(partitions) => {
                    let deadline = Instant::now() + self.parts.options.revoke_timeout();
                    self.finish(deadline)?;
                    self.let_go(&partitions, "revoked");
                }
                Rebalance::Lose(partitions) => {
                    self.give_up_settling()?;
                    self.let_go(&partitions, "lost");
                }
            }
        }
        Ok(())
    }

    /// Finds where newly assigned partitions begin, and takes them on.
    fn place_partitions(&mut self) -> Result<(), LaneError> {
        if self.place_at.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        let mut partitions = TopicPartitionList::new();
        for (topic, number) in &self.unplaced {
            partitions.add_partition(topic, *number);
        }
        match offsets::starts(&self.consumer, &partitions, &self.parts.metrics) {
            Ok(placed) => {
                // Also when there are none: the group waits for the answer.
                assign(&self.consumer, &placed)?;
                self.unplaced.clear();
                self.place_at = None;
                self.count_partitions("assigned", placed.count());
                if self.paused {
                    self.change_fetching(BaseConsumer::pause);
                }
                self.parts.health.consuming();
            }
            Err(error) => {
                tracing::warn!(%error, "cannot find where partitions begin; trying again");
                self.place_at = Some(Instant::now() + RETRY_POSITIONS_AFTER);
            }
        }
        Ok(())
    }

    /// Some partition's position is not in Kafka any more: finds which, and moves it.
    fn reposition(&self) {
        let moved = offsets::out_of_range(&self.consumer, &self.parts.metrics);
        let moved = moved.and_then(|moved| match moved.count() {
            0 => Ok(()),
            _ => self
                .consumer
                .seek_partitions(moved, common::kafka::BROKER_QUESTION_TIMEOUT)
                .map(drop),
        });
        if let Err(error) = moved {
            tracing::error!(%error, "cannot find where a partition goes on");
        }
    }

    /// Settles all that is held and has its offsets committed, as far as the deadline allows.
    fn finish(&mut self, deadline: Instant) -> Result<(), LaneError> {
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
        while !self.commits.done() && !left(deadline).is_zero() {
            self.parts.health.tick();
            self.proceed_with_commits(ROUND.min(left(deadline)));
        }
        Ok(())
    }

    /// Takes the batch back from the settler, unwritten.
    fn give_up_settling(&mut self) -> Result<(), LaneError> {
        while let Some(settling) = &self.settling {
            settling.give_up.cancel();
            self.parts.health.tick();
            self.take_outcomes(ROUND)?;
        }
        Ok(())
    }

    /// Drops what is held of partitions that go, and lets them go.
    fn let_go(&mut self, partitions: &TopicPartitionList, change: &str) {
        let (events, webstates) =
            (self.topic_name(Topic::Events), self.topic_name(Topic::Webstates));
        let gone = |partition: Partition| {
            let topic = match partition.topic {
                Topic::Events => &events,
                Topic::Webstates => &webstates,
            };
            partitions.find_partition(topic, partition.number).is_some()
        };
        let returned = self.building.retain(|partition| !gone(partition));
        self.parts.accounts.give_back(returned);
        self.note_held();
        let stopped_before = self.stopped.len();
        self.stopped.retain(|partition| !gone(*partition));
        self.settled.retain(|partition, _| !gone(*partition));
        if self.stopped.len() < stopped_before {
            let fewer = i64::try_from(stopped_before - self.stopped.len()).unwrap_or(i64::MAX);
            self.note_stopped(-fewer);
        }
        self.unplaced.retain(|(topic, number)| partitions.find_partition(topic, *number).is_none());
        self.consumer.context().forget_lag(partitions);
        if let Err(error) = unassign(&self.consumer, partitions) {
            tracing::warn!(%error, "cannot let partitions go");
        }
        self.count_partitions(change, partitions.count());
    }

    fn count_partitions(&self, change: &str, count: usize) {
        let metrics = &self.parts.metrics;
        metrics.rebalanced_partitions.with_label_values(&[change]).inc_by(count as u64);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        metrics.partitions_assigned.add(if change == "assigned" { count } else { -count });
        tracing::info!(change, count, "partitions");
    }

    /// Settles and commits what is held; returns until when the lane may take to leave.
    fn finish_for_good(&mut self) -> Result<Instant, LaneError> {
        self.parts.health.draining();
        let deadline = Instant::now() + self.parts.options.drain_timeout();
        self.finish(deadline)?;
        self.consumer.context().close();
        Ok(deadline)
    }

    /// Leaves the group, after its siblings have finished too: a lane that leaves starts a
    /// rebalance, in which they could not commit.
    fn leave(mut self, deadline: Instant) -> Result<Ended, LaneError> {
        let drained = self.building.is_empty() && self.commits.done();
        while self.parts.unfinished.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            self.parts.health.tick();
            self.poll(SIBLING_ROUND)?;
        }
        let all = self.consumer.assignment()?;
        self.let_go(&all, "revoked");
        self.parts.accounts.give_back(self.building.retain(|_| false));
        self.commits.close(deadline);
        Ok(if drained || self.halted { Ended::Drained } else { Ended::GivenUp })
    }

    fn topic_name(&self, topic: Topic) -> String {
        topic_name(&self.parts.options.topics, topic)
    }
}

/// What is settled, as Kafka wants it.
fn settled_offsets(
    settled: &BTreeMap<Partition, i64>,
    topics: &TopicOptions,
) -> KafkaResult<TopicPartitionList> {
    let mut offsets = TopicPartitionList::new();
    for (partition, next) in settled {
        let topic = topic_name(topics, partition.topic);
        offsets.add_partition_offset(&topic, partition.number, Offset::Offset(*next))?;
    }
    Ok(offsets)
}

fn topic_name(topics: &TopicOptions, topic: Topic) -> String {
    match topic {
        Topic::Events => topics.events(),
        Topic::Webstates => topics.webstates(),
    }
}

/// Copies a message out of the fetch buffer and reads it.
fn read(
    message: &BorrowedMessage<'_>,
    options: &RunOptions,
) -> (Partition, i64, Result<Record, NewerSchema>) {
    let topic = match message.topic() == options.topics.events() {
        true => Topic::Events,
        false => Topic::Webstates,
    };
    let partition = Partition { topic, number: message.partition() };
    let record = Record::read(topic, message.detach(), options.limits.page_limit_bytes);
    (partition, message.offset(), record)
}

fn consumer_config(number: usize, options: &RunOptions) -> anyhow::Result<ClientConfig> {
    let client_id = unique_client_id("tapedeck-writer", number);
    let mut config = options.kafka.client(&client_id).map_err(anyhow::Error::msg)?;
    let fetch_bytes = options.limits.topic_message_bytes().to_string();
    let defaults = [
        ("group.id", options.consumer_group.clone()),
        ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "error".to_owned()),
        ("session.timeout.ms", SESSION_TIMEOUT_MS.to_owned()),
        ("heartbeat.interval.ms", HEARTBEAT_INTERVAL_MS.to_owned()),
        ("max.poll.interval.ms", options.max_poll_interval_ms.to_string()),
        ("queued.max.messages.kbytes", (options.fetch_ahead_bytes / 1024).to_string()),
        ("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS.to_owned()),
        ("fetch.max.bytes", fetch_bytes.clone()),
        ("fetch.message.max.bytes", fetch_bytes),
        (
            "receive.message.max.bytes",
            (options.limits.topic_message_bytes() + (1 << 20)).to_string(),
        ),
        ("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_owned()),
    ];
    for (name, value) in defaults {
        // What the operator passes through wins.
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    Ok(config)
}
