//! How service processes end, and which of their ends no fault explains.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use common::shutdown::EXIT_NOT_DRAINED;
use nix::sys::signal::Signal;

use crate::stack::Service;

/// What was done to a process that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing that ends a process.
    Nothing,
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Drain {
        /// Whether something that it depends on was out at the time.
        outage: bool,
    },
}

/// An end that is no finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As asked for.
    AsAsked,
    /// The drain's deadline passed, as it may in an outage.
    NotDrained,
}

/// The ends of a run that matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    /// Services that ended, or did not start, although no fault explains it.
    pub by_themselves: Vec<String>,
    /// Drains that an outage kept from being finished in time.
    pub not_drained: u64,
}

/// Judges ends and keeps those that matter.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<Ended>);

impl Ends {
    /// Judges the end of a process.
    ///
    /// # Errors
    /// When it ended otherwise than asked: that is noted, too.
    pub(super) fn judge(
        &self,
        name: &str,
        service: &Service,
        status: ExitStatus,
        asked: Asked,
    ) -> Result<End> {
        let Some(end) = end(status, asked) else {
            let ended = format!("{name} ended by itself: {status}");
            self.note(format!("{ended}{}", service.process().end_of_log()));
            bail!(ended);
        };
        if end == End::NotDrained {
            self.lock().not_drained += 1;
        }
        Ok(end)
    }

    /// Notes what no fault explains.
    pub(super) fn note(&self, what: String) {
        self.lock().by_themselves.push(what);
    }

    /// All so far.
    pub(super) fn so_far(&self) -> Ended {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an end is; `None` where it is not what was asked for.
fn end(status: ExitStatus, asked: Asked) -> Option<End> {
    let as_asked = match asked {
        Asked::Nothing => false,
        Asked::Kill => status.signal() == Some(Signal::SIGKILL as i32),
        Asked::Drain { .. } => status.success(),
    };
    let not_drained = status.code() == Some(EXIT_NOT_DRAINED.into());
    match asked {
        _ if as_asked => Some(End::AsAsked),
        Asked::Drain { outage: true } if not_drained => Some(End::NotDrained),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_as_asked_or_a_drain_in_an_outage_or_a_finding() {
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        let signal = |signal: Signal| ExitStatus::from_raw(signal as i32);
        let drain = |outage| Asked::Drain { outage };
        fn check(status: ExitStatus, asked: Asked, expected: Option<End>) {
            assert_eq!(end(status, asked), expected, "{status}, {asked:?}");
        }
        check(signal(Signal::SIGKILL), Asked::Kill, Some(End::AsAsked));
        check(signal(Signal::SIGSEGV), Asked::Kill, None);
        check(exit(0), Asked::Kill, None);
        check(exit(101), Asked::Kill, None);
        for outage in [false, true] {
            check(exit(0), drain(outage), Some(End::AsAsked));
            check(exit(1), drain(outage), None);
            check(signal(Signal::SIGTERM), drain(outage), None);
        }
        check(exit(70), drain(true), Some(End::NotDrained));
        check(exit(70), drain(false), None);
        for status in [exit(0), exit(70), signal(Signal::SIGKILL)] {
            check(status, Asked::Nothing, None);
        }
    }
}
