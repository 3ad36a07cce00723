//! Records to Kafka: an idempotent producer, and what became of each record.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use clap::Args;
use common::client_log::ClientLog;
use common::kafka::permissions::lacking_to_produce;
use common::kafka::{KafkaOptions, is_confirmed, unique_client_id};
use common::limits::{MIB, SizeLimits};
use common::options::{CheckOptions, Problems};
use common::repeats::Repeats;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientConfig, Message};

use crate::breaker::Breaker;
use crate::metrics::{ACKNOWLEDGED, FAILED, GatewayMetrics};
use crate::problem::{Kind, Problem};

/// How long librdkafka waits for more records to send together, in milliseconds: long enough to
/// halve requests at 64 connections against none, too short to be felt.
const LINGER_MS: &str = "2";

/// How often librdkafka tells how full its queue is, in milliseconds.
const STATISTICS_INTERVAL_MS: &str = "1000";

/// How much longer than the delivery time-out a delivery report is waited for: librdkafka looks
/// for timed-out records once a second.
const REPORT_GRACE: Duration = Duration::from_secs(3);

/// How records are produced.
#[derive(Clone, Copy, Debug, Args)]
pub struct ProducerOptions {
    /// Seconds within which Kafka has to acknowledge a record; then the request gets 503.
    ///
    /// Raise it when Kafka's leaders change more slowly than this and recorders should wait rather
    /// than come back.
    #[arg(long, env = "TAPEDECK_DELIVERY_TIMEOUT_SECONDS", default_value_t = 10)]
    pub delivery_timeout_seconds: u64,

    /// Bytes of records that may wait for Kafka; beyond them requests get 503.
    ///
    /// Raise it where memory allows when recorders get 503 for `queue_full` while Kafka is slow for
    /// moments.
    #[arg(long, env = "TAPEDECK_PRODUCER_QUEUE_LIMIT_BYTES", default_value_t = 48 * MIB)]
    pub producer_queue_limit_bytes: usize,
}

impl CheckOptions for ProducerOptions {
    fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=900).contains(&self.delivery_timeout_seconds),
            "--delivery-timeout-seconds must lie between 1 and 900",
        );
        problems.require(
            (MIB..=2_000 * MIB).contains(&self.producer_queue_limit_bytes),
            "--producer-queue-limit-bytes must lie between 1048576 and 2097152000",
        );
    }
}

/// Why a record is not known to be in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// More waits for Kafka than may wait.
    #[error("too many records wait for Kafka")]
    QueueFull,
    /// Kafka did not acknowledge in time; it may have the record nevertheless.
    #[error("Kafka did not acknowledge the records in time")]
    NotAcknowledged,
    /// Kafka's client takes the record to be in Kafka, which no broker has confirmed.
    #[error("Kafka did not confirm the records")]
    NotConfirmed,
    /// Kafka refuses the record, for a reason that is not the recorder's.
    #[error("Kafka refuses the records ({0})")]
    Refused(RDKafkaErrorCode),
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let kind = match error {
            PublishError::QueueFull => Kind::QueueFull,
            PublishError::NotAcknowledged
            | PublishError::NotConfirmed
            | PublishError::Refused(_) => Kind::KafkaUnreachable,
        };
        Self::new(kind, error.to_string())
    }
}

impl PublishError {
    fn of(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Self::QueueFull,
            Some(
                code @ (RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::PolicyViolation),
            ) => Self::Refused(code),
            _ => Self::NotAcknowledged,
        }
    }
}

/// A record to be produced.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a [u8],
}

/// A producer that replaces itself once librdkafka calls an error fatal.
pub struct Publisher {
    config: ClientConfig,
    current: RwLock<Current>,
    report_timeout: Duration,
    breaker: Arc<Breaker>,
    failures: Repeats,
    refusals: Repeats,
    renewals: Repeats,
    client_log: ClientLog,
    metrics: GatewayMetrics,
}

#[derive(Clone)]
struct Current {
    producer: FutureProducer<ProducerContext>,
    generation: u64,
}

impl Publisher {
    /// A producer; it connects by itself, and again whenever it has to.
    ///
    /// # Errors
    /// Names the setting that librdkafka does not take.
    pub fn new(
        kafka: &KafkaOptions,
        options: ProducerOptions,
        limits: SizeLimits,
        breaker: Arc<Breaker>,
        metrics: &GatewayMetrics,
    ) -> Result<Self, String> {
        let timeout = Duration::from_secs(options.delivery_timeout_seconds);
        let settings = [
            ("enable.idempotence", "true".to_owned()),
            ("acks", "all".to_owned()),
            ("linger.ms", LINGER_MS.to_owned()),
            ("compression.type", "lz4".to_owned()),
            ("message.timeout.ms", timeout.as_millis().to_string()),
            ("message.max.bytes", limits.topic_message_bytes().to_string()),
            ("queue.buffering.max.kbytes", (options.producer_queue_limit_bytes / 1024).to_string()),
            ("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_owned()),
        ];
        let client_id = unique_client_id("tapedeck-gateway", 0);
        let config = kafka.client(&client_id, settings)?;
        let client_log = ClientLog::new(client_id);
        let producer =
            produce_with(&config, &client_log, metrics).map_err(|error| error.to_string())?;
        Ok(Self {
            config,
            current: RwLock::new(Current { producer, generation: 0 }),
            report_timeout: timeout + REPORT_GRACE,
            breaker,
            failures: Repeats::default(),
            refusals: Repeats::default(),
            renewals: Repeats::default(),
            client_log,
            metrics: metrics.clone(),
        })
    }

    /// Hands a record to the producer at once; the future tells when Kafka has acknowledged it.
    pub fn publish(
        &self,
        record: Record<'_>,
        headers: OwnedHeaders,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<'_> {
        let begun = Instant::now();
        let Current { producer, generation } = self.current();
        let sent = producer
            .send_result(
                FutureRecord::to(record.topic)
                    .key(record.key)
                    .payload(record.value)
                    .headers(headers),
            )
            .map_err(|(error, record)| self.judge(&error, record.topic));
        async move {
            let result = match sent {
                Ok(report) => match tokio::time::timeout(self.report_timeout, report).await {
                    Ok(Ok(Ok(delivery))) if is_confirmed(&delivery) => Ok(()),
                    Ok(Ok(Ok(_presumed))) => Err(PublishError::NotConfirmed),
                    Ok(Ok(Err((error, message)))) => Err(self.judge(&error, message.topic())),
                    // The report was lost with the producer, or does not come.
                    Ok(Err(_)) | Err(_) => Err(PublishError::NotAcknowledged),
                },
                Err(error) => Err(error),
            };
            let outcome = if result.is_ok() { ACKNOWLEDGED } else { FAILED };
            let seconds = begun.elapsed().as_secs_f64();
            self.metrics.produce_seconds.with_label_values(&[outcome]).observe(seconds);
            match result {
                Ok(()) => self.note_success(),
                Err(error) => self.note_failure(error, generation),
            }
            result
        }
    }

    fn note_success(&self) {
        self.breaker.acknowledged();
        if let Some(over) = self.failures.over() {
            let (failures, seconds) = (over.failures, over.seconds());
            tracing::info!(failures, seconds, "Kafka acknowledges records again");
        }
    }

    /// What an error is to whoever sent the record; refusals are logged.
    fn judge(&self, error: &KafkaError, topic: &str) -> PublishError {
        let error = PublishError::of(error);
        if let PublishError::Refused(code) = error {
            let reason = lacking_to_produce(code, topic).unwrap_or_else(|| code.to_string());
            if let Some(left_out) = self.refusals.failed(&format_args!("{topic} {reason}")) {
                tracing::warn!(topic, reason, left_out, "Kafka refuses records");
            }
        }
        error
    }

    fn note_failure(&self, error: PublishError, generation: u64) {
        self.renew_if_broken(generation);
        // What was refused has been logged, with the topic.
        if !matches!(error, PublishError::Refused(_))
            && let Some(left_out) = self.failures.failed(&error)
        {
            tracing::warn!(%error, left_out, "a record is not acknowledged: its recorder is told to send it again");
        }
        if error == PublishError::NotAcknowledged {
            self.breaker.failed();
        }
    }

    /// Waits until all records are delivered or have failed. Blocks the thread.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> KafkaResult<()> {
        self.current().producer.flush(timeout)
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the producer of this generation if an error left it unusable for good: else only
    /// a restart would help.
    fn renew_if_broken(&self, generation: u64) {
        let broken = |current: &Current| {
            let fatal = current.producer.client().fatal_error();
            fatal.filter(|_| current.generation == generation)
        };
        if broken(&self.current()).is_none() {
            return;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let Some((code, reason)) = broken(&current) else {
            return;
        };
        match produce_with(&self.config, &self.client_log, &self.metrics) {
            Ok(producer) => {
                if let Some(left_out) = self.renewals.failed(&format_args!("{code} {reason}")) {
                    let advice = match lacking_to_produce(code, "").is_some() {
                        true => "allow this user Write on the topics of events and of page states",
                        false => "",
                    };
                    tracing::error!(
                        %code,
                        reason,
                        advice,
                        left_out,
                        "fatal producer error: producer replaced"
                    );
                }
                *current = Current { producer, generation: generation + 1 };
                self.metrics.producer_renewals.inc();
            }
            Err(error) => {
                if let Some(left_out) = self.renewals.failed(&error) {
                    tracing::error!(%error, %code, reason, left_out, "fatal producer error: the producer cannot be replaced");
                }
            }
        }
    }
}

fn produce_with(
    config: &ClientConfig,
    log: &ClientLog,
    metrics: &GatewayMetrics,
) -> KafkaResult<FutureProducer<ProducerContext>> {
    config.create_with_context(ProducerContext { log: log.clone(), metrics: metrics.clone() })
}

/// What librdkafka has to say.
struct ProducerContext {
    log: ClientLog,
    metrics: GatewayMetrics,
}

impl ClientContext for ProducerContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.note_error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.producer_queue_bytes.set(bytes(statistics.msg_size));
        self.metrics.producer_queue_limit_bytes.set(bytes(statistics.msg_size_max));
        self.log.note_statistics(&statistics);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const TOPIC: &str = "topic";

    /// How long the broker takes for each answer, so that two requests are under way at a time,
    /// however busy the machine is.
    const ROUND_TRIP: Duration = Duration::from_secs(3);

    fn publisher(brokers: String) -> Publisher {
        let kafka = KafkaOptions { brokers, properties: vec![], properties_file: None };
        let options =
            ProducerOptions { delivery_timeout_seconds: 20, producer_queue_limit_bytes: MIB };
        let limits = SizeLimits { record_limit_bytes: MIB, page_limit_bytes: MIB };
        let metrics = GatewayMetrics::with_series(&Registry::new()).unwrap();
        let breaker = Arc::new(Breaker::new(metrics.kafka_available.clone()));
        Publisher::new(&kafka, options, limits, breaker, &metrics).unwrap()
    }

    #[tokio::test]
    async fn a_record_that_no_broker_confirmed_is_not_acknowledged() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let publisher = publisher(cluster.bootstrap_servers());
        let publish = |key| {
            let record = Record { topic: TOPIC, key, value: b"{}" };
            publisher.publish(record, OwnedHeaders::new())
        };
        assert_eq!(publish("warms up").await, Ok(()));
        // As a broker does that has just been given the partition.
        let not_yet = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
        cluster.request_errors(RDKafkaApiKey::Produce, &[not_yet]);
        cluster.broker_round_trip_time(1, ROUND_TRIP).unwrap();
        let first = publish("first");
        // Longer than records wait for more to go with them, and shorter than the answer takes.
        tokio::time::sleep(ROUND_TRIP / 10).await;
        let second = publish("second");
        let (first, second) = futures::future::join(first, second).await;
        assert_eq!((first, second), (Err(PublishError::NotConfirmed), Ok(())));
    }

    #[test]
    fn errors_are_told_apart() {
        fn check(code: RDKafkaErrorCode, expected: PublishError) {
            assert_eq!(PublishError::of(&KafkaError::MessageProduction(code)), expected);
        }
        check(RDKafkaErrorCode::QueueFull, PublishError::QueueFull);
        check(RDKafkaErrorCode::MessageTimedOut, PublishError::NotAcknowledged);
        check(RDKafkaErrorCode::AllBrokersDown, PublishError::NotAcknowledged);
        check(RDKafkaErrorCode::NotEnoughReplicas, PublishError::NotAcknowledged);
        let too_large = RDKafkaErrorCode::MessageSizeTooLarge;
        check(too_large, PublishError::Refused(too_large));
        assert_eq!(PublishError::of(&KafkaError::Canceled), PublishError::NotAcknowledged);
    }
}
