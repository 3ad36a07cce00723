//! A ledger that is being written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use common::time::Timestamp;

use super::line::{Line, Outcome, Sent, Settled};
use crate::recordings::envelope::Envelope;

/// The open file. Every method returns once its line is written: a process that is killed then
/// takes nothing with it.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<File>,
    next_batch: AtomicU64,
}

impl Ledger {
    /// A new ledger; an old one of that name is gone.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?), next_batch: AtomicU64::new(0) })
    }

    /// Notes what is about to be sent, and gives it a number.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sent(&self, envelope: &Envelope) -> io::Result<u64> {
        let batch = self.next_batch.fetch_add(1, Ordering::Relaxed);
        self.write(&Line::Sent(Sent::of(batch, envelope)))?;
        Ok(batch)
    }

    /// Notes how a batch ended.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn settled(
        &self,
        batch: u64,
        outcome: Outcome,
        status: Option<u16>,
        attempts: u32,
    ) -> io::Result<()> {
        let at = Timestamp::now();
        self.write(&Line::Settled(Settled { batch, outcome, status, attempts, at }))
    }

    /// Notes that a record that cannot be read is about to be put on a topic under this key, which
    /// no other record may have.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn garbage(&self, key: &str) -> io::Result<()> {
        self.write(&Line::Garbage { key: key.to_owned() })
    }

    /// Notes that Kafka has acknowledged that record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn garbage_acknowledged(&self, key: &str) -> io::Result<()> {
        self.write(&Line::GarbageAcknowledged { key: key.to_owned() })
    }

    fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // Nothing panics while it holds the file, and whole lines only are written.
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text)
    }
}
