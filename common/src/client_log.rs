//! What Kafka's client has to say. While brokers are away it says so again with every attempt to
//! reach each of them.

use std::sync::Arc;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;

use crate::kafka::is_consequence;
use crate::repeats::Repeats;

/// What a client without a context of its own logs; contexts of other clients log through one.
#[derive(Clone, Debug)]
pub struct ClientLog {
    client: String,
    repeats: Arc<Repeats>,
}

impl ClientLog {
    /// For a client of that name, or several ones that follow each other.
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: client.into(), repeats: Arc::default() }
    }

    /// The client's name.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Logs an error unless it has just been logged.
    pub fn note_error(&self, error: &KafkaError, reason: &str) {
        if is_consequence(error) {
            tracing::debug!(client = self.client, %error, reason, "Kafka's client");
        } else if let Some(left_out) = self.repeats.failed(&format_args!("{error} {reason}")) {
            let client = &self.client;
            tracing::warn!(client, %error, reason, left_out, "Kafka's client reports an error");
        }
    }

    /// The client says how it is; the errors are over once no broker that it needs is away.
    pub fn note_statistics(&self, statistics: &Statistics) {
        let brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        let states: Vec<_> = brokers.map(|broker| broker.state.as_str()).collect();
        if is_reached(&states)
            && let Some(over) = self.repeats.over()
        {
            let (client, failures, seconds) = (&self.client, over.failures, over.seconds());
            tracing::info!(
                client,
                failures,
                seconds,
                "Kafka's client has reached its brokers again"
            );
        }
    }
}

/// Whether a client whose brokers are in these states
/// (<https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md>) reaches all that it
/// needs.
fn is_reached(states: &[&str]) -> bool {
    // Those that it has not needed yet stay in the first state.
    states.contains(&"UP") && states.iter().all(|state| matches!(*state, "UP" | "INIT"))
}

impl ClientContext for ClientLog {
    fn error(&self, error: KafkaError, reason: &str) {
        self.note_error(&error, reason);
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Errors come through `error` as well; the rest is for whoever debugs the client.
        tracing::debug!(client = self.client, facility, message, "Kafka's client");
    }

    fn stats(&self, statistics: Statistics) {
        self.note_statistics(&statistics);
    }
}

impl ConsumerContext for ClientLog {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_reached_once_none_that_is_needed_is_away() {
        fn check(states: &[&str], expected: bool) {
            assert_eq!(is_reached(states), expected, "{states:?}");
        }
        check(&["UP", "INIT", "UP"], true);
        check(&["UP", "DOWN"], false);
        check(&["UP", "TRY_CONNECT"], false);
        check(&["INIT"], false);
        check(&[], false);
    }
}
