//! Size limits that gateway, producers, topics and consumers share: all of them follow from one
//! setting.

use clap::Args;

use crate::options::{CheckOptions, Problems};

/// Bytes in a mebibyte.
pub const MIB: usize = 1 << 20;

/// What a record's key and headers may take of the record limit.
pub const RECORD_OVERHEAD_BYTES: usize = 4 * 1024;

/// What dead letters may be larger than other records: room for the headers that say why.
pub const DEAD_LETTER_HEADROOM_BYTES: usize = 64 * 1024;

/// What Kafka's batch framing may take beyond the records themselves.
const BATCH_FRAMING_BYTES: usize = 1024;

/// The one size setting.
#[derive(Clone, Copy, Debug, Args)]
pub struct SizeLimits {
    /// Largest Kafka record, with key and headers, in bytes. Producers, topics and consumers all
    /// follow from it.
    ///
    /// Change it for all services at once, and with it the topics' `max.message.bytes` and the
    /// brokers' `replica.fetch.max.bytes`.
    #[arg(long, env = "TAPEDECK_RECORD_LIMIT_BYTES", default_value_t = 10 * MIB)]
    pub record_limit_bytes: usize,

    /// Largest page state, decompressed, in bytes.
    ///
    /// Change it for gateways and writers alike; a page larger than the writer's limit goes to the
    /// dead letters.
    #[arg(long, env = "TAPEDECK_PAGE_LIMIT_BYTES", default_value_t = 16 * MIB)]
    pub page_limit_bytes: usize,
}

impl SizeLimits {
    /// The largest value of a record of the events or page states topic.
    pub const fn value_limit_bytes(self) -> usize {
        self.record_limit_bytes - RECORD_OVERHEAD_BYTES
    }

    /// `max.message.bytes` of the events and page states topics.
    pub const fn topic_message_bytes(self) -> usize {
        self.record_limit_bytes + BATCH_FRAMING_BYTES
    }

    /// `max.message.bytes` of the dead letters topic.
    pub const fn dead_letter_message_bytes(self) -> usize {
        self.topic_message_bytes() + DEAD_LETTER_HEADROOM_BYTES
    }
}

impl CheckOptions for SizeLimits {
    fn check(&self, problems: &mut Problems) {
        let smallest = 64 * 1024;
        let largest = 1 << 30;
        problems.require(
            (smallest..=largest).contains(&self.record_limit_bytes),
            format!("--record-limit-bytes must be between {smallest} and {largest}"),
        );
        problems.require(
            (1..=largest).contains(&self.page_limit_bytes),
            format!("--page-limit-bytes must be between 1 and {largest}"),
        );
    }
}
