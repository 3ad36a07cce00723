//! Recorded sessions: read from files, turned into what a recorder sends, and cloned.
//!
//! The files hold rrweb's own events; `event_type` says what each is called in the recorder
//! API. An event's data is never touched: it is a [`serde_json::value::RawValue`] from the file
//! to the request.

mod cast;
mod clone;
pub mod envelope;
mod event_type;
mod read;
pub mod seed;
mod session;

use std::path::Path;

use crate::stack::paths::repository;

pub use cast::Cast;
pub use clone::CloneOptions;
pub use read::ReadError;
pub use session::{Moment, Session};

/// The sample recordings that are part of the repository.
///
/// # Errors
/// When one of them cannot be read.
pub fn own() -> Result<Vec<Session>, ReadError> {
    read::folder(&repository().join("tests/recordings/sessions"))
}

/// The larger recordings that may lie beside the repository; none where that folder is absent.
///
/// # Errors
/// When one of them cannot be read.
pub fn shared() -> Result<Vec<Session>, ReadError> {
    let folder = repository().join("../shared/recordings");
    if folder.is_dir() { read::folder(&folder) } else { Ok(Vec::new()) }
}

/// Both.
///
/// # Errors
/// When one of them cannot be read.
pub fn all() -> Result<Vec<Session>, ReadError> {
    Ok([own()?, shared()?].concat())
}

/// All recordings of a folder, in the order of their file names.
///
/// # Errors
/// When the folder or one of them cannot be read, or it holds none.
pub fn from_folder(folder: &Path) -> Result<Vec<Session>, ReadError> {
    read::folder(folder)
}
