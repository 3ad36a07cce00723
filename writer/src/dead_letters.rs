//! Where records go that hold what Postgres refuses: as they were, with the reason.

use std::time::Duration;

use common::kafka::permissions::lacking_to_produce;
use common::kafka::{KafkaOptions, Reported, Reports, is_confirmed, unique_client_id};
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
    #[error("Kafka does not take it: {0}{1}")]
    NotTaken(KafkaError, Reported),
    /// This user may not write to the topic.
    #[error("{0}")]
    NotPermitted(String),
    /// Kafka's client takes it to be there, which no broker has confirmed.
    #[error("Kafka did not confirm it")]
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
    client_id: &str,
) -> Result<ClientConfig, String> {
    let settings = [
        ("enable.idempotence", "true".to_owned()),
        ("acks", "all".to_owned()),
        ("delivery.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string()),
        ("queue.buffering.max.kbytes", QUEUE_KIBIBYTES.to_owned()),
        ("message.max.bytes", limits.dead_letter_message_bytes().to_string()),
    ];
    kafka.client(client_id, settings)
}

/// A producer that sends one record after the other, and says why it cannot.
pub(crate) struct Courier {
    config: ClientConfig,
    producer: FutureProducer<Reports>,
    reports: Reports,
}

impl Courier {
    /// Makes the producer. It connects when first needed.
    ///
    /// # Errors
    /// Names the setting that librdkafka does not take.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let reports = Reports::default();
        let producer = config.create_with_context(reports.clone())?;
        Ok(Self { config, producer, reports })
    }

    /// Sends a record's key and value to a topic; returns once all in-sync replicas have it.
    ///
    /// # Errors
    /// See [`DeadLetterError`].
    pub(crate) async fn deliver(
        &self,
        topic: &str,
        message: &OwnedMessage,
        headers: OwnedHeaders,
    ) -> Result<(), DeadLetterError> {
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        record.key = message.key();
        record.payload = message.payload();
        let sent = self.producer.send_result(record);
        let delivery = sent.map_err(|(error, _)| self.explain(error, topic))?;
        match tokio::time::timeout(DELIVERY_TIMEOUT + DELIVERY_GRACE, delivery).await {
            Ok(Ok(Ok(delivery))) if is_confirmed(&delivery) => Ok(()),
            Ok(Ok(Ok(_presumed))) => Err(DeadLetterError::NotConfirmed),
            Ok(Ok(Err((error, _)))) => Err(self.explain(error, topic)),
            Ok(Err(_)) => Err(self.explain(KafkaError::Canceled, topic)),
            Err(_) => Err(DeadLetterError::NoAnswer),
        }
    }

    fn explain(&self, error: KafkaError, topic: &str) -> DeadLetterError {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let code = fatal.or_else(|| error.rdkafka_error_code());
        match code.and_then(|code| lacking_to_produce(code, topic)) {
            Some(lacking) => DeadLetterError::NotPermitted(lacking),
            None => DeadLetterError::NotTaken(error, self.reports.take()),
        }
    }

    /// Replaces a producer that an error left unusable for good, so that trying again can help.
    ///
    /// # Errors
    /// When librdkafka refuses to make another.
    fn renew_if_broken(&mut self) -> Result<(), KafkaError> {
        let Some((code, reason)) = self.producer.client().fatal_error() else {
            return Ok(());
        };
        tracing::debug!(%code, reason, "fatal producer error: replacing the producer");
        self.producer = self.config.create_with_context(self.reports.clone())?;
        Ok(())
    }
}

/// A lane's way to the dead letters.
pub struct DeadLetters {
    courier: Courier,
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
        let client_id = unique_client_id("tapedeck-dead-letters", lane);
        let config = durable_producer(kafka, limits, &client_id)?;
        let courier = Courier::new(config).map_err(|error| error.to_string())?;
        Ok(Self { courier, topic })
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
        let sent = self.courier.deliver(&self.topic, message, headers).await;
        if sent.is_err()
            && let Err(error) = self.courier.renew_if_broken()
        {
            return Err(DeadLetterError::NotTaken(error, Reported::default()));
        }
        sent
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

#[cfg(test)]
mod tests {
    use common::record::headers::{RECEIVED_AT, SCHEMA, TRACEPARENT, text};
    use rdkafka::Timestamp;

    use super::*;

    fn message(headers: OwnedHeaders) -> OwnedMessage {
        OwnedMessage::new(None, None, "t".into(), Timestamp::NotAvailable, 3, 5, Some(headers))
    }

    #[test]
    fn a_record_keeps_its_headers_in_the_dead_letters_and_back() {
        const HEADERS: [(&str, &str); 3] =
            [(SCHEMA, "1"), (RECEIVED_AT, "2026-10-15T12:00:00Z"), (TRACEPARENT, "00-1-2-01")];
        let sent = HEADERS.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let reason = Reason { class: "empty", message: "no value".to_owned(), events: None };
        let letter = message(dead_letter_headers(&message(sent), &reason));
        assert_eq!(text(letter.headers(), ERROR_CLASS), Some("empty"));
        let back = message(original_headers(&letter));
        for (name, value) in HEADERS {
            assert_eq!(text(letter.headers(), name), Some(value));
            assert_eq!(text(back.headers(), name), Some(value));
        }
        assert_eq!(text(back.headers(), ERROR_CLASS), None);
    }
}
