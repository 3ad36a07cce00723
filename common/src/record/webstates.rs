//! The record of one page: keyed by its hash, its value the page in one zstd frame.

use crate::page_hash::PageHash;

/// zstd's own default: beyond it, time grows faster than pages shrink.
const COMPRESSION_LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

/// Why a page's record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The key is not a page hash.
    #[error("the key is not 64 hex digits")]
    BadKey,
    /// The value is not a zstd frame of at most the largest page allowed.
    #[error("the value is not a zstd frame of at most {limit_bytes} bytes of content")]
    NotAPage {
        /// The largest page allowed.
        limit_bytes: usize,
    },
    /// The content is another page's.
    #[error("the content hashes to {actual}, not to the key")]
    OtherContent {
        /// What the content hashes to.
        actual: PageHash,
    },
}

/// The record's value for a page.
///
/// # Errors
/// When zstd has no memory left.
pub fn encode(content: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(content, COMPRESSION_LEVEL)
}

/// The page in a record's value (also the value of `webstates.html_content`).
///
/// # Errors
/// [`PageError::NotAPage`].
pub fn decode(value: &[u8], limit_bytes: usize) -> Result<Vec<u8>, PageError> {
    // The frame's own claim decides how much is allocated, so it is checked against the limit.
    let claimed = zstd::zstd_safe::get_frame_content_size(value)
        .ok()
        .flatten()
        .and_then(|claimed| usize::try_from(claimed).ok())
        .filter(|&claimed| claimed <= limit_bytes)
        .ok_or(PageError::NotAPage { limit_bytes })?;
    zstd::bulk::decompress(value, claimed).map_err(|_| PageError::NotAPage { limit_bytes })
}

/// Reads the key of a page's record.
///
/// # Errors
/// [`PageError::BadKey`].
pub fn decode_key(key: Option<&[u8]>) -> Result<PageHash, PageError> {
    key.and_then(|key| std::str::from_utf8(key).ok())
        .and_then(|key| key.parse().ok())
        .ok_or(PageError::BadKey)
}

/// Checks that a record's value is the page that its key names.
///
/// # Errors
/// [`PageError::NotAPage`], [`PageError::OtherContent`].
pub fn verify(hash: PageHash, value: &[u8], limit_bytes: usize) -> Result<(), PageError> {
    let actual = PageHash::of(&decode(value, limit_bytes)?);
    if actual == hash { Ok(()) } else { Err(PageError::OtherContent { actual }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_back_and_verified() {
        let page = "<!DOCTYPE html><p>näive</p>".repeat(100);
        let value = encode(page.as_bytes()).unwrap();
        assert_eq!(decode(&value, 1 << 20), Ok(page.clone().into_bytes()));
        assert_eq!(verify(PageHash::of(page.as_bytes()), &value, 1 << 20), Ok(()));
        let actual = PageHash::of(page.as_bytes());
        assert_eq!(
            verify(PageHash::of(b"other"), &value, 1 << 20),
            Err(PageError::OtherContent { actual })
        );
    }

    #[test]
    fn what_is_no_page_or_too_large_is_refused() {
        let value = encode(&[b'x'; 1_000]).unwrap();
        assert_eq!(decode(&value, 999), Err(PageError::NotAPage { limit_bytes: 999 }));
        assert_eq!(decode(b"<html>", 999), Err(PageError::NotAPage { limit_bytes: 999 }));
        assert_eq!(
            decode(&value[..value.len() - 1], 1_000),
            Err(PageError::NotAPage { limit_bytes: 1_000 })
        );
        assert_eq!(decode_key(None), Err(PageError::BadKey));
        assert_eq!(decode_key(Some(b"abc")), Err(PageError::BadKey));
    }
}
