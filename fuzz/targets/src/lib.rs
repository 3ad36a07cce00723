//! What must hold for all bytes that reach Tapedeck from outside: a function a parser, each of
//! which takes any bytes and panics where an invariant does not hold.
//!
//! libFuzzer looks for such bytes (`../fuzz_targets`, see CONTRIBUTING.md); what it found, and
//! the bytes with which it begins, are tried by every `cargo test` (`tests/corpora.rs`).

#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a target says by a panic that an invariant does not hold"
)]

pub mod content_encoding;
pub mod dead_letter;
pub mod envelope;
pub mod escapes;
pub mod events_record;
pub mod keys_file;
pub mod lines;
pub mod message;
pub mod page_record;
pub mod record_headers;
pub mod rows;
pub mod timestamp;

/// A parser of outside bytes, and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the program, and of the folders of its corpus and its crashes.
    pub name: &'static str,
    /// Tries one input.
    pub check: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    Target { name: "content_encoding", check: content_encoding::check },
    Target { name: "dead_letter", check: dead_letter::check },
    Target { name: "envelope", check: envelope::check },
    Target { name: "escapes", check: escapes::check },
    Target { name: "events_record", check: events_record::check },
    Target { name: "keys_file", check: keys_file::check },
    Target { name: "lines", check: lines::check },
    Target { name: "page_record", check: page_record::check },
    Target { name: "record_headers", check: record_headers::check },
    Target { name: "timestamp", check: timestamp::check },
];

/// The target of that name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}"))
}
