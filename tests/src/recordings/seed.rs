//! Everything random is derived from one seed, so that a run can be had again.

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Chooses the same way for the same seed, purpose and number, on every machine.
pub fn generator(seed: u64, purpose: &str, number: u64) -> StdRng {
    StdRng::from_seed(digest(seed, purpose, number.to_be_bytes().as_slice()))
}

/// A random-looking UUID of version 4 for the `number`-th copy of `original`.
pub fn uuid(seed: u64, number: u64, original: Uuid) -> Uuid {
    let mut subject = number.to_be_bytes().to_vec();
    subject.extend_from_slice(original.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest(seed, "uuid", &subject)[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn digest(seed: u64, purpose: &str, subject: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(purpose);
    hash.update([0]);
    hash.update(subject);
    hash.finalize().into()
}
