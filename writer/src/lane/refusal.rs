//! What Kafka does not permit a lane is waited out, loud and unready, until somebody allows it.
//!
//! Kafka's client goes on trying by itself, but tells a refusal once and its end never, and looks
//! for a topic that it may not see every few minutes only. So the lane has it look again.

use std::time::{Duration, Instant};

use common::kafka::permissions::lacking_to_consume;
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;

use super::Lane;
use crate::health::Work;

/// How often it is looked whether the topic may be read by now.
const LOOK_AFTER: Duration = Duration::from_secs(3);

/// Without another refusal for so long, in which it was looked several times, it is over.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// How long a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// A topic that the lane may not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// When it was refused last.
    refused_at: Instant,
    look_at: Instant,
}

impl Refusal {
    fn is_over(self, now: Instant) -> bool {
        now.saturating_duration_since(self.refused_at) >= OVER_AFTER
    }
}

impl Lane {
    /// Notes what the lane lacks where an error is a refusal; whether it is one.
    pub(super) fn note_refusal(&mut self, code: RDKafkaErrorCode) -> bool {
        let group = &self.parts.options.consumer_group;
        let Some(lacking) = lacking_to_consume(code, self.topic.name(), group) else {
            return false;
        };
        self.parts.health.failed(Work::Consuming, &lacking);
        if code == RDKafkaErrorCode::TopicAuthorizationFailed {
            let now = Instant::now();
            let look_at = self.refusal.map_or(now + LOOK_AFTER, |refusal| refusal.look_at);
            self.refusal = Some(Refusal { refused_at: now, look_at });
        }
        true
    }

    /// The lane reads again.
    pub(super) fn end_refusal(&mut self) {
        self.refusal = None;
        self.parts.health.succeeded(Work::Consuming);
    }

    /// While the topic may not be read, has Kafka's client look for it, and take what is assigned
    /// on anew, on which it tells the refusal again if it lasts.
    pub(super) fn look_for_permission_if_due(&mut self) {
        let now = Instant::now();
        let Some(refusal) = self.refusal.filter(|refusal| now >= refusal.look_at) else {
            return;
        };
        if refusal.is_over(now) {
            self.end_refusal();
            return;
        }
        // Of all topics: else the client does not tell its group.
        let seen = self.consumer.fetch_metadata(None, LOOK_TIMEOUT).is_ok_and(|metadata| {
            metadata
                .topics()
                .iter()
                .any(|it| it.name() == self.topic.name() && it.error().is_none())
        });
        let now = Instant::now();
        let refused_at = if seen { refusal.refused_at } else { now };
        self.refusal = Some(Refusal { refused_at, look_at: now + LOOK_AFTER });
        let assigned = self.consumer.assignment().is_ok_and(|it| it.count() > 0);
        self.position_lost |= seen && assigned;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_over_once_it_was_not_repeated_for_long_enough() {
        let refused_at = Instant::now();
        let refusal = Refusal { refused_at, look_at: refused_at };
        let check = |after, expected| assert_eq!(refusal.is_over(refused_at + after), expected);
        check(Duration::ZERO, false);
        check(OVER_AFTER / 2, false);
        check(OVER_AFTER, true);
        assert!(OVER_AFTER > 2 * LOOK_AFTER + LOOK_TIMEOUT, "it is looked in between");
    }
}
