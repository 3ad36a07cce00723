//! The SQLSTATE of what the server refused.
//!
//! Whether an error is the data's fault or the circumstances' is decided by SQLSTATE, but diesel
//! keeps only a handful of kinds of it. So the session listens to its own socket (see
//! [`super::tap`]) and notes the code of each ErrorResponse.

use std::sync::{Arc, Mutex, PoisonError};

/// Field type of the SQLSTATE in an ErrorResponse
/// (<https://www.postgresql.org/docs/15/protocol-error-fields.html>).
const SQLSTATE_FIELD: u8 = b'C';
/// More of an error's body is not kept; the SQLSTATE is its third field.
const KEPT_BODY_BYTES: usize = 1024;

/// A SQLSTATE: five letters and digits, the first two being its class.
pub type SqlState = [u8; 5];

/// Where a session notes what the server refused.
#[derive(Clone, Debug, Default)]
pub struct ErrorCodes(Arc<Mutex<Option<SqlState>>>);

impl ErrorCodes {
    /// Takes the first error since the last call: the cause, whatever it led to.
    pub fn take(&self) -> Option<SqlState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The error that the next [`take`](Self::take) will give.
    pub fn peek(&self) -> Option<SqlState> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, code: SqlState) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(code);
    }
}

/// Reads the bodies of ErrorResponses, each in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct ErrorReader {
    body: Vec<u8>,
    codes: ErrorCodes,
}

impl ErrorReader {
    /// Where it notes what it reads.
    pub(super) fn codes(&self) -> ErrorCodes {
        self.codes.clone()
    }

    /// Takes a piece of a body.
    pub(super) fn read(&mut self, piece: &[u8]) {
        let room = KEPT_BODY_BYTES.saturating_sub(self.body.len());
        self.body.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// The body has ended.
    pub(super) fn end(&mut self) {
        if let Some(code) = sqlstate(&std::mem::take(&mut self.body)) {
            self.codes.note(code);
        }
    }
}

/// The SQLSTATE in the body of an ErrorResponse: fields, each a type byte and a text ended by 0.
fn sqlstate(body: &[u8]) -> Option<SqlState> {
    body.split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&SQLSTATE_FIELD))
        .and_then(|field| field[1..].try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_the_cause() {
        let codes = ErrorCodes::default();
        codes.note(*b"22001");
        codes.note(*b"25P02");
        assert_eq!(codes.take(), Some(*b"22001"));
        assert_eq!(codes.take(), None);
    }

    #[test]
    fn the_code_is_found_however_long_the_rest_is() {
        fn check(body: &[u8], expected: Option<&SqlState>) {
            let mut reader = ErrorReader::default();
            for piece in body.chunks(7) {
                reader.read(piece);
            }
            reader.end();
            assert_eq!(reader.codes().take().as_ref(), expected);
        }
        check(b"SERROR\0VERROR\0C22001\0Mvalue too long C99999\0\0", Some(b"22001"));
        let long = [&b"C57P01\0M"[..], &[b'x'; 2 * KEPT_BODY_BYTES], b"\0\0"].concat();
        check(&long, Some(b"57P01"));
        check(b"SERROR\0Mno code\0\0", None);
    }
}
