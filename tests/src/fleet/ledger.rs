//! A file that says what was sent and what became of it, for whoever compares it with the tables.
//!
//! JSON lines, two a batch, each written before the next thing happens, so that the ledger of a
//! run that was killed is true as far as it goes:
//!
//! ```json
//! {"kind":"sent","batch":7,"replay":{…},"events":[{"event_id":"…","sha256":"…"}],
//!  "pages":[{"html_hash":"…","captured_at":1795538338810,"content":true}]}
//! {"kind":"settled","batch":7,"outcome":"acknowledged","status":200,"attempts":1,"at":1795538340123}
//! ```
//!
//! `sha256` is that of the event's data. `outcome` is `acknowledged`, `refused` (`status` says
//! how) or `unknown`. A batch without a `settled` line is unknown. One that was too slow is
//! refused with 408, and its halves are batches of their own.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use common::page_hash::PageHash;
use common::record::events::Replay;
use common::time::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::retry::Outcome;
use crate::recordings::envelope::Envelope;

/// The open file.
pub(super) struct Ledger {
    file: Mutex<File>,
    next_batch: AtomicU64,
}

/// A line of the ledger.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Sent {
        batch: u64,
        replay: &'a Replay<'a>,
        events: Vec<SentEvent>,
        pages: Vec<SentPage>,
    },
    Settled {
        batch: u64,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        attempts: u32,
        at: Timestamp,
    },
}

#[derive(Serialize)]
struct SentEvent {
    event_id: Uuid,
    sha256: String,
}

#[derive(Serialize)]
struct SentPage {
    html_hash: PageHash,
    captured_at: Timestamp,
    content: bool,
}

impl Ledger {
    /// A new ledger; an old one of that name is gone.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?), next_batch: AtomicU64::new(0) })
    }

    /// Notes what is about to be sent, and gives it a number.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn sent(&self, envelope: &Envelope) -> io::Result<u64> {
        let batch = self.next_batch.fetch_add(1, Ordering::Relaxed);
        let events = envelope.identified_events().map(|(event_id, event)| SentEvent {
            event_id,
            sha256: hex::encode(Sha256::digest(event.event_data.get())),
        });
        let pages = envelope.webstates.iter().map(|capture| SentPage {
            html_hash: capture.html_hash,
            captured_at: capture.captured_at,
            content: capture.html_content.is_some(),
        });
        self.write(&Line::Sent {
            batch,
            replay: &envelope.replay,
            events: events.collect(),
            pages: pages.collect(),
        })?;
        Ok(batch)
    }

    /// Notes how a batch ended.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn settled(
        &self,
        batch: u64,
        outcome: Outcome,
        status: Option<u16>,
        attempts: u32,
    ) -> io::Result<()> {
        let outcome = match outcome {
            Outcome::Acknowledged => "acknowledged",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
        };
        self.write(&Line::Settled { batch, outcome, status, attempts, at: Timestamp::now() })
    }

    fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // Nothing panics while it holds the file, and whole lines only are written.
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text)
    }
}
