//! The framing of the server's messages: a type byte, a length that counts itself, a body
//! (<https://www.postgresql.org/docs/15/protocol-message-formats.html>).

/// Bytes of a message before its body.
const HEADER_BYTES: usize = 5;
/// The length in a header counts itself.
const LENGTH_BYTES: usize = 4;

/// Follows the framing through reads of any size.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    header_read: usize,
    body_left: usize,
}

/// The next bytes that belong to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The message's type byte.
    pub(super) kind: u8,
    /// How many bytes it is.
    pub(super) length: usize,
    /// Whether they are of the body, not of the header.
    pub(super) is_body: bool,
    /// Whether the message ends with them.
    pub(super) ends_message: bool,
}

impl Frames {
    /// Takes the first piece of `bytes`, which must not be empty.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Piece {
        let is_body = self.header_read == HEADER_BYTES;
        let length = if is_body {
            let length = bytes.len().min(self.body_left);
            self.body_left -= length;
            length
        } else {
            let length = bytes.len().min(HEADER_BYTES - self.header_read);
            let read = self.header_read..self.header_read + length;
            self.header[read.clone()].copy_from_slice(&bytes[..length]);
            self.header_read = read.end;
            if self.header_read == HEADER_BYTES {
                let [_, length @ ..] = self.header;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.body_left = length.saturating_sub(LENGTH_BYTES);
            }
            length
        };
        let ends_message = self.header_read == HEADER_BYTES && self.body_left == 0;
        if ends_message {
            self.header_read = 0;
        }
        Piece { kind: self.header[0], length, is_body, ends_message }
    }
}
