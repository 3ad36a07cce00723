//! Reading recordings: gzip of JSON lines, see `tests/recordings/README.md`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::page_hash::PageHash;
use common::record::events::{Replay, User};
use common::time::Timestamp;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::envelope::{Capture, Event};
use super::event_type;
use super::session::{Moment, Session};

/// How a recording's file name ends.
const FILE_ENDING: &str = ".jsonl.gz";

/// Why recordings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be opened, or is not gzip.
    #[error("cannot read {}: {source}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder has no recordings.
    #[error("no *{FILE_ENDING} in {}", .0.display())]
    Empty(PathBuf),
    /// A line is not what the format says.
    #[error("{}, line {line}: {source}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The first line does not say what was recorded.
    #[error("{} does not begin with its replay", .0.display())]
    Headless(PathBuf),
}

/// Reads all recordings of a folder, in the order of their names.
pub(super) fn folder(folder: &Path) -> Result<Vec<Session>, ReadError> {
    let unreadable = |source| ReadError::File { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(FILE_ENDING) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(ReadError::Empty(folder.to_owned()));
    }
    paths.sort();
    paths.iter().map(|path| file(path)).collect()
}

#[derive(Deserialize)]
struct Kind<'a> {
    kind: &'a str,
}

#[derive(Deserialize)]
struct ReplayLine {
    replay_id: Uuid,
    user: UserLine,
    start_time: Timestamp,
    initial_url: String,
}

#[derive(Deserialize)]
struct UserLine {
    user_id: Uuid,
    email: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct WebstateLine {
    html_hash: PageHash,
    captured_at: Timestamp,
    html_content: String,
}

#[derive(Deserialize)]
struct EventLine<'a> {
    #[serde(borrow)]
    rrweb: Rrweb<'a>,
    html_hash: Option<PageHash>,
}

#[derive(Deserialize)]
struct Rrweb<'a> {
    r#type: u64,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    timestamp: Timestamp,
}

#[derive(Deserialize)]
struct EndLine {
    end_time: Timestamp,
}

fn file(path: &Path) -> Result<Session, ReadError> {
    let unreadable = |source| ReadError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file))).lines();
    let mut reading = Reading::default();
    for (number, line) in lines.enumerate() {
        reading.take(&line.map_err(unreadable)?).map_err(|source| ReadError::Line {
            path: path.to_owned(),
            line: number + 1,
            source,
        })?;
    }
    let replay = reading.replay.ok_or_else(|| ReadError::Headless(path.to_owned()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(FILE_ENDING).to_owned();
    Ok(Session { name, replay, moments: reading.moments })
}

/// What has been read of a file so far.
#[derive(Default)]
struct Reading {
    replay: Option<Replay<'static>>,
    moments: Vec<Moment>,
    events: u64,
}

impl Reading {
    fn take(&mut self, line: &str) -> Result<(), serde_json::Error> {
        match serde_json::from_str::<Kind<'_>>(line)?.kind {
            "replay" => self.replay = Some(replay(serde_json::from_str(line)?)),
            "webstate" => self.moments.push(Moment::Page(capture(serde_json::from_str(line)?))),
            "event" => {
                let event = event(self.events, &serde_json::from_str(line)?);
                self.moments.push(Moment::Event(event));
                self.events += 1;
            }
            "end" => {
                let EndLine { end_time } = serde_json::from_str(line)?;
                if let Some(replay) = &mut self.replay {
                    replay.end_time = Some(end_time);
                }
            }
            // A later format may say more.
            _ => {}
        }
        Ok(())
    }
}

fn replay(line: ReplayLine) -> Replay<'static> {
    Replay {
        replay_id: line.replay_id,
        initial_url: line.initial_url.into(),
        start_time: line.start_time,
        end_time: None,
        user: User {
            user_id: line.user.user_id,
            email: line.user.email.map(Into::into),
            name: line.user.name.map(Into::into),
            created_at: None,
        },
    }
}

fn capture(line: WebstateLine) -> Capture {
    Capture {
        html_hash: line.html_hash,
        html_content: Some(line.html_content.into()),
        captured_at: line.captured_at,
    }
}

fn event(seq: u64, line: &EventLine<'_>) -> Event {
    let data = line.rrweb.data.unwrap_or(RawValue::NULL);
    Event {
        seq: Some(seq),
        timestamp: line.rrweb.timestamp,
        event_type: event_type::of(line.rrweb.r#type, data),
        event_data: Arc::from(data.to_owned()),
        webstate_hash: line.html_hash,
    }
}
