//! Keys of recorders: the file that holds their hashes, the command that edits it, and the store
//! that the service asks.
//!
//! A key is 256 random bits, so a plain SHA-256 is the right hash for it: there is nothing to
//! guess that salt or slowness would protect, and every request has to be hashed.

pub mod command;
pub mod file;
pub mod store;

use sha2::{Digest, Sha256};

/// SHA-256 of a key's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct KeyHash(#[serde(with = "hex")] [u8; 32]);

impl KeyHash {
    /// The hash of a key as it is presented.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The first digits, by which people tell keys apart.
    pub fn short(self) -> String {
        hex::encode(&self.0[..4])
    }
}
