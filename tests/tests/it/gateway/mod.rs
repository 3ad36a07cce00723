//! The gateway, asked as recorders ask it, and what it leaves in Kafka.

mod bodies;
mod bombs;
mod browsers;
mod draining;
pub(crate) mod keys;
mod lines;
mod metrics;
mod outages;
mod records;
mod rotation;
mod statuses;
pub(crate) mod support;
