//! What probes are told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::admin::Health;

/// The health of the loop that rolls up.
#[derive(Debug)]
pub struct LoopHealth(Mutex<State>);

#[derive(Debug)]
struct State {
    next_sign_due: Instant,
    readiness: Result<(), String>,
}

impl LoopHealth {
    /// Of a loop that has yet to give its first sign of life, due within `within`.
    pub fn new(within: Duration) -> Self {
        Self(Mutex::new(State {
            next_sign_due: Instant::now() + within,
            readiness: Err("no roll-up tried yet".to_owned()),
        }))
    }

    /// The loop lives, and will say so again within `within`.
    pub fn alive_and_back_within(&self, within: Duration) {
        self.state().next_sign_due = Instant::now() + within;
    }

    /// How the last roll-up went; standing by while another reporter works is well too.
    pub fn last_attempt(&self, result: Result<(), String>) {
        self.state().readiness = result;
    }

    fn live_at(&self, now: Instant) -> Result<(), String> {
        let late = now.saturating_duration_since(self.state().next_sign_due);
        match late.is_zero() {
            true => Ok(()),
            false => Err(format!("the loop's sign of life is {late:?} late")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health for LoopHealth {
    fn live(&self) -> Result<(), String> {
        self.live_at(Instant::now())
    }

    fn ready(&self) -> Result<(), String> {
        self.state().readiness.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_alive_until_its_next_sign_is_late() {
        let before = Instant::now();
        let health = LoopHealth::new(Duration::from_secs(60));
        assert_eq!(health.live_at(before + Duration::from_secs(60)), Ok(()));
        assert!(health.live_at(Instant::now() + Duration::from_secs(61)).is_err());
        health.alive_and_back_within(Duration::from_secs(600));
        assert_eq!(health.live_at(before + Duration::from_secs(600)), Ok(()));
    }

    #[test]
    fn readiness_is_that_of_the_last_attempt() {
        let health = LoopHealth::new(Duration::from_secs(60));
        assert!(health.ready().is_err());
        health.last_attempt(Ok(()));
        assert_eq!(health.ready(), Ok(()));
        health.last_attempt(Err("Postgres is away".to_owned()));
        assert_eq!(health.ready(), Err("Postgres is away".to_owned()));
    }
}
