//! Reading the dead letters from one end to the other.

use std::collections::BTreeMap;
use std::iter;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;
use common::kafka::permissions::lacking_to_consume;
use common::kafka::{BROKER_QUESTION_TIMEOUT, KafkaOptions, Reports, unique_client_id};
use common::limits::SizeLimits;
use common::options::{CheckOptions, Problems};
use common::record::headers::{ERROR_CLASS, text};
use common::repeats::Repeats;
use common::time::Timestamp;
use common::topics::TopicOptions;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long the topic may be silent before its end before the scan gives up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many events of Kafka's client are looked through for the cause of an error.
const MOST_REPORTS: usize = 100;

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
    /// The name of a consumer group of these commands.
    pub(super) fn group(&self, name: &str) -> String {
        format!("{}tapedeck-{name}", self.topics.topic_prefix)
    }

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
    pub(super) consumer: BaseConsumer<Reports>,
    topic: String,
    group: String,
    failures: Repeats,
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
        let client_id = unique_client_id("tapedeck-dead-letters", 0);
        let consumer: BaseConsumer<Reports> = selection
            .kafka
            .client(&client_id, settings)
            .map_err(anyhow::Error::msg)?
            .create_with_context(Reports::default())?;
        let explain = |error: KafkaError| explain(&consumer, &error, &topic, group);
        let metadata =
            consumer.fetch_metadata(Some(&topic), BROKER_QUESTION_TIMEOUT).map_err(explain)?;
        let refused = metadata.topics().first().and_then(|it| it.error());
        let refused = refused.map(|code| KafkaError::MetadataFetch(RDKafkaErrorCode::from(code)));
        if let Some(error) = refused.filter(is_refusal) {
            return Err(explain(error));
        }
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|it| it.partitions()) {
            partitions.add_partition(&topic, partition.id());
        }
        if partitions.count() == 0 {
            bail!("there is no topic {topic}");
        }
        let mut left = BTreeMap::new();
        let committed =
            consumer.committed_offsets(partitions, BROKER_QUESTION_TIMEOUT).map_err(explain)?;
        for element in committed.elements() {
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
        let (group, failures) = (group.to_owned(), Repeats::default());
        Ok(Self { consumer, topic, group, failures, left })
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
                Some(Err(error)) if is_refusal(&error) => {
                    return Err(explain(&self.consumer, &error, &self.topic, &self.group));
                }
                Some(Err(error)) => {
                    if let Some(left_out) = self.failures.failed(&error) {
                        let topic = &self.topic;
                        tracing::warn!(%error, topic, left_out, "cannot read dead letters for now");
                    }
                }
                None => {}
            }
            if Instant::now() >= silent_until {
                bail!("{} was silent for {} s", self.topic, SILENCE_TIMEOUT.as_secs());
            }
        }
        Ok(None)
    }
}

fn is_refusal(error: &KafkaError) -> bool {
    error.rdkafka_error_code().and_then(|code| lacking_to_consume(code, "", "")).is_some()
}

/// An error with its cause, or what somebody has to allow. Either may only come with polls.
fn explain(
    consumer: &BaseConsumer<Reports>,
    error: &KafkaError,
    topic: &str,
    group: &str,
) -> anyhow::Error {
    let polled = iter::from_fn(|| consumer.poll(Duration::ZERO)).take(MOST_REPORTS);
    let code = match is_refusal(error) {
        true => error.rdkafka_error_code(),
        false => polled
            .filter_map(|polled| polled.err().filter(is_refusal))
            .last()
            .unwrap_or_else(|| error.clone())
            .rdkafka_error_code(),
    };
    match code.and_then(|code| lacking_to_consume(code, topic, group)) {
        Some(lacking) => anyhow!(lacking),
        None => {
            anyhow!("cannot read the dead letters: {error}{}", consumer.context().take())
        }
    }
}
