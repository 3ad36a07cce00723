//! The memory of pages that Kafka has acknowledged, which each gateway keeps for itself.
//!
//! It only saves work: a page forgotten, or never heard of, is sent once more and stored once.

use std::time::Duration;

use clap::Args;
use common::options::{CheckOptions, Problems};
use common::page_hash::PageHash;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, Args)]
pub struct PageMemoryOptions {
    /// Pages remembered at most; the least recently used go first. Each takes about 200 bytes.
    ///
    /// Raise it when `tapedeck_gateway_page_memory_entries` is at the limit and pages are asked for
    /// again; lower it to save memory.
    #[arg(long, env = "TAPEDECK_PAGE_MEMORY_ENTRIES", default_value_t = 500_000)]
    pub page_memory_entries: u64,

    /// Seconds after the acknowledgement at which a page is forgotten, so that what was lost
    /// downstream is asked for again.
    ///
    /// Lower it to have pages that were lost downstream sent again sooner, at the price of more
    /// uploads.
    #[arg(long, env = "TAPEDECK_PAGE_MEMORY_SECONDS", default_value_t = 3_600)]
    pub page_memory_seconds: u64,
}

impl CheckOptions for PageMemoryOptions {
    fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=30 * 24 * 3_600).contains(&self.page_memory_seconds),
            "--page-memory-seconds must lie between 1 and 2592000",
        );
    }
}

/// Hashes of pages known to be in Kafka.
#[derive(Debug)]
pub struct PageMemory(Cache<PageHash, ()>);

impl PageMemory {
    /// A memory without a page in it.
    pub fn new(options: PageMemoryOptions) -> Self {
        let cache = Cache::builder()
            .max_capacity(options.page_memory_entries)
            // Counts from the insertion, whatever the entry's use.
            .time_to_live(Duration::from_secs(options.page_memory_seconds))
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self(cache)
    }

    /// Whether the page is known to be in Kafka.
    pub fn knows(&self, hash: PageHash) -> bool {
        self.0.contains_key(&hash)
    }

    /// Kafka has acknowledged the page.
    pub fn acknowledged(&self, hash: PageHash) {
        self.0.insert(hash, ());
    }

    /// How many pages are remembered. Lets go of those that are due.
    pub fn tidy(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_remembered_than_allowed_the_newest_first() {
        let options = PageMemoryOptions { page_memory_entries: 10, page_memory_seconds: 3_600 };
        let memory = PageMemory::new(options);
        let hashes: Vec<_> = (0..100_u8).map(|number| PageHash::of(&[number])).collect();
        for hash in &hashes {
            assert!(!memory.knows(*hash));
            memory.acknowledged(*hash);
            memory.tidy();
        }
        assert_eq!(memory.tidy(), 10);
        assert!(hashes[90..].iter().all(|hash| memory.knows(*hash)));
        assert!(!memory.knows(hashes[0]));
    }
}
