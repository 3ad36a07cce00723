//! A table's rows as `COPY … BINARY` carries them, cut into pieces that can be loaded one by one.
//!
//! The format (Postgres, "COPY", Binary Format): a header of 19 bytes and an extension whose
//! length it ends with; each row as a count of fields and each field as length and bytes, all
//! big-endian, with -1 for null; and a count of -1 after the last row.

use bytes::{BufMut, Bytes, BytesMut};
use common::database::copy::{END_OF_ROWS, SIGNATURE};

/// The signature, the flags and the length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// Why a stream cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It does not begin as such a stream does.
    #[error("it does not begin with the header of COPY BINARY")]
    NoHeader,
    /// It ends in the middle of a row, or without its end.
    #[error("it ends in the middle of a row")]
    Truncated,
}

/// Cuts a stream into streams of at most `rows_per_piece` rows, each complete in itself.
///
/// # Errors
/// See [`FormatError`].
pub fn cut(stream: &Bytes, rows_per_piece: usize) -> Result<Vec<Piece>, FormatError> {
    let mut reader = Reader { stream, at: 0 };
    if reader.take(SIGNATURE.len()) != Ok(SIGNATURE) {
        return Err(FormatError::NoHeader);
    }
    reader.take(4)?;
    let extension = reader.length()?;
    reader.take(extension)?;
    let mut pieces = Vec::new();
    let (mut begin, mut rows) = (reader.at, 0);
    loop {
        let end = reader.at;
        let fields = reader.count()?;
        if fields == END_OF_ROWS || rows == rows_per_piece {
            if rows > 0 {
                pieces.push(Piece { rows, bytes: complete(&stream[begin..end]) });
            }
            if fields == END_OF_ROWS {
                return Ok(pieces);
            }
            (begin, rows) = (end, 0);
        }
        for _ in 0..fields {
            let length = reader.length()?;
            reader.take(length)?;
        }
        rows += 1;
    }
}

/// A complete stream of some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many rows.
    pub rows: usize,
    /// What `COPY … FROM STDIN BINARY` takes.
    pub bytes: Bytes,
}

fn complete(rows: &[u8]) -> Bytes {
    let mut stream = BytesMut::with_capacity(HEADER_BYTES + rows.len() + 2);
    stream.put_slice(SIGNATURE);
    stream.put_u64(0);
    stream.put_slice(rows);
    stream.put_i16(END_OF_ROWS);
    stream.freeze()
}

struct Reader<'a> {
    stream: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], FormatError> {
        let end = self.at.checked_add(bytes).ok_or(FormatError::Truncated)?;
        let taken = self.stream.get(self.at..end).ok_or(FormatError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn count(&mut self) -> Result<i16, FormatError> {
        let bytes = self.take(2)?.try_into().map_err(|_| FormatError::Truncated)?;
        Ok(i16::from_be_bytes(bytes))
    }

    /// The length of what follows; that of null is 0.
    fn length(&mut self) -> Result<usize, FormatError> {
        let bytes = self.take(4)?.try_into().map_err(|_| FormatError::Truncated)?;
        Ok(usize::try_from(i32::from_be_bytes(bytes)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two fields: a text, and null.
    fn rows(texts: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in texts {
            bytes.put_i16(2);
            bytes.put_i32(i32::try_from(text.len()).unwrap());
            bytes.put_slice(text.as_bytes());
            bytes.put_i32(-1);
        }
        bytes
    }

    #[test]
    fn a_stream_is_cut_into_complete_streams() {
        fn check(texts: &[&str], rows_per_piece: usize, expected: &[&[&str]]) {
            let pieces = cut(&complete(&rows(texts)), rows_per_piece).unwrap();
            let expected: Vec<_> = expected
                .iter()
                .map(|texts| Piece { rows: texts.len(), bytes: complete(&rows(texts)) })
                .collect();
            assert_eq!(pieces, expected);
        }
        check(&[], 2, &[]);
        check(&["a"], 2, &[&["a"]]);
        check(&["a", "", "c"], 2, &[&["a", ""], &["c"]]);
        check(&["a", "b", "c", "d"], 2, &[&["a", "b"], &["c", "d"]]);
    }

    #[test]
    fn what_is_no_such_stream_or_ends_early_is_an_error() {
        let stream = complete(&rows(&["a", "b"]));
        assert_eq!(
            cut(&Bytes::from_static(b"hello, world, here I am"), 1),
            Err(FormatError::NoHeader)
        );
        for end in SIGNATURE.len()..stream.len() {
            assert_eq!(cut(&stream.slice(..end), 1), Err(FormatError::Truncated), "{end}");
        }
        assert_eq!(cut(&stream.slice(..5), 1), Err(FormatError::NoHeader));
    }
}
