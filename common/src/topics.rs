//! The three topics: their names, what they must be like, and the check of it at start.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use clap::Args;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::client_log::ClientLog;
use crate::kafka::{Inquiry, KafkaOptions, Unanswered, Visibility, unique_client_id};
use crate::limits::SizeLimits;
use crate::options::{CheckOptions, Problems};

/// Page states younger than this are never compacted away.
const MIN_COMPACTION_LAG: Duration = Duration::from_secs(24 * 3_600);

/// Names and properties of the topics.
#[derive(Clone, Debug, Args)]
pub struct TopicOptions {
    /// Put before each topic's name, so that several Tapedecks can share a cluster.
    ///
    /// Set it, the same for all services, where several Tapedecks share a cluster.
    #[arg(long, env = "TAPEDECK_TOPIC_PREFIX", default_value = "")]
    pub topic_prefix: String,

    /// Create missing topics at start (else a missing topic is an error).
    ///
    /// Set it for trials; in production topics are made by those who look after Kafka, with the
    /// properties of docs/operations.md.
    #[arg(long, env = "TAPEDECK_CREATE_TOPICS")]
    pub create_topics: bool,

    /// Partitions of a topic created here.
    ///
    /// Raise it before a topic is made: as many as there will ever be lanes, with room to grow.
    /// More can be added later, fewer not.
    #[arg(long, env = "TAPEDECK_TOPIC_PARTITIONS", default_value_t = 12)]
    pub topic_partitions: i32,

    /// Replicas of a topic created here.
    ///
    /// Lower it for a cluster with fewer brokers, where acknowledged records then die with a
    /// broker.
    #[arg(long, env = "TAPEDECK_TOPIC_REPLICATION", default_value_t = 3)]
    pub topic_replication: i32,

    /// Least number of in-sync replicas (Kafka's min.insync.replicas) that topics must ask for.
    ///
    /// Lower it only together with the replication; it is what an acknowledgement is worth.
    #[arg(long, env = "TAPEDECK_TOPIC_MIN_INSYNC_REPLICAS", default_value_t = 2)]
    pub topic_min_insync_replicas: i32,

    /// Hours that events and page states are kept in Kafka.
    ///
    /// Raise it to survive a longer outage of Postgres or of the writers; the disks of the brokers
    /// must hold it.
    #[arg(long, env = "TAPEDECK_TOPIC_RETENTION_HOURS", default_value_t = 7 * 24)]
    pub topic_retention_hours: u64,

    /// Hours that dead letters are kept in Kafka: longer than the rest.
    ///
    /// Raise it when causes of dead letters take longer to be removed.
    #[arg(long, env = "TAPEDECK_DEAD_LETTER_RETENTION_HOURS", default_value_t = 30 * 24)]
    pub dead_letter_retention_hours: u64,
}

impl CheckOptions for TopicOptions {
    fn check(&self, problems: &mut Problems) {
        let valid_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        problems.require(
            self.topic_prefix.chars().all(valid_name) && self.topic_prefix.len() <= 100,
            "--topic-prefix may hold 100 letters, digits, '.', '-' and '_'",
        );
        problems.require(self.topic_partitions > 0, "--topic-partitions must be at least 1");
        problems.require(
            (1..=self.topic_replication).contains(&self.topic_min_insync_replicas),
            "--topic-min-insync-replicas must lie between 1 and --topic-replication",
        );
        problems.require(self.topic_retention_hours > 0, "--topic-retention-hours must not be 0");
        problems.require(
            self.dead_letter_retention_hours > self.topic_retention_hours,
            "--dead-letter-retention-hours must be more than --topic-retention-hours",
        );
    }
}

impl TopicOptions {
    /// The topic of recorder batches.
    pub fn events(&self) -> String {
        format!("{}replay-events", self.topic_prefix)
    }

    /// The topic of pages.
    pub fn webstates(&self) -> String {
        format!("{}replay-webstates", self.topic_prefix)
    }

    /// The topic of records that could not be written.
    pub fn dead_letters(&self) -> String {
        format!("{}replay-dead-letters", self.topic_prefix)
    }

    fn specifications(&self, limits: SizeLimits) -> [TopicSpecification; 3] {
        let specification = |name: String| TopicSpecification {
            name,
            cleanup_policy: "delete",
            retention: hours(self.topic_retention_hours),
            max_message_bytes: limits.topic_message_bytes(),
            min_compaction_lag: None,
        };
        [
            specification(self.events()),
            TopicSpecification {
                cleanup_policy: "compact,delete",
                min_compaction_lag: Some(MIN_COMPACTION_LAG),
                ..specification(self.webstates())
            },
            TopicSpecification {
                retention: hours(self.dead_letter_retention_hours),
                max_message_bytes: limits.dead_letter_message_bytes(),
                ..specification(self.dead_letters())
            },
        ]
    }
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(3_600))
}

/// What a topic must be like.
struct TopicSpecification {
    name: String,
    cleanup_policy: &'static str,
    retention: Duration,
    max_message_bytes: usize,
    min_compaction_lag: Option<Duration>,
}

impl TopicSpecification {
    fn new_topic<'a>(
        &'a self,
        options: &TopicOptions,
        values: &'a HashMap<&'static str, String>,
    ) -> NewTopic<'a> {
        let replication = TopicReplication::Fixed(options.topic_replication);
        values.iter().fold(
            NewTopic::new(&self.name, options.topic_partitions, replication),
            |topic, (name, value)| topic.set(name, value),
        )
    }

    fn values(&self, options: &TopicOptions) -> HashMap<&'static str, String> {
        let mut values = HashMap::from([
            ("cleanup.policy", self.cleanup_policy.to_owned()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("retention.ms", self.retention.as_millis().to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("min.insync.replicas", options.topic_min_insync_replicas.to_string()),
        ]);
        if let Some(lag) = self.min_compaction_lag {
            values.insert("min.compaction.lag.ms", lag.as_millis().to_string());
        }
        values
    }

    /// Compares what the topic is with what it must be. Larger is fine where larger keeps the
    /// promise.
    fn differences(&self, options: &TopicOptions, actual: &HashMap<String, String>) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, wanted) in self.values(options) {
            let found = actual.get(name).map_or("", String::as_str);
            let fits = match name {
                "cleanup.policy" => same_words(found, &wanted),
                "message.timestamp.type" => found == wanted,
                // -1 is for ever.
                "retention.ms" => found == "-1" || at_least(found, &wanted),
                _ => at_least(found, &wanted),
            };
            if !fits {
                differences
                    .push(format!("topic {}: {name} is {found}, must be {wanted}", self.name));
            }
        }
        differences.sort();
        differences
    }
}

fn at_least(found: &str, wanted: &str) -> bool {
    matches!((found.parse::<i64>(), wanted.parse::<i64>()), (Ok(found), Ok(wanted)) if found >= wanted)
}

fn same_words(found: &str, wanted: &str) -> bool {
    let words = |text: &str| {
        let mut words: Vec<_> = text.split(',').map(|word| word.trim().to_owned()).collect();
        words.sort();
        words
    };
    words(found) == words(wanted)
}

/// Why the topics cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The brokers could not be reached. Trying again later may help.
    #[error("cannot reach Kafka: {0}")]
    Unreachable(#[from] Unanswered),
    /// The brokers could not be asked. Trying again later may help.
    #[error("cannot ask Kafka about its topics: {0}")]
    Unanswered(#[from] KafkaError),
    /// This user may not do what it has to. Somebody has to allow it; trying again then helps.
    #[error("Kafka does not permit it: {}", .0.join("; "))]
    NotPermitted(Vec<String>),
    /// Topics are not there, as far as one broker knows. Others may be about to make them.
    #[error("{}", .0.join("; "))]
    Missing(Vec<String>),
    /// The topics are not as they must be; somebody has to mend them.
    #[error("{}", .0.join("; "))]
    Unfit(Vec<String>),
    /// The client's own configuration is wrong.
    #[error("{0}")]
    Configuration(String),
}

impl TopicError {
    /// Whether it may go by itself, or by what others do elsewhere.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Unanswered(_)
            | Self::NotPermitted(_)
            | Self::Missing(_) => true,
            Self::Unfit(_) | Self::Configuration(_) => false,
        }
    }
}

/// For how long topics may be missing until nobody is expected to make them: a broker that has just
/// started learns of them late, and whoever makes them may have been started at the same time.
const MISSING_FOR_GOOD_AFTER: Duration = Duration::from_secs(30);

/// How long one question about topics may take. Each attempt asks a broker of the client's choice:
/// while one of several is silent, what counts is to ask another soon.
const TOPIC_QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The client that asks.
const CLIENT: &str = "tapedeck-admin";

/// The pauses before the topics are checked again while Kafka cannot be reached.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// [`ensure`], for as long as it takes to reach Kafka and to be permitted to ask; `told` hears of
/// each failure and how long the pause after it is.
///
/// # Errors
/// [`TopicError::Unfit`], [`TopicError::Configuration`], and [`TopicError::Missing`] where they stay
/// so.
pub async fn ensure_once_reachable(
    kafka: &KafkaOptions,
    options: &TopicOptions,
    limits: SizeLimits,
    told: impl FnMut(&TopicError, Duration),
) -> Result<(), TopicError> {
    let pauses = ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    let client_log = ClientLog::new(CLIENT);
    let mut missing_since = None;
    let worth_trying = |error: &TopicError| {
        if matches!(error, TopicError::Missing(_)) {
            let since = *missing_since.get_or_insert_with(Instant::now);
            return since.elapsed() < MISSING_FOR_GOOD_AFTER;
        }
        missing_since = None;
        error.may_pass()
    };
    (|| ensure(kafka, options, limits, &client_log))
        .retry(pauses)
        .sleep(tokio::time::sleep)
        .when(worth_trying)
        .notify(told)
        .await
}

/// Creates missing topics if told to, and checks that all three are as the settings need them.
///
/// # Errors
/// See [`TopicError`]; every difference is named at once.
async fn ensure(
    kafka: &KafkaOptions,
    options: &TopicOptions,
    limits: SizeLimits,
    client_log: &ClientLog,
) -> Result<(), TopicError> {
    let client_id = unique_client_id(CLIENT, 0);
    let inquiry = Inquiry::new(kafka, &client_id).map_err(TopicError::Configuration)?;
    let specifications = options.specifications(limits);
    let see = async |topic: &str| inquiry.visibility(topic, TOPIC_QUESTION_TIMEOUT).await;
    // Before all else: what cannot be reached is told with its cause.
    see(&options.events()).await?;
    let admin: AdminClient<ClientLog> = kafka
        .client(&client_id, [])
        .map_err(TopicError::Configuration)?
        .create_with_context(client_log.clone())?;
    let request = AdminOptions::new().request_timeout(Some(TOPIC_QUESTION_TIMEOUT));
    if options.create_topics {
        create(&admin, &request, options, &specifications).await?;
    }
    let resources: Vec<_> =
        specifications.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let described = admin.describe_configs(&resources, &request).await?;
    // A broker learns of a new topic a moment after the controller has made it.
    let not_yet_known = || KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition);
    let (mut differences, mut missing, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
    let mut retentions = Vec::new();
    for (specification, result) in specifications.iter().zip(described) {
        let name = &specification.name;
        let entries = result.map_err(KafkaError::AdminOp)?.entries;
        // The client passes over why a topic's configuration is not there.
        if entries.is_empty() {
            match see(name).await? {
                Visibility::Missing if options.create_topics => return Err(not_yet_known().into()),
                Visibility::Missing => {
                    missing.push(format!("topic {name} does not exist (--create-topics makes it)"));
                }
                Visibility::Visible | Visibility::Hidden => hidden
                    .push(format!("allow this user DescribeConfigs on topic {name}, if it exists")),
            }
            continue;
        }
        let actual: HashMap<_, _> =
            entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
        retentions.push(actual.get("retention.ms").and_then(|it| it.parse().ok()));
        differences.extend(specification.differences(options, &actual));
    }
    if differences.is_empty() && !missing.is_empty() {
        return Err(TopicError::Missing(missing));
    }
    if differences.is_empty() && !hidden.is_empty() {
        return Err(TopicError::NotPermitted(hidden));
    }
    if let [Some(events), Some(webstates), Some(dead_letters)] = retentions[..] {
        differences.extend(retention_differences(events, webstates, dead_letters));
    }
    if differences.is_empty() { Ok(()) } else { Err(TopicError::Unfit(differences)) }
}

/// Compares how long the topics keep their records (milliseconds; -1 is for ever): pages at least
/// as long as the events that refer to them, dead letters longer, so that there is time to act.
fn retention_differences(events: i64, webstates: i64, dead_letters: i64) -> Vec<String> {
    let endless = |retention: i64| if retention < 0 { i64::MAX } else { retention };
    let (events, webstates, dead_letters) =
        (endless(events), endless(webstates), endless(dead_letters));
    let mut differences = Vec::new();
    if webstates < events {
        differences.push("page states are kept for a shorter time than events".to_owned());
    }
    if dead_letters <= events && dead_letters < i64::MAX {
        differences.push("dead letters are not kept for longer than events".to_owned());
    }
    differences
}

async fn create(
    admin: &AdminClient<ClientLog>,
    request: &AdminOptions,
    options: &TopicOptions,
    specifications: &[TopicSpecification],
) -> Result<(), TopicError> {
    let values: Vec<_> = specifications.iter().map(|topic| topic.values(options)).collect();
    let topics: Vec<_> = specifications
        .iter()
        .zip(&values)
        .map(|(specification, values)| specification.new_topic(options, values))
        .collect();
    let (mut refused, mut forbidden) = (Vec::new(), Vec::new());
    for result in admin.create_topics(&topics, request).await? {
        match result {
            // Another service may have been faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((
                _,
                code @ (RDKafkaErrorCode::RequestTimedOut | RDKafkaErrorCode::NotController),
            )) => {
                return Err(KafkaError::AdminOp(code).into());
            }
            Err((
                topic,
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => forbidden.push(format!("allow this user Create on topic {topic}")),
            Err((topic, code)) => refused.push(format!("topic {topic} cannot be created: {code}")),
        }
    }
    match (refused.is_empty(), forbidden.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(TopicError::NotPermitted(forbidden)),
        (false, _) => Err(TopicError::Unfit(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_outlive_events_and_dead_letters_outlive_both() {
        fn check(events: i64, webstates: i64, dead_letters: i64, expected: usize) {
            let differences = retention_differences(events, webstates, dead_letters);
            assert_eq!(differences.len(), expected, "{events} {webstates} {dead_letters}");
        }
        check(7, 7, 30, 0);
        check(7, 6, 30, 1);
        check(7, 7, 7, 1);
        check(-1, 7, 30, 2);
        check(-1, -1, -1, 0);
        check(7, -1, 30, 0);
    }

    #[test]
    fn differences_that_break_a_promise_are_named() {
        let options = TopicOptions {
            topic_prefix: String::new(),
            create_topics: false,
            topic_partitions: 1,
            topic_replication: 1,
            topic_min_insync_replicas: 1,
            topic_retention_hours: 1,
            dead_letter_retention_hours: 2,
        };
        let limits = SizeLimits { record_limit_bytes: 1 << 20, page_limit_bytes: 1 << 20 };
        let [_, webstates, _] = options.specifications(limits);
        let check = |name: &str, value: &str, expected: usize| {
            let mut actual: HashMap<String, String> = webstates
                .values(&options)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            actual.insert(name.to_owned(), value.to_owned());
            assert_eq!(webstates.differences(&options, &actual).len(), expected, "{name}={value}");
        };
        check("cleanup.policy", "delete,compact", 0);
        check("cleanup.policy", "compact", 1);
        check("message.timestamp.type", "CreateTime", 1);
        check("retention.ms", "-1", 0);
        check("retention.ms", "3599999", 1);
        check("max.message.bytes", "99999999", 0);
        check("max.message.bytes", "1000", 1);
        check("min.compaction.lag.ms", "0", 1);
    }
}
