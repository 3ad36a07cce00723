//! What Kafka's client reports beside the answers to what it is asked: why it reaches no broker.
//!
//! Its answers then say no more than that the time is up.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What Kafka's client logs failed connections as, some of which it reports in no other way.
const CONNECTION_FAILED: &str = "FAIL";

/// Whether a report is only a consequence of others, which tell the cause.
pub fn is_consequence(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown)
}

/// The newest report of one client. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<Option<String>>>);

impl Reports {
    /// What was reported last since this was last asked for.
    pub fn take(&self) -> Reported {
        Reported(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    fn note(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(with_hint(reason));
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message);
        if facility == CONNECTION_FAILED {
            // The thread's name comes first.
            self.note(message.split_once("]: ").map_or(message, |(_, reason)| reason));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        if !is_consequence(&error) {
            self.note(reason);
        }
    }
}

impl ConsumerContext for Reports {}

/// Says what is to be thought of where a broker hangs up at the client's first question: so it does
/// with clear text where it wants TLS.
fn with_hint(reason: &str) -> String {
    match reason.contains("Disconnected") && reason.contains("in state APIVERSION_QUERY") {
        true => format!("{reason}; does security.protocol fit the listener?"),
        false => reason.to_owned(),
    }
}

/// A report, to stand behind the error that it explains; nothing where there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported(Option<String>);

impl fmt::Display for Reported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(reason) => write!(formatter, " ({reason})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_cause_is_told_once() {
        let reports = Reports::default();
        let report = |code, reason| reports.error(KafkaError::Global(code), reason);
        assert_eq!(reports.take().to_string(), "");
        report(RDKafkaErrorCode::Resolve, "unknown host");
        report(RDKafkaErrorCode::SSL, "unknown authority");
        report(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(reports.take().to_string(), " (unknown authority)");
        assert_eq!(reports.take(), Reported::default());
        let log = |facility, message| reports.log(RDKafkaLogLevel::Info, facility, message);
        log("FAIL", "[thrd:kafka:9093/bootstrap]: kafka:9093/bootstrap: Disconnected");
        log("CONFWARN", "[thrd:app]: nothing to do with it");
        assert_eq!(reports.take().to_string(), " (kafka:9093/bootstrap: Disconnected)");
    }

    #[test]
    fn a_broker_that_hangs_up_at_once_may_want_another_protocol() {
        fn check(reason: &str, expected: bool) {
            assert_eq!(with_hint(reason).contains("security.protocol"), expected, "{reason}");
        }
        check("k:9093: Disconnected: closed by peer (after 0ms in state APIVERSION_QUERY)", true);
        check("k:9093: Disconnected: closed by peer (after 9000ms in state UP)", false);
        check("k:9093: Connect failed: refused (after 0ms in state CONNECT)", false);
    }
}
