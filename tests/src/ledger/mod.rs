//! What was sent to a Tapedeck and what became of it: a file that says so even if the run that
//! writes it is killed.
//!
//! One JSON object a line, each written before the next thing happens. A run that is killed may
//! leave a torn last line, without its line feed: it is not read, for what it would have said had
//! not begun. Anything else that is not a line of this format is an error.
//!
//! ```json
//! {"sent":{"batch":7,"as_of":1795538338810,"replay":{"replay_id":"…",…,"user":{…}},
//!   "events":[{"event_id":"…","sha256":"…","webstate_hash":"…","unwritable":true}],
//!   "pages":[{"html_hash":"…","captured_at":1795538338810,"content":true}]}}
//! {"settled":{"batch":7,"outcome":"acknowledged","status":200,"attempts":1,"at":1795538340123}}
//! {"garbage":{"key":"…"}}
//! {"garbage_acknowledged":{"key":"…"}}
//! ```
//!
//! - `sent` comes before the first request with the batch. `as_of` and `replay` are those of its
//!   record in Kafka; times are milliseconds, with decimals where they are finer. `sha256` is the
//!   [`EventDigest`] of the event's row. `unwritable` stands where the event is of the type
//!   [`UNWRITABLE_EVENT_TYPE`]. `content` says whether the page itself is sent, or only that it
//!   was seen because a gateway said that it has it.
//! - `settled` comes once the sender knows no more to do. `outcome` is `acknowledged`, `refused`
//!   (`status` says how) or `unknown`. A batch without a `settled` line is unknown. One that was
//!   too slow is refused with 408, and its halves are batches of their own. An acknowledged batch
//!   that is sent once more has no further lines: that must not change anything.
//! - `garbage` comes before a record that cannot be read is put on a topic directly, under a key
//!   that no other record has; `garbage_acknowledged` once Kafka has it.
//!
//! An event takes about 200 bytes, a batch 400 more.
//!
//! | module | holds |
//! |---|---|
//! | `line` | the lines |
//! | `digest` | the hash of an event's row |
//! | `write` | [`Ledger`], open for writing |
//! | `read` | [`read()`] |

mod digest;
mod line;
mod read;
mod write;

pub use digest::EventDigest;
pub use line::{Line, Outcome, Sent, SentEvent, SentPage, Settled};
pub use read::{ReadError, read};
pub use write::Ledger;

/// The type of events that a database refuses once [`REFUSE_UNWRITABLE`] has told it to: poison by
/// construction.
pub const UNWRITABLE_EVENT_TYPE: &str = "unwritable";

/// Has a database refuse events of [`UNWRITABLE_EVENT_TYPE`].
pub const REFUSE_UNWRITABLE: &str =
    "ALTER TABLE events ADD CONSTRAINT writable CHECK (event_type <> 'unwritable')";
