//! What the tables must hold, computed a second way.
//!
//! [`merge`] restates the merging rules over sets: it collects every statement that any envelope
//! makes, and picks least and greatest at the end. So order and repetition cannot matter to it,
//! and it shares nothing with the writer but the words of the rules. [`dump`] reads the real
//! tables into the same form, and [`records`] delivers without a gateway.

pub mod dump;
pub mod merge;
pub mod records;
mod tables;

pub use merge::Model;
pub use tables::{EventRow, ReplayRow, Tables, UserRow, WebstateRow, differences};
