//! What travels through Kafka, written by the gateway and read by the writer.
//!
//! - [`events`]: one recorder batch, JSON, on the events topic;
//! - [`webstates`]: one page, zstd, on the page states topic;
//! - [`headers`]: what a consumer needs to know without parsing.

pub mod events;
pub mod headers;
pub mod webstates;

/// The version of the record format that this build writes. It reads this one and the one before.
pub const SCHEMA_VERSION: u32 = 1;

/// The oldest version of the record format that this build reads.
pub const OLDEST_READABLE_SCHEMA_VERSION: u32 = 1;
