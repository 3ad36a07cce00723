//! Reading the dead letters from one end to the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use common::kafka::{BROKER_QUESTION_TIMEOUT, KafkaOptions, unique_client_id};
use common::limits::SizeLimits;
use common::options::{CheckOptions, Problems};
use common::record::headers::{ERROR_CLASS, text};
use common::time::Timestamp;
use common::topics::TopicOptions;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long the topic may be silent before its end before the scan gives up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// Which dead letters, and where they are.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Only these classes of error; may be repeated.
    #[arg(long)]
    pub class: Vec<String>,
    /// Only what came to the dead letters at or after this time (RFC 3339).
    #[arg(long, value_parser = Timestamp::parse_rfc3339)]
    pub since: Option<Timestamp>,
    /// Only what came to the dead letters before this time (RFC 3339).
    #[arg(long, value_parser = Timestamp::parse_rfc3339)]
    pub until: Option<Timestamp>,
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// The topics.
    #[command(flatten)]
    pub topics: TopicOptions,
    /// Sizes.
    #[command(flatten)]
    pub limits: SizeLimits,
}

impl Selection {
    /// Whether a dead letter is meant.
    pub fn takes(&self, message: &OwnedMessage) -> bool {
        let class = text(message.headers(), ERROR_CLASS).unwrap_or_default();
        let came_at = came_at(message);
        (self.class.is_empty() || self.class.iter().any(|wanted| wanted == class))
            && self.since.is_none_or(|since| came_at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| came_at.is_some_and(|at| at < until))
    }
}

impl CheckOptions for Selection {
    fn check(&self, problems: &mut Problems) {
        self.kafka.check(problems);
        self.topics.check(problems);
        self.limits.check(problems);
    }
}

/// When a record came to its topic.
pub(super) fn came_at(message: &OwnedMessage) -> Option<Timestamp> {
    let millis = message.timestamp().to_millis()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1_000)))
}

/// A walk over the dead letters that are there now.
pub(super) struct Scan {
    pub(super) consumer: BaseConsumer,
    topic: String,
    /// By partition, what is still to read: the next offset and the end.
    left: BTreeMap<i32, (i64, i64)>,
}

impl Scan {
    /// Begins where the consumer group `group` has got to, or at the oldest dead letter.
    ///
    /// # Errors
    /// When Kafka cannot be reached or the topic does not exist.
    pub(super) fn begin(selection: &Selection, group: &str) -> anyhow::Result<Self> {
        let topic = selection.topics.dead_letters();
        let limit = selection.limits.dead_letter_message_bytes();
        let settings = [
            ("group.id", group.to_owned()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("auto.offset.reset", "error".to_owned()),
            ("fetch.message.max.bytes", limit.to_string()),
        ];
        let consumer: BaseConsumer = selection
            .kafka
            .client(&unique_client_id("tapedeck-dead-letters", 0), settings)
            .map_err(anyhow::Error::msg)?
            .create()?;
        let metadata = consumer
            .fetch_metadata(Some(&topic), BROKER_QUESTION_TIMEOUT)
            .context("cannot ask Kafka about the dead letters")?;
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|it| it.partitions()) {
            partitions.add_partition(&topic, partition.id());
        }
        if partitions.count() == 0 {
            bail!("there is no topic {topic}");
        }
        let mut left = BTreeMap::new();
        for element in consumer.committed_offsets(partitions, BROKER_QUESTION_TIMEOUT)?.elements() {
            let number = element.partition();
            let (oldest, end) =
                consumer.fetch_watermarks(&topic, number, BROKER_QUESTION_TIMEOUT)?;
            let begin = match element.offset() {
                Offset::Offset(reached) if (oldest..=end).contains(&reached) => reached,
                _ => oldest,
            };
            if begin < end {
                left.insert(number, (begin, end));
            }
        }
        let mut begins = TopicPartitionList::new();
        for (number, (begin, _)) in &left {
            begins.add_partition_offset(&topic, *number, Offset::Offset(*begin))?;
        }
        consumer.assign(&begins)?;
        Ok(Self { consumer, topic, left })
    }

    /// The next dead letter; none at the end.
    ///
    /// # Errors
    /// When Kafka does not go on before the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<OwnedMessage>> {
        let silent_until = Instant::now() + SILENCE_TIMEOUT;
        while !self.left.is_empty() {
            match self.consumer.poll(POLL_TIMEOUT) {
                Some(Ok(message)) => {
                    let message = message.detach();
                    let next = message.offset() + 1;
                    let Some((reached, end)) = self.left.get_mut(&message.partition()) else {
                        continue;
                    };
                    if message.offset() >= *end {
                        self.left.remove(&message.partition());
                        continue;
                    }
                    *reached = next;
                    if next >= *end {
                        self.left.remove(&message.partition());
                    }
                    return Ok(Some(message));
                }
                Some(Err(error)) => tracing::warn!(%error, "cannot read for now"),
                None => {}
            }
            if Instant::now() >= silent_until {
                bail!("{} was silent for {} s", self.topic, SILENCE_TIMEOUT.as_secs());
            }
        }
        Ok(None)
    }
}
