//! Whether requests are let through to Kafka.
//!
//! While Kafka does not acknowledge, every request would wait out the delivery time-out and hold
//! its bytes meanwhile. So after a failed delivery only one request at a time tries; the others
//! are told at once to come back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use crate::problem::{Kind, Problem};

/// What is known of Kafka. Every decision is here; [`Breaker`] shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The topics have not been checked yet.
    Unchecked,
    /// The last that was heard of Kafka was good.
    Passing,
    /// A delivery has failed, and none succeeded since.
    Failing {
        /// Which request tries now.
        probe: Option<ProbeId>,
        /// The next probe's.
        next: ProbeId,
    },
}

type ProbeId = u64;

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// Kafka has not been reached since the gateway started.
    #[error("Kafka has not been reached yet")]
    Unchecked,
    /// Kafka did not acknowledge the last record, and another request tries already.
    #[error("Kafka does not acknowledge records at the moment")]
    Failing,
}

impl From<Closed> for Problem {
    fn from(closed: Closed) -> Self {
        Self::new(Kind::KafkaUnreachable, closed.to_string())
    }
}

impl State {
    /// Whether a request would be let through now.
    fn check(self) -> Result<(), Closed> {
        match self {
            Self::Unchecked => Err(Closed::Unchecked),
            Self::Failing { probe: Some(_), .. } => Err(Closed::Failing),
            Self::Passing | Self::Failing { probe: None, .. } => Ok(()),
        }
    }

    /// Lets a request through, as the probe if it is one.
    fn admit(&mut self) -> Result<Option<ProbeId>, Closed> {
        self.check()?;
        match self {
            Self::Unchecked | Self::Passing => Ok(None),
            Self::Failing { probe, next } => {
                *probe = Some(*next);
                *next += 1;
                Ok(*probe)
            }
        }
    }

    fn checked(&mut self) {
        if *self == Self::Unchecked {
            *self = Self::Passing;
        }
    }

    fn acknowledged(&mut self) {
        if let Self::Failing { .. } = self {
            *self = Self::Passing;
        }
    }

    fn failed(&mut self) {
        if *self == Self::Passing {
            *self = Self::Failing { probe: None, next: 0 };
        }
    }

    /// The probe's request has ended, whatever it learnt.
    fn probe_ended(&mut self, ended: ProbeId) {
        if let Self::Failing { probe, .. } = self
            && *probe == Some(ended)
        {
            *probe = None;
        }
    }
}

/// The state, shared by all requests.
#[derive(Debug)]
pub struct Breaker {
    state: Mutex<State>,
    available: IntGauge,
}

impl Breaker {
    /// A breaker that lets nothing through until [`Breaker::checked`]; `available` tells whether
    /// requests are let through.
    pub fn new(available: IntGauge) -> Self {
        available.set(0);
        Self { state: Mutex::new(State::Unchecked), available }
    }

    /// Whether a request would be let through now: asked before its body is read, so that a
    /// slow body is not what everybody waits for.
    ///
    /// # Errors
    /// See [`Closed`].
    pub fn check(&self) -> Result<(), Closed> {
        self.lock().check()
    }

    /// Lets a request through to Kafka, or not. Keep the pass until the request has ended.
    ///
    /// # Errors
    /// See [`Closed`].
    pub fn admit(&self) -> Result<Pass<'_>, Closed> {
        let probe = self.lock().admit()?;
        Ok(Pass { breaker: self, probe })
    }

    /// The topics have been checked and found fit.
    pub fn checked(&self) {
        self.change(State::checked);
    }

    /// Whether the topics have been checked.
    pub fn is_checked(&self) -> bool {
        *self.lock() != State::Unchecked
    }

    /// Kafka has acknowledged a record.
    pub fn acknowledged(&self) {
        self.change(State::acknowledged);
    }

    /// Kafka has not acknowledged a record in time.
    pub fn failed(&self) {
        self.change(State::failed);
    }

    fn change(&self, transition: fn(&mut State)) {
        let mut state = self.lock();
        let before = *state;
        transition(&mut state);
        if *state == before {
            return;
        }
        let passing = *state == State::Passing;
        self.available.set(i64::from(passing));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that was let through.
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    probe: Option<ProbeId>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(probe) = self.probe {
            self.breaker.lock().probe_ended(probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(IntGauge::new("available", "Whether.").unwrap())
    }

    #[test]
    fn nothing_passes_before_the_topics_are_checked() {
        let breaker = breaker();
        assert_eq!(breaker.admit().unwrap_err(), Closed::Unchecked);
        breaker.failed();
        breaker.acknowledged();
        assert_eq!(breaker.admit().unwrap_err(), Closed::Unchecked);
        assert!(!breaker.is_checked());
        breaker.checked();
        assert!(breaker.admit().is_ok() && breaker.is_checked());
        assert_eq!(breaker.available.get(), 1);
    }

    #[test]
    fn after_a_failure_one_request_at_a_time_tries() {
        let breaker = breaker();
        breaker.checked();
        breaker.failed();
        assert_eq!(breaker.available.get(), 0);
        let probe = breaker.admit().unwrap();
        assert_eq!(breaker.admit().unwrap_err(), Closed::Failing);
        assert_eq!(breaker.check(), Err(Closed::Failing));
        breaker.failed();
        assert_eq!(breaker.admit().unwrap_err(), Closed::Failing);
        drop(probe);
        assert_eq!(breaker.check(), Ok(()));
        let second = breaker.admit().unwrap();
        assert_eq!(breaker.admit().unwrap_err(), Closed::Failing);
        breaker.acknowledged();
        let (third, fourth) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        assert_eq!(breaker.available.get(), 1);
        drop((second, third, fourth));
        assert!(breaker.admit().is_ok());
    }

    #[test]
    fn an_ended_probe_does_not_end_another() {
        let breaker = breaker();
        breaker.checked();
        breaker.failed();
        let first = breaker.admit().unwrap();
        let mut state = breaker.lock();
        state.probe_ended(0);
        assert_eq!(state.admit(), Ok(Some(1)));
        drop(state);
        drop(first);
        assert_eq!(breaker.admit().unwrap_err(), Closed::Failing);
    }
}
