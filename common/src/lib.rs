//! What Tapedeck's services share: identity, time and the record format, which are promises to
//! the outside, and the ways in which every service reads options, reaches Kafka and Postgres,
//! logs, exports metrics and stops.
//!
//! Nothing here knows a service; the services do not know each other.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

pub mod admin;
pub mod client_log;
pub mod database;
pub mod event_id;
pub mod failpoint;
pub mod heap;
pub mod json_text;
pub mod kafka;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod options;
pub mod page_hash;
pub mod record;
pub mod repeats;
pub mod schema;
mod secret_arguments;
pub mod shutdown;
pub mod time;
pub mod topics;
pub mod traces;

/// For the code that [`metrics!`] writes.
pub use prometheus;
