//! What a recorder does with an answer: the contract's table, and nothing else.

use std::time::Duration;

use crate::ledger::Outcome;

/// The first wait where the gateway does not name one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait where the gateway does not name one.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait that a recorder lets a gateway ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What became of a request, as far as the recorder can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200, with the counts that were sent.
    Acknowledged,
    /// A status after which the same bytes must not be sent again.
    Refused(u16),
    /// 408: too slow for its size.
    TooSlow,
    /// 429 or 503.
    Later {
        /// Which of the two.
        status: u16,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// No answer, or none that the contract knows: whether the batch has arrived is open.
    Unclear(&'static str),
}

impl Answer {
    /// The status, if there was an answer that the contract knows.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Acknowledged => Some(200),
            Self::Refused(status) | Self::Later { status, .. } => Some(*status),
            Self::TooSlow => Some(408),
            Self::Unclear(_) => None,
        }
    }

    /// What it is called in a report: its status, or why there is none.
    pub(super) fn name(&self) -> String {
        match (self, self.status()) {
            (Self::Unclear(reason), _) => (*reason).to_owned(),
            (_, status) => status.unwrap_or_default().to_string(),
        }
    }

    /// Whether this gateway cannot be worked with just now, so that a load balancer would go on
    /// to the next.
    pub(super) fn is_gateways_trouble(&self) -> bool {
        matches!(self, Self::Later { status: 503, .. } | Self::Unclear(_))
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing more.
    Settle(Outcome),
    /// Send the same bytes once more.
    Resend {
        /// After this long.
        after: Duration,
    },
    /// Send what the batch holds in two smaller ones.
    Halve {
        /// After this long.
        after: Duration,
    },
}

/// Decides on attempt `attempt` (from 1), `elapsed` after the first one began. `jitter` is from
/// 0 to 1: recorders that were turned away together must not come back together.
pub(super) fn next(
    answer: &Answer,
    attempt: u32,
    elapsed: Duration,
    patience: Duration,
    jitter: f64,
) -> Step {
    let own_wait = backoff(attempt).mul_f64(0.5 + jitter / 2.0);
    let step = match answer {
        Answer::Acknowledged => return Step::Settle(Outcome::Acknowledged),
        Answer::Refused(_) => return Step::Settle(Outcome::Refused),
        Answer::TooSlow => Step::Halve { after: own_wait },
        // Never earlier than asked for, and a little later each on its own.
        Answer::Later { retry_after: Some(asked), .. } => {
            let asked = (*asked).min(LONGEST_RETRY_AFTER);
            Step::Resend { after: asked + FIRST_WAIT.mul_f64(jitter) }
        }
        Answer::Later { retry_after: None, .. } | Answer::Unclear(_) => {
            Step::Resend { after: own_wait }
        }
    };
    if elapsed < patience { step } else { Step::Settle(Outcome::Unknown) }
}

fn backoff(attempt: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn check(answer: &Answer, attempt: u32, elapsed_seconds: u64, expected: Step) {
        let elapsed = Duration::from_secs(elapsed_seconds);
        assert_eq!(next(answer, attempt, elapsed, PATIENCE, 1.0), expected, "{answer:?}");
    }

    fn later(retry_after_seconds: Option<u64>) -> Answer {
        Answer::Later { status: 503, retry_after: retry_after_seconds.map(Duration::from_secs) }
    }

    fn resend(after_ms: u64) -> Step {
        Step::Resend { after: Duration::from_millis(after_ms) }
    }

    #[test]
    fn the_table_of_answers_is_followed() {
        check(&Answer::Acknowledged, 1, 0, Step::Settle(Outcome::Acknowledged));
        check(&Answer::Refused(422), 1, 0, Step::Settle(Outcome::Refused));
        check(&Answer::TooSlow, 1, 0, Step::Halve { after: FIRST_WAIT });
        check(&later(Some(1)), 1, 0, resend(1_200));
        check(&later(None), 1, 0, resend(200));
        check(&Answer::Unclear("connect"), 1, 0, resend(200));
    }

    #[test]
    fn waits_grow_up_to_a_bound() {
        check(&Answer::Unclear("connect"), 3, 0, resend(800));
        check(&Answer::Unclear("connect"), 40, 0, resend(5_000));
        check(&later(Some(86_400)), 40, 0, resend(30_200));
    }

    #[test]
    fn patience_ends_what_is_open_but_not_what_is_decided() {
        check(&later(Some(1)), 9, 60, Step::Settle(Outcome::Unknown));
        check(&Answer::TooSlow, 9, 60, Step::Settle(Outcome::Unknown));
        check(&Answer::Acknowledged, 9, 60, Step::Settle(Outcome::Acknowledged));
        check(&Answer::Refused(400), 9, 60, Step::Settle(Outcome::Refused));
    }
}
