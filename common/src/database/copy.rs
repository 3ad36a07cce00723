//! `COPY … FROM STDIN (FORMAT binary)` through diesel, which has no such thing when asynchronous.
//!
//! To diesel it is a statement like any other: it executes it and waits for its end. But between
//! the two the server asks for rows (CopyInResponse), which diesel would not understand. So the
//! rows are laid out before, and the session's socket (see [`super::tap`]) answers in diesel's
//! place: rows, the end of rows, and a Sync, as the one that diesel sent is ignored while rows are
//! awaited (<https://www.postgresql.org/docs/15/protocol-flow.html#PROTOCOL-COPY>).

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use diesel::QueryResult;

/// What a stream of rows begins with
/// (<https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format").
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The count of fields that ends a stream of rows.
pub const END_OF_ROWS: i16 = -1;
/// The length of a null.
const NULL: i32 = -1;

/// Type byte of CopyData.
const COPY_DATA: u8 = b'd';
/// CopyDone, and the Sync after which the server answers.
const DONE: &[u8] = b"c\0\0\0\x04S\0\0\0\x04";
/// CopyFail with a message, and the Sync.
const NOTHING_LAID_OUT: &[u8] = b"f\0\0\0\x19no rows are laid out\0S\0\0\0\x04";
/// A CopyData is closed when it has so many bytes, so that the server begins before it has all.
const MESSAGE_BYTES: usize = 64 * 1024;

/// The rows of one COPY, as the protocol carries them.
#[derive(Debug)]
pub struct CopyRows {
    wire: Vec<u8>,
    /// Where the open CopyData begins.
    message_at: usize,
}

impl CopyRows {
    /// No rows yet, with room for `bytes` of them.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut rows = Self { wire: Vec::with_capacity(bytes), message_at: 0 };
        rows.open_message();
        rows.wire.extend_from_slice(SIGNATURE);
        // No flags, and no extension of the header.
        rows.wire.extend_from_slice(&[0; 8]);
        rows
    }

    /// Adds a row: each field as its type's binary format has it, or null.
    pub fn push<const FIELDS: usize>(&mut self, fields: [Option<&[u8]>; FIELDS]) {
        const { assert!(FIELDS <= 1600, "a table has no more columns") };
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        self.wire.extend_from_slice(&(FIELDS as u16).to_be_bytes());
        for field in fields {
            match field {
                Some(bytes) => {
                    self.wire.extend_from_slice(&length(bytes.len()));
                    self.wire.extend_from_slice(bytes);
                }
                None => self.wire.extend_from_slice(&NULL.to_be_bytes()),
            }
        }
        if self.wire.len() - self.message_at >= MESSAGE_BYTES {
            self.close_message();
            self.open_message();
        }
    }

    fn open_message(&mut self) {
        self.message_at = self.wire.len();
        self.wire.push(COPY_DATA);
        // The length, known when it is closed.
        self.wire.extend_from_slice(&[0; 4]);
    }

    fn close_message(&mut self) {
        let length_at = self.message_at + 1;
        let length = length(self.wire.len() - length_at);
        self.wire[length_at..length_at + length.len()].copy_from_slice(&length);
    }

    /// All that answers a CopyInResponse.
    pub(super) fn finish(mut self) -> Bytes {
        self.wire.extend_from_slice(&END_OF_ROWS.to_be_bytes());
        self.close_message();
        self.wire.extend_from_slice(DONE);
        self.wire.into()
    }
}

/// A length as both formats carry it. One that does not fit is refused by the server, which takes
/// no field above a gigabyte.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}

/// Where rows are laid out for a session's COPY.
#[derive(Clone, Debug, Default)]
pub struct Copies(Arc<Mutex<Option<Bytes>>>);

impl Copies {
    /// Executes a COPY with its rows; returns how many there were.
    ///
    /// # Errors
    /// What the server says.
    pub async fn execute(
        &self,
        rows: CopyRows,
        copy: impl Future<Output = QueryResult<usize>>,
    ) -> QueryResult<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rows.finish());
        let copied = copy.await;
        // Still there if the server refused the statement itself.
        drop(self.take());
        copied.map(|rows| rows as u64)
    }

    /// What to answer to a server that asks for rows.
    pub(super) fn answer(&self) -> Bytes {
        self.take().unwrap_or(Bytes::from_static(NOTHING_LAID_OUT))
    }

    fn take(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_carried_as_the_protocol_has_them() {
        let mut rows = CopyRows::with_capacity(0);
        rows.push([Some(b"ab"), None]);
        let expected = [
            // CopyData: 4 + 19 + 2 + 6 + 4 + 2 bytes.
            &b"d\0\0\0\x25PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..],
            b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff\xff\xff",
            b"c\0\0\0\x04S\0\0\0\x04",
        ];
        assert_eq!(rows.finish(), expected.concat());
    }

    #[test]
    fn many_rows_go_in_several_messages() {
        let mut rows = CopyRows::with_capacity(0);
        for _ in 0..10 {
            rows.push([Some(&[b'x'; MESSAGE_BYTES / 4])]);
        }
        let wire = rows.finish();
        let mut at = 0;
        let mut kinds = Vec::new();
        while at < wire.len() {
            let length = u32::from_be_bytes(wire[at + 1..at + 5].try_into().unwrap());
            kinds.push(wire[at]);
            at += 1 + usize::try_from(length).unwrap();
        }
        assert_eq!(kinds, *b"dddcS");
    }

    #[test]
    fn the_refusal_is_a_message_of_its_length() {
        let text = b"no rows are laid out\0";
        assert_eq!(usize::from(NOTHING_LAID_OUT[4]), 4 + text.len());
        assert_eq!(&NOTHING_LAID_OUT[5..5 + text.len()], text);
    }
}
