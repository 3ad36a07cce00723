//! The ingest gateway: takes recorder batches over HTTP, and answers 200 only when Kafka has them.
//!
//! A request's way: [`server`] → [`routes`] → [`batches`], which reads the body ([`body`]),
//! decodes it ([`encoding`]), checks the envelopes ([`envelope`]), makes their records
//! ([`prepare`]) and waits until Kafka has acknowledged them ([`publication`], [`publish`]).
//! [`serve`] puts it all together.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

pub mod answers;
pub mod batches;
pub mod body;
pub mod breaker;
pub mod budget;
pub mod encoding;
pub mod envelope;
pub mod gateway;
pub mod health;
pub mod keys;
pub mod lines;
pub mod media_type;
pub mod metrics;
pub mod missing;
pub mod openapi;
pub mod options;
pub mod pages;
pub mod prepare;
pub mod problem;
pub mod processor;
pub mod publication;
pub mod publish;
pub mod rate_limit;
pub mod reload;
pub mod routes;
pub mod serve;
pub mod server;
pub mod spans;
pub mod tls;
pub mod trace_context;
