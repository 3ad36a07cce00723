//! The identity of a page state.

use std::fmt;
use std::str::FromStr;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// SHA-256 of a page state's UTF-8 bytes; written as 64 lower-case hex digits, read in either
/// case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct PageHash([u8; 32]);

/// The text is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 64 hex digits")]
pub struct NotAPageHash;

impl PageHash {
    /// The hash of a page's content.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// The 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// The same as ASCII.
    pub fn hex_digits(self) -> [u8; 64] {
        let mut digits = [0; 64];
        let Ok(()) = hex::encode_to_slice(self.0, &mut digits) else {
            unreachable!("each byte is two digits")
        };
        digits
    }
}

impl FromStr for PageHash {
    type Err = NotAPageHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAPageHash)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for PageHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_hex())
    }
}

impl fmt::Debug for PageHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for PageHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for PageHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexDigits;
        impl de::Visitor<'_> for HexDigits {
            type Value = PageHash;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text of 64 hex digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PageHash, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(HexDigits)
    }
}

impl ToSql<Text, Pg> for PageHash {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        std::io::Write::write_all(out, &self.hex_digits())?;
        Ok(IsNull::No)
    }
}

impl FromSql<Text, Pg> for PageHash {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(std::str::from_utf8(bytes.as_bytes())?.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_either_case_and_written_in_lower() {
        // The digest of the empty text is published in FIPS 180 examples.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(PageHash::of(b"").to_hex(), empty);
        assert_eq!(empty.to_uppercase().parse(), Ok(PageHash::of(b"")));
        assert_eq!("e3b0".parse::<PageHash>(), Err(NotAPageHash));
        assert_eq!("g".repeat(64).parse::<PageHash>(), Err(NotAPageHash));
    }

    proptest::proptest! {
        #[test]
        fn a_hash_written_is_read_back(content: Vec<u8>) {
            let hash = PageHash::of(&content);
            proptest::prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            proptest::prop_assert_eq!(hash.to_hex().to_uppercase().parse(), Ok(hash));
            let json = serde_json::to_string(&hash).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<PageHash>(&json).unwrap(), hash);
        }
    }
}
