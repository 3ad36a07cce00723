//! Commands for people: looking at what is stored, and at what could not be.

mod dead_letters;
mod page;
mod redrive;
mod replay;
mod scan;

pub use dead_letters::{DeadLettersCommand, Entry, ListOptions, list};
pub use page::{PageOptions, page};
pub use redrive::{RedriveOptions, origin, redrive};
pub use replay::{ReplayOptions, replay};
pub use scan::Selection;

/// The name of the commands' sessions in `pg_stat_activity`.
const APPLICATION: &str = "tapedeck-writer-command";
