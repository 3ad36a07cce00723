//! The writer, fed with records as the gateway makes them.

mod commands;
mod delivery;
mod offsets;
mod outages;
mod poison;
mod rebalance;
pub(crate) mod support;
