//! Time, CPU seconds and write-ahead log that something took.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::stack::Stack;
use crate::stack::process::Process;

/// What something took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// Time that passed, in seconds.
    pub wall_seconds: f64,
    /// CPU seconds by process.
    pub cpu_seconds: BTreeMap<String, f64>,
    /// Bytes that Postgres wrote to its write-ahead log.
    pub wal_bytes: u64,
}

/// Counts from a moment on.
pub struct Meter<'a> {
    stack: &'a Stack,
    begun: Instant,
    wal_at_start: u64,
    processes: Vec<(&'static str, &'a Process)>,
    at_start: Vec<f64>,
}

impl<'a> Meter<'a> {
    /// Begins to count: the stack's servers, and `others`.
    ///
    /// # Errors
    /// When one of them has ended.
    pub async fn start(stack: &'a Stack, others: &[(&'static str, &'a Process)]) -> Result<Self> {
        let mut processes =
            vec![("kafka", stack.kafka().process()), ("postgres", stack.postgres().process())];
        processes.extend(others);
        let wal_at_start = wal_bytes(stack).await?;
        let at_start = cpu_seconds(&processes)?;
        Ok(Self { stack, begun: Instant::now(), wal_at_start, processes, at_start })
    }

    /// What it has come to.
    ///
    /// # Errors
    /// When one of the processes has ended.
    pub async fn read(&self) -> Result<Usage> {
        let wall_seconds = self.begun.elapsed().as_secs_f64();
        let now = cpu_seconds(&self.processes)?;
        let since = now.iter().zip(&self.at_start).map(|(now, then)| now - then);
        let names = self.processes.iter().map(|(name, _)| (*name).to_owned());
        let cpu_seconds = names.zip(since).collect();
        let wal_bytes = wal_bytes(self.stack).await? - self.wal_at_start;
        Ok(Usage { wall_seconds, cpu_seconds, wal_bytes })
    }
}

fn cpu_seconds(processes: &[(&'static str, &Process)]) -> Result<Vec<f64>> {
    processes.iter().map(|(_, process)| process.cpu_seconds()).collect()
}

/// All that Postgres has ever written to its log.
async fn wal_bytes(stack: &Stack) -> Result<u64> {
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
    let bytes: i64 = stack.postgres().sql().await?.query_one(position, &[]).await?.get(0);
    Ok(bytes.unsigned_abs())
}
