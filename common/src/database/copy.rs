//! `COPY … FROM STDIN (FORMAT binary)` through diesel, which has no such thing when asynchronous.
//!
//! To diesel it is a statement like any other: it executes it and waits for its end. But between
//! the two the server asks for rows (CopyInResponse), which diesel would not understand. So the
//! session's socket (see [`super::tap`]) answers in diesel's place: rows, laid out while the server
//! takes those before, the end of rows, and a Sync, as the one that diesel sent is ignored while
//! rows are awaited (<https://www.postgresql.org/docs/15/protocol-flow.html#PROTOCOL-COPY>).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use diesel::QueryResult;
use futures::future::{Either, select};
use tokio::sync::mpsc::{self, Receiver, Sender};

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
/// What a server waits for that has refused rows.
const SYNC: &[u8] = b"S\0\0\0\x04";
/// CopyFail with a message, and the Sync.
const NO_END: &[u8] = b"f\0\0\0\x19the rows have no end\0S\0\0\0\x04";
/// A CopyData is closed when it has so many bytes, so that the server begins before it has all.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Messages that are laid out before the socket takes them.
const MESSAGES_AHEAD: usize = 2;

/// The rows of one COPY, as the protocol carries them.
#[derive(Debug)]
pub struct CopyRows {
    /// An open CopyData.
    message: Vec<u8>,
    messages: Sender<Message>,
}

/// Some of what answers a CopyInResponse.
#[derive(Debug)]
pub(super) enum Message {
    Rows(Bytes),
    Last(Bytes),
}

impl CopyRows {
    fn new(messages: Sender<Message>) -> Self {
        let mut rows = Self { message: Vec::new(), messages };
        rows.open_message();
        rows.message.extend_from_slice(SIGNATURE);
        // No flags, and no extension of the header.
        rows.message.extend_from_slice(&[0; 8]);
        rows
    }

    /// Adds a row: each field as its type's binary format has it, or null. Waits while the server
    /// has enough to do.
    pub async fn push<const FIELDS: usize>(&mut self, fields: [Option<&[u8]>; FIELDS]) {
        const { assert!(FIELDS <= 1600, "a table has no more columns") };
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        self.message.extend_from_slice(&(FIELDS as u16).to_be_bytes());
        for field in fields {
            match field {
                Some(bytes) => {
                    self.message.extend_from_slice(&length(bytes.len()));
                    self.message.extend_from_slice(bytes);
                }
                None => self.message.extend_from_slice(&NULL.to_be_bytes()),
            }
        }
        if self.message.len() >= MESSAGE_BYTES {
            let message = self.close_message();
            self.open_message();
            self.pass_on(Message::Rows(message.into())).await;
        }
    }

    fn open_message(&mut self) {
        // It is closed by a row that goes beyond: with room for a usual one.
        self.message.reserve(MESSAGE_BYTES + MESSAGE_BYTES / 4);
        self.message.push(COPY_DATA);
        // The length, known when it is closed.
        self.message.extend_from_slice(&[0; 4]);
    }

    fn close_message(&mut self) -> Vec<u8> {
        let mut message = std::mem::take(&mut self.message);
        let length = length(message.len() - 1);
        message[1..=length.len()].copy_from_slice(&length);
        message
    }

    async fn pass_on(&self, message: Message) {
        // Nobody takes it once the server has refused: what it says then is the COPY's result.
        let _ = self.messages.send(message).await;
    }

    async fn finish(mut self) {
        self.message.extend_from_slice(&END_OF_ROWS.to_be_bytes());
        let mut message = self.close_message();
        message.extend_from_slice(DONE);
        self.pass_on(Message::Last(message.into())).await;
    }
}

/// A length as both formats carry it. One that does not fit is refused by the server, which takes
/// no field above a gigabyte.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}

/// Where the rows of a session's COPY come from.
#[derive(Clone, Debug, Default)]
pub struct Copies(Arc<Mutex<Option<Receiver<Message>>>>);

impl Copies {
    /// Executes a COPY with the rows that `lay_out` pushes; returns how many there were.
    ///
    /// # Errors
    /// What the server says.
    pub async fn execute(
        &self,
        copy: impl Future<Output = QueryResult<usize>>,
        lay_out: impl AsyncFnOnce(&mut CopyRows),
    ) -> QueryResult<u64> {
        let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
        let rows = async {
            let mut rows = CopyRows::new(sender);
            lay_out(&mut rows).await;
            rows.finish().await;
        };
        let copied = match select(pin!(copy), pin!(rows)).await {
            // Refused before all rows were laid out.
            Either::Left((copied, _)) => copied,
            Either::Right(((), copy)) => copy.await,
        };
        // Still there if the server refused the statement itself.
        drop(self.take());
        copied.map(|rows| rows as u64)
    }

    /// What to answer to a server that asks for rows.
    pub(super) fn answer(&self) -> Answer {
        self.take().map_or(Answer::Last(Bytes::from_static(NO_END)), Answer::Rows)
    }

    fn take(&self) -> Option<Receiver<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is still to be sent to a server that asked for rows.
#[derive(Debug)]
pub(super) enum Answer {
    /// As it is laid out.
    Rows(Receiver<Message>),
    /// Only this.
    Last(Bytes),
    /// Nothing.
    Ended,
}

impl Answer {
    /// The next whole messages; `None` at the end.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (bytes, ends) = match self {
            Self::Rows(messages) => match ready!(messages.poll_recv(context)) {
                Some(Message::Rows(bytes)) => (bytes, false),
                Some(Message::Last(bytes)) => (bytes, true),
                // Whoever laid them out was given up.
                None => (Bytes::from_static(NO_END), true),
            },
            Self::Last(bytes) => (std::mem::take(bytes), true),
            Self::Ended => return Poll::Ready(None),
        };
        if ends {
            *self = Self::Ended;
        }
        Poll::Ready(Some(bytes))
    }

    /// The server has refused: it takes no more rows.
    pub(super) fn stop(&mut self) {
        if matches!(self, Self::Rows(_)) {
            *self = Self::Last(Bytes::from_static(SYNC));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent to a server that asks for the rows at once.
    async fn sent(lay_out: impl AsyncFnOnce(&mut CopyRows)) -> Vec<u8> {
        let copies = Copies::default();
        let mut wire = Vec::new();
        let copy = async {
            let mut answer = copies.answer();
            while let Some(bytes) = std::future::poll_fn(|context| answer.poll_next(context)).await
            {
                wire.extend_from_slice(&bytes);
            }
            Ok(1)
        };
        assert_eq!(copies.execute(copy, lay_out).await, Ok(1));
        wire
    }

    #[tokio::test]
    async fn rows_are_carried_as_the_protocol_has_them() {
        let expected = [
            // CopyData: 4 + 19 + 2 + 6 + 4 + 2 bytes.
            &b"d\0\0\0\x25PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..],
            b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff\xff\xff",
            b"c\0\0\0\x04S\0\0\0\x04",
        ];
        assert_eq!(
            sent(async |rows| rows.push([Some(b"ab"), None]).await).await,
            expected.concat()
        );
    }

    #[tokio::test]
    async fn many_rows_go_in_several_messages() {
        let wire = sent(async |rows| {
            for _ in 0..20 {
                rows.push([Some(&[b'x'; MESSAGE_BYTES / 4])]).await;
            }
        });
        let (wire, mut at, mut kinds) = (wire.await, 0, Vec::new());
        while at < wire.len() {
            let length = u32::from_be_bytes(wire[at + 1..at + 5].try_into().unwrap());
            kinds.push(wire[at]);
            at += 1 + usize::try_from(length).unwrap();
        }
        // More than are laid out ahead.
        assert_eq!(kinds, *b"ddddddcS");
    }

    #[tokio::test]
    async fn a_statement_that_is_refused_ends_at_once_however_many_rows_there_are() {
        let refused = async { Err(diesel::result::Error::NotFound) };
        let copies = Copies::default();
        let copied = copies.execute(refused, async |rows| {
            loop {
                rows.push([Some(&[b'x'; MESSAGE_BYTES])]).await;
            }
        });
        assert_eq!(copied.await, Err(diesel::result::Error::NotFound));
    }

    #[test]
    fn the_refusal_is_a_message_of_its_length() {
        let text = b"the rows have no end\0";
        assert_eq!(usize::from(NO_END[4]), 4 + text.len());
        assert_eq!(&NO_END[5..5 + text.len()], text);
    }
}
