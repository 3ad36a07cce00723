//! Asking brokers what this user may see, and why they do not answer.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::types::RDKafkaRespErr;

use super::{KafkaOptions, Reported, Reports};

/// Whether a topic is there, as far as this user may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// It is.
    Visible,
    /// It is not.
    Missing,
    /// This user may not know.
    Hidden,
}

/// Why brokers did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{error}{reported}")]
pub struct Unanswered {
    /// What became of the question.
    error: KafkaError,
    /// What the client reported meanwhile.
    reported: Reported,
}

/// A client to ask with. (An `AdminClient` asks more, and drops what Kafka's client reports.)
pub struct Inquiry {
    /// A producer's reports are heard on a thread of its own; it produces nothing.
    client: Arc<FutureProducer<Reports>>,
    reports: Reports,
}

impl Inquiry {
    /// A client of its own; it connects when it asks.
    ///
    /// # Errors
    /// Names the setting that librdkafka does not take.
    pub fn new(kafka: &KafkaOptions, client_id: &str) -> Result<Self, String> {
        let reports = Reports::default();
        let client = kafka
            .client(client_id, [])?
            .create_with_context(reports.clone())
            .map_err(|error: KafkaError| error.to_string())?;
        Ok(Self { client: Arc::new(client), reports })
    }

    /// Asks for a topic.
    ///
    /// # Errors
    /// When no broker answers within `timeout`.
    pub async fn visibility(
        &self,
        topic: &str,
        timeout: Duration,
    ) -> Result<Visibility, Unanswered> {
        let (client, name) = (Arc::clone(&self.client), topic.to_owned());
        let question = tokio::task::spawn_blocking(move || {
            let metadata = client.client().fetch_metadata(Some(&name), timeout)?;
            match metadata.topics().first().and_then(|topic| topic.error()) {
                None => Ok(Visibility::Visible),
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
                    Ok(Visibility::Missing)
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                    Ok(Visibility::Hidden)
                }
                Some(code) => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::from(code))),
            }
        });
        // Ended early only by the end of the runtime.
        let answer = question.await.unwrap_or(Err(KafkaError::Canceled));
        answer.map_err(|error| Unanswered { error, reported: self.reports.take() })
    }
}
