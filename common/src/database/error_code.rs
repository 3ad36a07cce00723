//! The SQLSTATE of what the server refused.
//!
//! Whether an error is the data's fault or the circumstances' is decided by SQLSTATE, but diesel
//! keeps only a handful of kinds of it. So the session listens to its own socket: it follows the
//! framing of the server's messages (a type byte, a length, a body:
//! <https://www.postgresql.org/docs/15/protocol-message-formats.html>) and notes the code of
//! each ErrorResponse. Results of the writer's statements are small, so this costs nothing.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Type byte of an ErrorResponse.
const ERROR_RESPONSE: u8 = b'E';
/// Field type of the SQLSTATE in it.
const SQLSTATE_FIELD: u8 = b'C';
/// Bytes of a message before its body.
const HEADER_BYTES: usize = 5;
/// The length in a header counts itself.
const LENGTH_BYTES: usize = 4;
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

/// A socket that is read along.
pub(super) struct Observed<S> {
    stream: S,
    frames: Frames,
    codes: ErrorCodes,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S) -> (Self, ErrorCodes) {
        let codes = ErrorCodes::default();
        (Self { stream, frames: Frames::default(), codes: codes.clone() }, codes)
    }
}

/// Follows the framing of the server's messages through reads of any size.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_BYTES],
    header_read: usize,
    body_left: usize,
    error_body: Vec<u8>,
}

impl Frames {
    /// Takes the bytes of one read; calls `found` with each error's SQLSTATE.
    fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(SqlState)) {
        while !bytes.is_empty() {
            if self.header_read < HEADER_BYTES {
                let count = bytes.len().min(HEADER_BYTES - self.header_read);
                let (head, rest) = bytes.split_at(count);
                self.header[self.header_read..self.header_read + count].copy_from_slice(head);
                self.header_read += count;
                bytes = rest;
                if self.header_read < HEADER_BYTES {
                    return;
                }
                let [_, length @ ..] = self.header;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.body_left = length.saturating_sub(LENGTH_BYTES);
            }
            let count = bytes.len().min(self.body_left);
            let (body, rest) = bytes.split_at(count);
            if self.header[0] == ERROR_RESPONSE {
                let room = KEPT_BODY_BYTES.saturating_sub(self.error_body.len());
                self.error_body.extend_from_slice(&body[..count.min(room)]);
            }
            self.body_left -= count;
            bytes = rest;
            if self.body_left == 0 {
                self.header_read = 0;
                if let Some(code) = sqlstate(&std::mem::take(&mut self.error_body)) {
                    found(code);
                }
            }
        }
    }
}

/// The SQLSTATE in the body of an ErrorResponse: fields, each a type byte and a text ended by 0.
fn sqlstate(body: &[u8]) -> Option<SqlState> {
    body.split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&SQLSTATE_FIELD))
        .and_then(|field| field[1..].try_into().ok())
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Self { frames, codes, .. } = &mut *self;
        frames.read(&buffer.filled()[before..], |code| codes.note(code));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + LENGTH_BYTES).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    #[test]
    fn codes_are_found_however_the_bytes_are_cut() {
        let stream = [
            message(b'Z', b"I"),
            message(b'E', b"SERROR\0VERROR\0C22001\0Mvalue too long C99999\0\0"),
            message(b'D', b"\0\x02E\0\0\0\x08C12345"),
            message(b'E', b"SFATAL\0VFATAL\0C57P01\0\0"),
            message(b'n', b""),
        ]
        .concat();
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut codes = Vec::new();
            for piece in stream.chunks(size) {
                frames.read(piece, |code| codes.push(code));
            }
            assert_eq!(codes, [*b"22001", *b"57P01"], "cut every {size} bytes");
        }
    }

    #[test]
    fn the_first_error_is_the_cause() {
        let codes = ErrorCodes::default();
        codes.note(*b"22001");
        codes.note(*b"25P02");
        assert_eq!(codes.take(), Some(*b"22001"));
        assert_eq!(codes.take(), None);
    }
}
