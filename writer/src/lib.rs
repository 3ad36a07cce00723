//! The writer: replay events from Kafka into Postgres, once, in order, each page state stored
//! once.
//!
//! Data flow one way: a [lane] polls Kafka, [reads](record) records and gathers them in a
//! [batch]; the [settler](settle) writes the batch through the [store], decides by [failure]
//! class what to retry and what to narrow down by [selection], and sends what Postgres refuses
//! for good to the [dead letters](dead_letters); then the lane commits the offsets. The
//! [accounts] say where every event went.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

pub mod accounts;
pub mod batch;
pub mod batch_span;
pub mod commands;
pub mod dead_letters;
pub mod failure;
pub mod health;
pub mod lane;
pub mod merge;
pub mod metrics;
pub mod migrate;
pub mod options;
pub mod poison_gauge;
pub mod record;
pub mod run;
pub mod selection;
pub mod settle;
pub mod store;
