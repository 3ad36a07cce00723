//! Content encodings: what a request says, and the decoding of its body.
//!
//! A body is first read whole and then decoded in one go. So the decoders' windows (up to 16 MiB
//! for brotli) exist only while a permit for the processor is held: their number is that of the
//! cores, not that of slow clients.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::budget::Reservation;
use crate::problem::{Kind, Problem};

/// What a gzip stream begins with.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// The largest window of a zstd frame: 8 MiB, what RFC 9659 lets HTTP use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What brotli's decoder reads ahead.
const BROTLI_BUFFER_BYTES: usize = 16 * 1024;

/// How much is decoded at a time, and reserved before.
const STEP_BYTES: usize = 256 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The request does not say: plain, unless it begins as gzip does.
    Unsaid,
    /// Said to be plain.
    Identity,
    /// gzip, of one or more members.
    Gzip,
    /// zstd, of one or more frames.
    Zstd,
    /// brotli.
    Brotli,
}

impl Encoding {
    /// The encoding that a request's headers name.
    ///
    /// # Errors
    /// [`Kind::UnsupportedEncoding`] for others, and for more than one.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut named = headers.get_all(CONTENT_ENCODING).into_iter();
        let (first, second) = (named.next(), named.next());
        let name = match (first, second) {
            (None, _) => return Ok(Self::Unsaid),
            (Some(value), None) => value.to_str().unwrap_or_default().trim().to_ascii_lowercase(),
            (Some(_), Some(_)) => String::new(),
        };
        match name.as_str() {
            "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            "br" => Ok(Self::Brotli),
            _ => {
                let detail = "Content-Encoding must be one of gzip, zstd, br, identity, or absent";
                Err(Problem::new(Kind::UnsupportedEncoding, detail))
            }
        }
    }

    /// Decodes a complete body of which `reservation` holds the wire bytes; then it holds the
    /// decoded ones.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] beyond `limit_bytes`, [`Kind::NotReadable`] for broken streams,
    /// [`Kind::TooManyBytes`].
    pub fn decode(
        self,
        wire: Vec<u8>,
        limit_bytes: usize,
        reservation: &mut Reservation,
    ) -> Result<Vec<u8>, Problem> {
        let input = wire.as_slice();
        let decoded = match self {
            Self::Unsaid if input.starts_with(GZIP_MAGIC) => {
                read_all(MultiGzDecoder::new(input), limit_bytes, reservation)?
            }
            Self::Unsaid | Self::Identity => {
                within_limit(input.len(), limit_bytes)?;
                return Ok(wire);
            }
            Self::Gzip => read_all(MultiGzDecoder::new(input), limit_bytes, reservation)?,
            Self::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
                read_all(decoder, limit_bytes, reservation)?
            }
            Self::Brotli => {
                let decoder = brotli::Decompressor::new(input, BROTLI_BUFFER_BYTES);
                read_all(decoder, limit_bytes, reservation)?
            }
        };
        drop(wire);
        reservation.shrink_to(decoded.len());
        Ok(decoded)
    }
}

fn read_all(
    mut reader: impl Read,
    limit_bytes: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Problem> {
    let mut decoded = Vec::new();
    loop {
        reservation.grow(STEP_BYTES)?;
        let step = (&mut reader).take(STEP_BYTES as u64).read_to_end(&mut decoded);
        let count = step.map_err(broken)?;
        within_limit(decoded.len(), limit_bytes)?;
        if count == 0 {
            // brotli's decoder tells only now of bytes after the end of its stream.
            reader.read(&mut [0]).map_err(broken)?;
            return Ok(decoded);
        }
    }
}

fn within_limit(bytes: usize, limit_bytes: usize) -> Result<(), Problem> {
    if bytes <= limit_bytes {
        return Ok(());
    }
    let detail = format!("more than {limit_bytes} bytes decompressed, which is the limit");
    Err(Problem::new(Kind::TooLarge, detail))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> Problem {
    Problem::new(Kind::NotReadable, format!("the content encoding is broken: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use prometheus::IntGauge;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    const LIMIT_BYTES: usize = 1 << 20;
    const ENCODED: [Encoding; 3] = [Encoding::Gzip, Encoding::Zstd, Encoding::Brotli];

    fn encode(encoding: Encoding, content: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Unsaid | Encoding::Identity => content.to_vec(),
            Encoding::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(content, 1).unwrap(),
            Encoding::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(vec![], 4096, 5, 22);
                encoder.write_all(content).unwrap();
                encoder.into_inner()
            }
        }
    }

    fn decode(encoding: Encoding, wire: &[u8]) -> Result<Vec<u8>, Kind> {
        let budget = Budget::new(10 << 20, IntGauge::new("held", "Bytes held.").unwrap());
        let mut reservation = budget.reservation();
        encoding.decode(wire.to_vec(), LIMIT_BYTES, &mut reservation).map_err(|error| error.kind)
    }

    #[test]
    fn headers_name_one_encoding() {
        fn check(values: &[&'static str], expected: Result<Encoding, Kind>) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, http::HeaderValue::from_static(value));
            }
            assert_eq!(Encoding::of(&headers).map_err(|problem| problem.kind), expected);
        }
        check(&[], Ok(Encoding::Unsaid));
        check(&["identity"], Ok(Encoding::Identity));
        check(&["GZIP"], Ok(Encoding::Gzip));
        check(&["x-gzip"], Ok(Encoding::Gzip));
        check(&[" zstd "], Ok(Encoding::Zstd));
        check(&["br"], Ok(Encoding::Brotli));
        check(&["deflate"], Err(Kind::UnsupportedEncoding));
        check(&["gzip, br"], Err(Kind::UnsupportedEncoding));
        check(&["gzip", "br"], Err(Kind::UnsupportedEncoding));
        check(&[""], Err(Kind::UnsupportedEncoding));
    }

    #[test]
    fn gzip_is_known_by_its_magic_bytes_unless_something_is_said() {
        let wire = encode(Encoding::Gzip, b"hello");
        assert_eq!(decode(Encoding::Unsaid, &wire), Ok(b"hello".to_vec()));
        assert_eq!(decode(Encoding::Identity, &wire), Ok(wire));
        assert_eq!(decode(Encoding::Unsaid, b"plain"), Ok(b"plain".to_vec()));
    }

    #[test]
    fn members_and_frames_are_joined() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let wire = [encode(encoding, b"one, "), encode(encoding, b"two")].concat();
            assert_eq!(decode(encoding, &wire), Ok(b"one, two".to_vec()));
        }
    }

    #[test]
    fn broken_streams_are_not_readable() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for encoding in ENCODED {
            let wire = encode(encoding, &content);
            let truncated = &wire[..wire.len() - 3];
            assert_eq!(decode(encoding, truncated), Err(Kind::NotReadable), "{encoding:?}");
            let mut trailing = wire.clone();
            trailing.extend_from_slice(b"more");
            assert_eq!(decode(encoding, &trailing), Err(Kind::NotReadable), "{encoding:?}");
            assert_eq!(decode(encoding, b""), Err(Kind::NotReadable), "{encoding:?}");
            assert_eq!(decode(encoding, b"{\"replay\""), Err(Kind::NotReadable), "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for encoding in ENCODED {
            let fits = encode(encoding, &vec![b' '; LIMIT_BYTES]);
            assert_eq!(decode(encoding, &fits).map(|it| it.len()), Ok(LIMIT_BYTES));
            let bomb = encode(encoding, &vec![b' '; 8 * LIMIT_BYTES]);
            assert_eq!(decode(encoding, &bomb), Err(Kind::TooLarge), "{encoding:?}");
        }
    }

    #[test]
    fn a_zstd_window_beyond_what_http_allows_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(vec![], 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"hello").unwrap();
        let wire = encoder.finish().unwrap();
        assert_eq!(decode(Encoding::Zstd, &wire), Err(Kind::NotReadable));
    }

    #[test]
    fn the_budget_bounds_what_is_decoded() {
        let budget = Budget::new(STEP_BYTES, IntGauge::new("held", "Bytes held.").unwrap());
        let mut reservation = budget.reservation();
        let wire = encode(Encoding::Gzip, &vec![b' '; 2 * STEP_BYTES]);
        let result = Encoding::Gzip.decode(wire, LIMIT_BYTES, &mut reservation);
        assert_eq!(result.map_err(|problem| problem.kind), Err(Kind::TooManyBytes));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(content in prop::collection::vec(any::<u8>(), 0..5_000)) {
            for encoding in ENCODED {
                prop_assert_eq!(decode(encoding, &encode(encoding, &content)), Ok(content.clone()));
            }
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(wire in prop::collection::vec(any::<u8>(), 0..500)) {
            for encoding in ENCODED {
                if let Err(kind) = decode(encoding, &wire) {
                    prop_assert!([Kind::NotReadable, Kind::TooLarge].contains(&kind));
                }
            }
        }
    }
}
