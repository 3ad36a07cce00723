//! The ingest gateway: takes recorder batches over HTTP, and answers 200 only when Kafka has them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests"))]

mod envelope;
mod problem;
