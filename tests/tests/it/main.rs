//! Tests against the real Kafka, the real Postgres and the real service processes: build those
//! first (`cargo build --workspace --bins`).

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod deliveries;
mod emails;
mod erasure;
mod exposition;
mod gateway;
mod kafka_security;
mod logs;
mod memory;
mod oracle;
mod partitions;
mod prometheus;
mod queries;
mod queries_data;
mod recordings;
mod reporter;
mod reporter_fixture;
mod reporter_serve;
mod roles;
mod rolling;
mod scaling;
mod schema;
mod schema_document;
mod secrets;
mod shutdown;
mod stack;
mod supervisor;
mod time_bounds;
mod tls;
mod traces;
mod writer;
