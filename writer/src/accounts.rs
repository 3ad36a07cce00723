//! Where every event of every readable record went, in this process.
//!
//! `consumed = written + duplicate + dead-lettered + returned + in flight` holds at every scrape:
//! the figures live behind one lock and are read at one moment.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

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

common::metrics! {
    /// The accounts as Prometheus sees them: at any scrape, consumed is the sum of the others.
    pub struct AccountMetrics {
        /// Events in readable records taken from Kafka.
        consumed: IntCounter = "tapedeck_writer_events_consumed_total";
        /// Events that became new rows.
        written: IntCounter = "tapedeck_writer_events_written_total";
        /// Events whose id was stored before.
        duplicate: IntCounter = "tapedeck_writer_events_duplicate_total";
        /// Events that Postgres refused and that went to the dead letters.
        dead_lettered: IntCounter = "tapedeck_writer_events_dead_lettered_total";
        /// Events given up unwritten because their partition was lost or a deadline passed; they are consumed again, here or elsewhere.
        returned: IntCounter = "tapedeck_writer_events_returned_total";
        /// Events consumed that are neither written nor duplicate, dead-lettered or returned.
        in_flight: IntGauge = "tapedeck_writer_events_in_flight";
    }
}

/// Takes the accounts over when it is scraped.
struct Exported {
    accounts: Accounts,
    /// Held while the figures are taken over: two scrapes at once would mix theirs.
    scrape: Mutex<()>,
    metrics: AccountMetrics,
}

impl Exported {
    fn new(accounts: Accounts) -> prometheus::Result<Self> {
        let metrics = AccountMetrics::register(&Registry::new())?;
        Ok(Self { accounts, scrape: Mutex::default(), metrics })
    }
}

impl Collector for Exported {
    fn desc(&self) -> Vec<&Desc> {
        let AccountMetrics { consumed, written, duplicate, dead_lettered, returned, in_flight } =
            &self.metrics;
        let counters = [consumed, written, duplicate, dead_lettered, returned];
        counters.iter().flat_map(|it| it.desc()).chain(in_flight.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _scrape = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let (counts, metrics) = (self.accounts.read(), &self.metrics);
        let pairs = [
            (&metrics.consumed, counts.consumed),
            (&metrics.written, counts.settled.written),
            (&metrics.duplicate, counts.settled.duplicate),
            (&metrics.dead_lettered, counts.settled.dead_lettered),
            (&metrics.returned, counts.returned),
        ];
        let mut families = Vec::with_capacity(pairs.len() + 1);
        for (counter, value) in pairs {
            counter.reset();
            counter.inc_by(value);
            families.extend(counter.collect());
        }
        metrics.in_flight.set(i64::try_from(counts.in_flight()).unwrap_or(i64::MAX));
        families.extend(metrics.in_flight.collect());
        families
    }
}
