//! What a session does on its own socket, because diesel does not: it notes the SQLSTATE of what
//! the server refuses, and answers a COPY with its rows.
//!
//! Results of the services' statements are small, so looking through them costs nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::copy::{Answer, Copies};
use super::error_code::{ErrorCodes, ErrorReader};
use super::frames::Frames;

/// Type byte of an ErrorResponse.
const ERROR_RESPONSE: u8 = b'E';
/// Type byte of a CopyInResponse.
const COPY_IN_RESPONSE: u8 = b'G';

/// A socket with an eye on it.
pub(super) struct Tap<S> {
    stream: S,
    frames: Frames,
    errors: ErrorReader,
    copies: Copies,
    /// What a server that asked for rows is still to be sent.
    answer: Answer,
    /// Messages of it that are being sent.
    sending: Bytes,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            errors: ErrorReader::default(),
            copies: Copies::default(),
            answer: Answer::Ended,
            sending: Bytes::new(),
        }
    }

    /// Where errors are noted.
    pub(super) fn error_codes(&self) -> ErrorCodes {
        self.errors.codes()
    }

    /// Where rows come from.
    pub(super) fn copies(&self) -> Copies {
        self.copies.clone()
    }

    /// Looks through what was read, and takes the server's questions for rows out of it; returns
    /// how many bytes are left.
    fn look_through(&mut self, read: &mut [u8]) -> usize {
        let (mut at, mut left) = (0, 0);
        while at < read.len() {
            let piece = self.frames.next(&read[at..]);
            let bytes = at..at + piece.length;
            at = bytes.end;
            match piece.kind {
                COPY_IN_RESPONSE => {
                    if piece.ends_message {
                        self.answer = self.copies.answer();
                    }
                    continue;
                }
                ERROR_RESPONSE => {
                    if piece.is_body {
                        self.errors.read(&read[bytes.clone()]);
                    }
                    if piece.ends_message {
                        self.errors.end();
                        self.answer.stop();
                    }
                }
                _ => {}
            }
            read.copy_within(bytes, left);
            left += piece.length;
        }
        left
    }
}

impl<S: AsyncWrite + Unpin> Tap<S> {
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.sending.has_remaining() {
                let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.sending))?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sending.advance(sent);
            }
            match ready!(self.answer.poll_next(context)) {
                Some(bytes) => self.sending = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            // Reading goes on while the answer waits for room or rows: an error may come in between.
            if let Poll::Ready(Err(error)) = this.poll_answer(context) {
                return Poll::Ready(Err(error));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let ended = buffer.filled().len() == before;
            let left = this.look_through(&mut buffer.filled_mut()[before..]);
            buffer.set_filled(before + left);
            // Nothing read would mean the end to the reader.
            if left > 0 || ended {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // No message may lie inside another.
        ready!(self.poll_answer(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REFUSAL: &[u8] = b"f\0\0\0\x19the rows have no end\0S\0\0\0\x04";
    /// One row of one field, as the protocol carries it.
    const ROW: &[u8] = b"d\0\0\0\x22PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x03row\xff\xff";
    const DONE: &[u8] = b"c\0\0\0\x04S\0\0\0\x04";
    const SYNC: &[u8] = b"S\0\0\0\x04";

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    /// The next bytes that the client reads.
    async fn read(tap: &mut Tap<tokio_test::io::Mock>, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        tap.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn codes_are_found_however_the_bytes_are_cut() {
        let stream = [
            message(b'Z', b"I"),
            message(b'E', b"SERROR\0VERROR\0C22001\0Mvalue too long C99999\0\0"),
            message(b'D', b"\0\x02E\0\0\0\x08C12345"),
            message(b'n', b""),
        ]
        .concat();
        for size in 1..=stream.len() {
            let mut socket = tokio_test::io::Builder::new();
            for piece in stream.chunks(size) {
                socket.read(piece);
            }
            let mut tap = Tap::new(socket.build());
            assert_eq!(read(&mut tap, stream.len()).await, stream);
            assert_eq!(tap.error_codes().take(), Some(*b"22001"), "cut every {size} bytes");
        }
    }

    #[tokio::test]
    async fn a_question_for_rows_is_answered_and_kept_from_the_client() {
        let bound = message(b'2', b"");
        let question = message(b'G', b"\x01\0\x01\0\x01");
        let done = message(b'C', b"COPY 1\0");
        let asked = [&bound[..], &question].concat();
        for size in 1..=asked.len() {
            let mut socket = tokio_test::io::Builder::new();
            for piece in asked.chunks(size) {
                socket.read(piece);
            }
            socket.write(&ROW[..5]).write(&ROW[5..]).write(DONE).read(&done);
            let mut tap = Tap::new(socket.build());
            let expected = [&bound[..], &done].concat();
            let copies = tap.copies();
            let copy = async {
                assert_eq!(read(&mut tap, expected.len()).await, expected);
                Ok(1)
            };
            let copied = copies.execute(copy, async |rows| rows.push([Some(b"row")]).await);
            assert_eq!(copied.await, Ok(1), "cut every {size} bytes");
        }
    }

    #[tokio::test]
    async fn a_server_that_has_refused_gets_no_more_rows() {
        let mut socket = tokio_test::io::Builder::new();
        let refused = message(b'E', b"SERROR\0C23505\0\0");
        socket.read(&message(b'G', b"\x01\0\x01\0\x01")).read(&refused).write(SYNC);
        let ready = message(b'Z', b"E");
        socket.read(&ready);
        let mut tap = Tap::new(socket.build());
        let expected = [&refused[..], &ready].concat();
        let copies = tap.copies();
        let copy = async {
            assert_eq!(read(&mut tap, expected.len()).await, expected);
            Err(diesel::result::Error::NotFound)
        };
        // Rows that never come.
        let copied = copies.execute(copy, async |_| std::future::pending().await);
        assert_eq!(copied.await, Err(diesel::result::Error::NotFound));
        assert_eq!(tap.error_codes().take(), Some(*b"23505"));
    }

    #[tokio::test]
    async fn a_copy_without_rows_fails_instead_of_hanging() {
        let mut socket = tokio_test::io::Builder::new();
        socket.read(&message(b'G', b"\x01\0\0"));
        socket.write(REFUSAL);
        let refused = message(b'E', b"SERROR\0C57014\0\0");
        socket.read(&refused);
        let mut tap = Tap::new(socket.build());
        assert_eq!(read(&mut tap, refused.len()).await, refused);
    }

    #[tokio::test]
    async fn what_the_client_writes_waits_for_the_answer() {
        let mut socket = tokio_test::io::Builder::new();
        let done = message(b'n', b"");
        socket.read(&[message(b'G', b"\x01\0\0"), done.clone()].concat());
        socket.write(REFUSAL).write(b"next");
        let mut tap = Tap::new(socket.build());
        assert_eq!(read(&mut tap, done.len()).await, done);
        tap.write_all(b"next").await.unwrap();
    }
}
