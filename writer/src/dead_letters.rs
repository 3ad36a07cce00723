//! Where records go that hold what Postgres refuses: as they were, with the reason.

use std::time::Duration;

use common::kafka::{KafkaOptions, is_confirmed, unique_client_id};
use common::limits::SizeLimits;
use common::record::headers::{
    ERROR_CLASS, ERROR_EVENTS, ERROR_MESSAGE, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC,
    readable,
};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Message};

/// How long Kafka may take to acknowledge a dead letter before it is sent again.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much longer the answer is awaited than Kafka's client itself would.
const DELIVERY_GRACE: Duration = Duration::from_secs(5);

/// What may wait in the producer's queue: one lane sends one dead letter at a time.
const QUEUE_KIBIBYTES: &str = "65536";

/// Why a record goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A name of bounded variety.
    pub class: &'static str,
    /// The same for a person, without content.
    pub message: String,
    /// Which events, as ranges of places; none when the record could not be read.
    pub events: Option<String>,
}

/// Why a dead letter was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// Kafka refused it or did not answer.
    #[error("Kafka does not take the dead letter: {0}")]
    NotTaken(#[from] KafkaError),
    /// Kafka's client takes it to be there, which no broker has confirmed.
    #[error("Kafka did not confirm the dead letter")]
    NotConfirmed,
    /// No answer within the time-out.
    #[error("no answer within {} s", (DELIVERY_TIMEOUT + DELIVERY_GRACE).as_secs())]
    NoAnswer,
}

/// A producer's configuration for records that may be as large as any.
///
/// # Errors
/// When the Kafka options are wrong.
pub(crate) fn durable_producer(
    kafka: &KafkaOptions,
    limits: SizeLimits,
    name: &str,
    number: usize,
) -> Result<ClientConfig, String> {
    let settings = [
        ("enable.idempotence", "true".to_owned()),
        ("acks", "all".to_owned()),
        ("delivery.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string()),
        ("queue.buffering.max.kbytes", QUEUE_KIBIBYTES.to_owned()),
        ("message.max.bytes", limits.dead_letter_message_bytes().to_string()),
    ];
    kafka.client(&unique_client_id(name, number), settings)
}

/// A lane's way to the dead letters.
pub struct DeadLetters {
    config: ClientConfig,
    producer: FutureProducer,
    topic: String,
}

impl DeadLetters {
    /// Makes the producer. It connects when first needed.
    ///
    /// # Errors
    /// When the Kafka options are wrong.
    pub fn new(
        kafka: &KafkaOptions,
        limits: SizeLimits,
        topic: String,
        lane: usize,
    ) -> Result<Self, String> {
        let config = durable_producer(kafka, limits, "tapedeck-dead-letters", lane)?;
        let producer = config.create().map_err(|error| error.to_string())?;
        Ok(Self { config, producer, topic })
    }

    /// Sends a record; returns once all in-sync replicas have it. A producer that an error left
    /// unusable for good is replaced, so that trying again can help.
    ///
    /// # Errors
    /// See [`DeadLetterError`].
    pub async fn send(
        &mut self,
        message: &OwnedMessage,
        reason: &Reason,
    ) -> Result<(), DeadLetterError> {
        let headers = dead_letter_headers(message, reason);
        let sent = deliver(&self.producer, &self.topic, message, headers).await;
        if sent.is_err()
            && let Some((code, reason)) = self.producer.client().fatal_error()
        {
            tracing::error!(%code, reason, "fatal producer error: replacing the producer");
            self.producer = self.config.create()?;
        }
        sent
    }
}

/// Sends a record's key and value to a topic and awaits the acknowledgement.
pub(crate) async fn deliver(
    producer: &FutureProducer,
    topic: &str,
    message: &OwnedMessage,
    headers: OwnedHeaders,
) -> Result<(), DeadLetterError> {
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
    record.key = message.key();
    record.payload = message.payload();
    let delivery = producer.send_result(record).map_err(|(error, _)| error)?;
    match tokio::time::timeout(DELIVERY_TIMEOUT + DELIVERY_GRACE, delivery).await {
        Ok(Ok(Ok(delivery))) if is_confirmed(&delivery) => Ok(()),
        Ok(Ok(Ok(_presumed))) => Err(DeadLetterError::NotConfirmed),
        Ok(Ok(Err((error, _)))) => Err(error.into()),
        Ok(Err(_)) => Err(KafkaError::Canceled.into()),
        Err(_) => Err(DeadLetterError::NoAnswer),
    }
}

/// The original's headers, without those of an earlier time in the dead letters, and why.
pub fn dead_letter_headers(message: &OwnedMessage, reason: &Reason) -> OwnedHeaders {
    let partition = message.partition().to_string();
    let offset = message.offset().to_string();
    let mut headers = original_headers(message)
        .insert(Header { key: ERROR_CLASS, value: Some(reason.class) })
        .insert(Header { key: ERROR_MESSAGE, value: Some(&reason.message) })
        .insert(Header { key: ORIGINAL_TOPIC, value: Some(message.topic()) })
        .insert(Header { key: ORIGINAL_PARTITION, value: Some(&partition) })
        .insert(Header { key: ORIGINAL_OFFSET, value: Some(&offset) });
    if let Some(events) = &reason.events {
        headers = headers.insert(Header { key: ERROR_EVENTS, value: Some(events) });
    }
    headers
}

/// The headers that a record had before it went to the dead letters, but for those whose names
/// cannot be read.
pub fn original_headers(message: &OwnedMessage) -> OwnedHeaders {
    const OURS: [&str; 6] = [
        ERROR_CLASS,
        ERROR_MESSAGE,
        ERROR_EVENTS,
        ORIGINAL_TOPIC,
        ORIGINAL_PARTITION,
        ORIGINAL_OFFSET,
    ];
    let originals = message.headers().into_iter().flat_map(readable);
    originals
        .filter(|header| !OURS.contains(&header.key))
        .fold(OwnedHeaders::new(), OwnedHeaders::insert)
}
