//! What runs Tapedeck on one machine, for the demo and for the tests that need the real Kafka,
//! the real Postgres and the real service processes ([`stack`]); what plays recorded sessions
//! through it ([`recordings`], [`fleet`]); what was sent, on disk ([`ledger`]); what its tables must
//! then hold ([`model`]); whether they do ([`oracle`]), also
//! while everything is being broken ([`chaos`]); and the demo that shows all of it ([`demo`]).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

pub mod bench;
pub mod chaos;
pub mod demo;
pub mod fleet;
pub mod ledger;
pub mod model;
pub mod oracle;
pub mod recordings;
pub mod stack;
