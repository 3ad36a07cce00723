//! The writer, fed with records as the gateway makes them.

mod commands;
mod delivery;
mod foreign_keys;
mod offsets;
mod outages;
mod poison;
mod rebalance;
mod replication;
pub(crate) mod support;
