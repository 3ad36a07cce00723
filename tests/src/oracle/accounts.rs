//! Whether the counters of one process add up, scrape by scrape.
//!
//! A writer reads its accounts at one moment, so `consumed = written + duplicate + dead-lettered +
//! returned + in flight` holds exactly in each scrape. A gateway counts an event as received before
//! it counts it as accepted or rejected, but a scrape does not read both at one moment: so what was
//! accepted and rejected at one scrape has been received by the next, and while no request is under
//! way both are equal. And no counter of a process ever falls.

use std::collections::BTreeMap;

use crate::stack::Metrics;

/// The accounts of a writer at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WriterAccounts {
    /// Events of readable records taken from Kafka.
    pub consumed: f64,
    /// New rows.
    pub written: f64,
    /// Events that were there before.
    pub duplicate: f64,
    /// Events that Postgres refused.
    pub dead_lettered: f64,
    /// Events given up unwritten.
    pub returned: f64,
    /// Events that none of this has become of yet.
    pub in_flight: f64,
}

/// The accounts of a gateway at one scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GatewayAccounts {
    /// Events of envelopes that could be parsed.
    pub received: f64,
    /// Events acknowledged.
    pub accepted: f64,
    /// Events of envelopes that were parsed and then refused.
    pub rejected: f64,
}

/// Why a process' counters cannot be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AccountsError {
    /// A metric that others rely on is not exported.
    #[error("{0} is not exported")]
    Missing(String),
    /// What was consumed is not where it must be.
    #[error("consumed and accounted for differ by {}: {accounts:?}", accounts.unaccounted())]
    Writer {
        /// The accounts.
        accounts: WriterAccounts,
    },
    /// More was answered than had been received.
    #[error("{before:?} was answered before {received} events had been received")]
    Gateway {
        /// The scrape before.
        before: GatewayAccounts,
        /// Events received by now.
        received: f64,
    },
    /// Not all that was received has been answered, though nothing is under way.
    #[error("nothing is under way, and yet {0:?}")]
    Unanswered(GatewayAccounts),
    /// A counter fell within one process.
    #[error("{series} fell from {before} to {now}")]
    Fell {
        /// Which one.
        series: String,
        /// Its value at the scrape before.
        before: f64,
        /// Its value now.
        now: f64,
    },
}

impl WriterAccounts {
    /// Reads them.
    ///
    /// # Errors
    /// [`AccountsError::Missing`].
    pub fn of(metrics: &Metrics) -> Result<Self, AccountsError> {
        let total = |what: &str| figure(metrics, &format!("tapedeck_writer_events_{what}_total"));
        Ok(Self {
            consumed: total("consumed")?,
            written: total("written")?,
            duplicate: total("duplicate")?,
            dead_lettered: total("dead_lettered")?,
            returned: total("returned")?,
            in_flight: figure(metrics, "tapedeck_writer_events_in_flight")?,
        })
    }

    fn unaccounted(&self) -> f64 {
        let Self { consumed, written, duplicate, dead_lettered, returned, in_flight } = self;
        consumed - (written + duplicate + dead_lettered + returned + in_flight)
    }

    /// Checks that every event consumed is accounted for.
    ///
    /// # Errors
    /// [`AccountsError::Writer`].
    pub fn check(&self) -> Result<(), AccountsError> {
        // Counts of whole events, far below 2^53: exact.
        if self.unaccounted() == 0.0 && self.in_flight >= 0.0 {
            Ok(())
        } else {
            Err(AccountsError::Writer { accounts: *self })
        }
    }
}

impl GatewayAccounts {
    /// Reads them.
    ///
    /// # Errors
    /// [`AccountsError::Missing`].
    pub fn of(metrics: &Metrics) -> Result<Self, AccountsError> {
        let total = |what: &str| figure(metrics, &format!("tapedeck_gateway_events_{what}_total"));
        Ok(Self {
            received: total("received")?,
            accepted: total("accepted")?,
            rejected: total("rejected")?,
        })
    }

    /// Checks against the scrape before that nothing was answered before it was received.
    ///
    /// # Errors
    /// [`AccountsError::Gateway`].
    pub fn check_since(&self, before: Self) -> Result<(), AccountsError> {
        if before.accepted + before.rejected <= self.received {
            Ok(())
        } else {
            Err(AccountsError::Gateway { before, received: self.received })
        }
    }

    /// Checks that everything received is answered: for a moment without any request.
    ///
    /// # Errors
    /// [`AccountsError::Unanswered`].
    pub fn check_idle(&self) -> Result<(), AccountsError> {
        if self.accepted + self.rejected == self.received {
            Ok(())
        } else {
            Err(AccountsError::Unanswered(*self))
        }
    }
}

/// Watches the scrapes of one process, from its start to its end.
#[derive(Debug)]
pub struct Audit {
    service: Audited,
    counters: BTreeMap<String, f64>,
}

/// Whose scrapes.
#[derive(Debug)]
enum Audited {
    Writer,
    Gateway(GatewayAccounts),
}

impl Audit {
    /// Of a writer.
    pub fn of_writer() -> Self {
        Self { service: Audited::Writer, counters: BTreeMap::new() }
    }

    /// Of a gateway.
    pub fn of_gateway() -> Self {
        let none = GatewayAccounts::default();
        Self { service: Audited::Gateway(none), counters: BTreeMap::new() }
    }

    /// Checks a scrape, by itself and against those before.
    ///
    /// # Errors
    /// See [`AccountsError`].
    pub fn check(&mut self, metrics: &Metrics) -> Result<(), AccountsError> {
        let counters: BTreeMap<_, _> = metrics.counters().collect();
        let before = std::mem::replace(&mut self.counters, counters);
        for (series, before) in before {
            match self.counters.get(&series) {
                Some(now) if *now >= before => {}
                Some(now) => return Err(AccountsError::Fell { series, before, now: *now }),
                None => return Err(AccountsError::Missing(series)),
            }
        }
        match &mut self.service {
            Audited::Writer => WriterAccounts::of(metrics)?.check(),
            Audited::Gateway(last) => {
                let now = GatewayAccounts::of(metrics)?;
                now.check_since(std::mem::replace(last, now))
            }
        }
    }
}

fn figure(metrics: &Metrics, name: &str) -> Result<f64, AccountsError> {
    metrics.sum(name, &[]).ok_or_else(|| AccountsError::Missing(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(consumed: i64, others: [i64; 4], in_flight: i64) -> Metrics {
        let [written, duplicate, dead_lettered, returned] = others;
        let total =
            |what: &str, value: i64| format!("tapedeck_writer_events_{what}_total {value}\n");
        let text = [
            total("consumed", consumed),
            total("written", written),
            total("duplicate", duplicate),
            total("dead_lettered", dead_lettered),
            total("returned", returned),
            format!("tapedeck_writer_events_in_flight {in_flight}\n"),
        ];
        text.concat().parse().unwrap()
    }

    fn gateway(received: u64, accepted: u64, rejected: [u64; 2]) -> Metrics {
        let total = |what: &str, value: u64| format!("tapedeck_gateway_events_{what} {value}\n");
        let text = [
            total("received_total", received),
            total("accepted_total", accepted),
            total("rejected_total{reason=\"invalid\"}", rejected[0]),
            total("rejected_total{reason=\"unavailable\"}", rejected[1]),
        ];
        text.concat().parse().unwrap()
    }

    #[test]
    fn every_event_that_a_writer_consumed_is_accounted_for_exactly() {
        fn check(consumed: i64, others: [i64; 4], in_flight: i64, expected: bool) {
            let checked = Audit::of_writer().check(&writer(consumed, others, in_flight));
            assert_eq!(checked.is_ok(), expected, "{checked:?}");
        }
        check(15, [1, 2, 3, 4], 5, true);
        check(0, [0; 4], 0, true);
        check(16, [1, 2, 3, 4], 5, false);
        check(14, [1, 2, 3, 4], 5, false);
        check(1, [2, 0, 0, 0], -1, false);
    }

    #[test]
    fn a_gateway_answers_what_it_has_received_before() {
        fn check(scrapes: &[Metrics], expected: bool) {
            let mut audit = Audit::of_gateway();
            let checked: Result<Vec<()>, _> = scrapes.iter().map(|it| audit.check(it)).collect();
            assert_eq!(checked.is_ok(), expected, "{checked:?}");
        }
        check(&[gateway(6, 3, [1, 1]), gateway(6, 4, [1, 1])], true);
        // The first scrape read what was received before it read what was accepted.
        check(&[gateway(3, 5, [0, 0]), gateway(5, 5, [0, 0])], true);
        check(&[gateway(3, 5, [0, 0]), gateway(4, 5, [0, 0])], false);
        check(&[gateway(3, 2, [1, 1]), gateway(3, 2, [1, 1])], false);
        let idle = |metrics| GatewayAccounts::of(&metrics).unwrap().check_idle().is_ok();
        assert!(idle(gateway(6, 4, [1, 1])));
        assert!(!idle(gateway(6, 4, [1, 0])));
        assert!(!idle(gateway(6, 4, [1, 2])));
    }

    #[test]
    fn no_counter_falls_or_vanishes_within_a_process() {
        let mut audit = Audit::of_writer();
        audit.check(&writer(5, [5, 0, 0, 0], 0)).unwrap();
        audit.check(&writer(5, [5, 0, 0, 0], 0)).unwrap();
        let fell = audit.check(&writer(5, [4, 1, 0, 0], 0));
        assert!(matches!(fell, Err(AccountsError::Fell { now: 4.0, .. })), "{fell:?}");
        let missing = audit.check(&"up 1\n".parse().unwrap());
        assert!(matches!(missing, Err(AccountsError::Missing(_))), "{missing:?}");
    }
}
