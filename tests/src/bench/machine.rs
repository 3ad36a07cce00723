//! What a case ran on: figures mean little without it.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::stack::Stack;

/// What a case ran on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
    /// The database server.
    pub postgres: String,
}

impl Machine {
    /// What it is here.
    ///
    /// # Errors
    /// When `/proc` or Postgres cannot be read.
    pub async fn here(stack: &Stack) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let kibibytes = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default();
        let version = stack.postgres().sql().await?.query_one("SHOW server_version", &[]).await?;
        Ok(Self {
            processor: field(&read("/proc/cpuinfo")?, "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: kibibytes * 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            postgres: version.get(0),
        })
    }
}

#[cfg(test)]
impl Machine {
    /// One that nothing was measured on.
    pub(super) fn any() -> Self {
        Self {
            processor: "any".to_owned(),
            cores: 2,
            memory_bytes: 0,
            kernel: String::new(),
            postgres: String::new(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_bytes, kernel, postgres } = self;
        let gigabytes = memory_bytes / 1_000_000_000;
        write!(
            formatter,
            "{cores} × {processor}, {gigabytes} GB, Linux {kernel}, Postgres {postgres}, \
             everything on the same cores"
        )
    }
}
