//! Envelopes as request bodies, compressed in each way that recorders do.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::Rng;
use rand::seq::IndexedRandom;
use serde::Serialize;

use crate::recordings::envelope::Envelope;

/// zstd's level: a browser has better things to do than to compress.
const ZSTD_LEVEL: i32 = 1;
/// Brotli's quality; its higher ones are for content that is compressed once and served often.
const BROTLI_QUALITY: i32 = 3;

/// What browsers let a page send during unload; larger bodies are compressed whatever was chosen.
const BEACON_LIMIT_BYTES: usize = 64 * 1024;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// Not at all, as a beacon during unload sends it: `text/plain`.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Brotli.
    Br,
}

/// A request's body.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    /// What goes over the wire. Resending clones a reference.
    pub(crate) bytes: Bytes,
    /// How it is compressed.
    pub(crate) encoding: Encoding,
    /// Its size before that.
    pub(crate) plain_bytes: usize,
}

impl Encoding {
    /// One of all.
    pub(crate) fn any(choices: &mut impl Rng) -> Self {
        let all = [Self::Plain, Self::Gzip, Self::Zstd, Self::Br];
        *all.choose(choices).unwrap_or(&Self::Gzip)
    }

    /// The `Content-Type` that recorders send with it.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain",
            Self::Gzip | Self::Zstd | Self::Br => "application/json",
        }
    }

    /// The `Content-Encoding`, if there is one.
    pub(crate) fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Br => Some("br"),
        }
    }

    /// Encodes a body.
    ///
    /// # Errors
    /// When the encoder fails, which it does for want of memory only.
    pub(crate) fn encode(self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(plain),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&plain)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(&plain, ZSTD_LEVEL),
            Self::Br => {
                let mut out = Vec::new();
                let parameters = brotli::enc::BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    ..Default::default()
                };
                brotli::BrotliCompress(&mut plain.as_slice(), &mut out, &parameters)?;
                Ok(out)
            }
        }
    }
}

impl Body {
    /// Writes and compresses an envelope; a plain body that no beacon could carry by gzip.
    ///
    /// # Errors
    /// When the encoder fails, which it does for want of memory only.
    pub(crate) fn of(envelope: &Envelope, encoding: Encoding) -> io::Result<Self> {
        let plain = serde_json::to_vec(envelope)?;
        let plain_bytes = plain.len();
        let encoding = match encoding {
            Encoding::Plain if plain_bytes > BEACON_LIMIT_BYTES => Encoding::Gzip,
            chosen => chosen,
        };
        Ok(Self { bytes: encoding.encode(plain)?.into(), encoding, plain_bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::recordings::own;

    #[test]
    fn bodies_decompress_to_the_envelope() {
        fn check(encoding: Encoding, decode: impl Fn(&[u8]) -> Vec<u8>) {
            let envelope = own().unwrap()[15].envelope();
            let body = Body::of(&envelope, encoding).unwrap();
            let plain = serde_json::to_vec(&envelope).unwrap();
            assert_eq!(body.plain_bytes, plain.len());
            assert_eq!(body.encoding, encoding);
            assert!(decode(&body.bytes) == plain, "{encoding:?}");
        }
        check(Encoding::Plain, <[u8]>::to_vec);
        check(Encoding::Zstd, |bytes| zstd::decode_all(bytes).unwrap());
        check(Encoding::Gzip, |bytes| {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
            out
        });
        check(Encoding::Br, |mut bytes| {
            let mut out = Vec::new();
            brotli::BrotliDecompress(&mut bytes, &mut out).unwrap();
            out
        });
    }

    #[test]
    fn no_beacon_is_larger_than_browsers_let_it_be() {
        let sessions = own().unwrap();
        let bodies = sessions.iter().map(|session| Body::of(&session.envelope(), Encoding::Plain));
        let (mut plain, mut compressed) = (0, 0);
        for body in bodies.map(Result::unwrap) {
            let small = body.plain_bytes <= BEACON_LIMIT_BYTES;
            assert_eq!(body.encoding, if small { Encoding::Plain } else { Encoding::Gzip });
            *if small { &mut plain } else { &mut compressed } += 1;
        }
        assert!(plain > 0 && compressed > 0, "{plain} plain, {compressed} compressed");
    }
}
