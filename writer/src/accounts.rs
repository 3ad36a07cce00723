//! Where every event of every readable record went, in this process.
//!
//! `consumed = written + duplicate + dead-lettered + returned + in flight` holds at every scrape:
//! the figures live behind one lock and are read at one moment.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};

/// What became of the events of one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// New rows.
    pub written: u64,
    /// Events whose id was there already.
    pub duplicate: u64,
    /// Events sent to the dead letters.
    pub dead_lettered: u64,
}

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    consumed: u64,
    settled: Settled,
    returned: u64,
}

impl Counts {
    const fn in_flight(&self) -> u64 {
        let Settled { written, duplicate, dead_lettered } = self.settled;
        self.consumed - written - duplicate - dead_lettered - self.returned
    }
}

/// The events' accounts, shared by all lanes.
#[derive(Clone, Debug, Default)]
pub struct Accounts(Arc<Mutex<Counts>>);

impl Accounts {
    /// Makes the accounts and has the registry export them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let accounts = Self::default();
        registry.register(Box::new(Exported::new(accounts.clone())?))?;
        Ok(accounts)
    }

    /// Events were read from Kafka and are now in flight.
    pub fn consume(&self, events: usize) {
        self.update(|counts| counts.consumed += events as u64);
    }

    /// Events in flight found their end.
    pub fn settle(&self, settled: Settled) {
        self.update(|counts| {
            counts.settled.written += settled.written;
            counts.settled.duplicate += settled.duplicate;
            counts.settled.dead_lettered += settled.dead_lettered;
        });
    }

    /// Events in flight were given back: another writer will read them again.
    pub fn give_back(&self, events: usize) {
        self.update(|counts| counts.returned += events as u64);
    }

    fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn read(&self) -> Counts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The accounts as Prometheus sees them.
struct Exported {
    accounts: Accounts,
    /// Held while the figures are taken over: two scrapes at once would mix theirs.
    scrape: Mutex<()>,
    consumed: IntCounter,
    written: IntCounter,
    duplicate: IntCounter,
    dead_lettered: IntCounter,
    returned: IntCounter,
    in_flight: IntGauge,
}

impl Exported {
    fn new(accounts: Accounts) -> prometheus::Result<Self> {
        let counter = |what: &str, help: &str| {
            IntCounter::new(format!("tapedeck_writer_events_{what}_total"), help)
        };
        Ok(Self {
            accounts,
            scrape: Mutex::default(),
            consumed: counter("consumed", "Events in readable records taken from Kafka.")?,
            written: counter("written", "Events that became new rows.")?,
            duplicate: counter("duplicate", "Events whose id was stored before.")?,
            dead_lettered: counter(
                "dead_lettered",
                "Events that Postgres refused and that went to the dead letters.",
            )?,
            returned: counter(
                "returned",
                "Events given up unwritten because their partition was lost or a deadline passed; \
                 they are consumed again, here or elsewhere.",
            )?,
            in_flight: IntGauge::new(
                "tapedeck_writer_events_in_flight",
                "Events consumed that are neither written nor duplicate, dead-lettered or returned.",
            )?,
        })
    }
}

impl Collector for Exported {
    fn desc(&self) -> Vec<&Desc> {
        let counters =
            [&self.consumed, &self.written, &self.duplicate, &self.dead_lettered, &self.returned];
        let mut descriptions: Vec<_> = counters.iter().flat_map(|it| it.desc()).collect();
        descriptions.extend(self.in_flight.desc());
        descriptions
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _scrape = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = self.accounts.read();
        let pairs = [
            (&self.consumed, counts.consumed),
            (&self.written, counts.settled.written),
            (&self.duplicate, counts.settled.duplicate),
            (&self.dead_lettered, counts.settled.dead_lettered),
            (&self.returned, counts.returned),
        ];
        let mut families = Vec::with_capacity(pairs.len() + 1);
        for (counter, value) in pairs {
            counter.reset();
            counter.inc_by(value);
            families.extend(counter.collect());
        }
        self.in_flight.set(i64::try_from(counts.in_flight()).unwrap_or(i64::MAX));
        families.extend(self.in_flight.collect());
        families
    }
}
