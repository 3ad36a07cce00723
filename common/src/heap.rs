//! What the allocator of the services holds: told apart from what the process has resident, which
//! also counts what Kafka's client allocates for itself.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Registry};
use tikv_jemalloc_ctl::{epoch, stats};

/// One figure that jemalloc keeps.
type Read = fn() -> tikv_jemalloc_ctl::Result<usize>;

/// The figures, with what the label `state` calls them. Their meaning is jemalloc's:
/// <https://jemalloc.net/jemalloc.3.html#stats.allocated>.
const STATES: [(&str, Read); 4] = [
    ("allocated", stats::allocated::read),
    ("active", stats::active::read),
    ("resident", stats::resident::read),
    ("retained", stats::retained::read),
];

crate::metrics! {
    /// What the allocator holds.
    pub struct HeapMetrics {
        /// What the allocator holds: allocated by the program, in active pages, resident in memory, retained as address space only.
        bytes: IntGaugeVec = "tapedeck_heap_bytes", labels ["state"];
    }
}

/// Exports what jemalloc holds. Only for processes whose global allocator it is.
///
/// # Errors
/// When the name is taken.
pub fn register(registry: &Registry) -> prometheus::Result<()> {
    // Of a registry of its own, and taken over at each scrape.
    let HeapMetrics { bytes } = HeapMetrics::register(&Registry::new())?;
    registry.register(Box::new(Heap { bytes }))
}

/// Reads the figures when it is scraped.
struct Heap {
    bytes: IntGaugeVec,
}

impl Collector for Heap {
    fn desc(&self) -> Vec<&Desc> {
        self.bytes.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The figures are of the last epoch. A build of jemalloc without them exports none.
        if epoch::advance().is_ok() {
            for (state, read) in STATES {
                if let Ok(bytes) = read() {
                    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.bytes.with_label_values(&[state]).set(bytes);
                }
            }
        }
        self.bytes.collect()
    }
}
