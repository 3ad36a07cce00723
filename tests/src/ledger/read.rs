//! Reading a ledger line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::line::Line;

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("cannot read the ledger {}: {source}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line that is whole is not of the format.
    #[error("{}, line {line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Gives every whole line to `take`, which may refuse it. A last line without its line feed is
/// the one that was being written when the run was killed, and is left out.
///
/// # Errors
/// See [`ReadError`].
pub fn read(
    path: &Path,
    mut take: impl FnMut(Line<'_>) -> Result<(), String>,
) -> Result<(), ReadError> {
    let unreadable = |source| ReadError::File { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let length = file.read_until(b'\n', &mut text).map_err(unreadable)?;
        if length == 0 || text.last() != Some(&b'\n') {
            break;
        }
        serde_json::from_slice(&text)
            .map_err(|error| error.to_string())
            .and_then(&mut take)
            .map_err(|problem| ReadError::Line { path: path.to_owned(), line, problem })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Ledger, Outcome, Sent};
    use super::*;
    use crate::recordings::own;

    fn lines(text: &[u8]) -> Result<usize, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut count = 0;
        let read = read(file.path(), |_| {
            count += 1;
            Ok(())
        });
        read.map(|()| count).map_err(|error| error.to_string())
    }

    fn ledger() -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ledger = Ledger::create(file.path()).unwrap();
        let batch = ledger.sent(&own().unwrap()[15].envelope()).unwrap();
        ledger.settled(batch, Outcome::Acknowledged, Some(200), 1).unwrap();
        ledger.garbage("a").unwrap();
        ledger.garbage_acknowledged("a").unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let envelope = own().unwrap()[15].envelope();
        let file = tempfile::NamedTempFile::new().unwrap();
        let ledger = Ledger::create(file.path()).unwrap();
        assert_eq!(ledger.sent(&envelope).unwrap(), 0);
        assert_eq!(ledger.sent(&envelope).unwrap(), 1);
        let mut batches = Vec::new();
        read(file.path(), |line| {
            let Line::Sent(sent) = line else { return Err("not sent".to_owned()) };
            batches.push(sent.into_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(batches, [Sent::of(0, &envelope), Sent::of(1, &envelope)]);
    }

    #[test]
    fn a_ledger_is_read_to_wherever_its_run_was_killed() {
        let whole = ledger();
        for end in 0..=whole.len() {
            let ended = whole[..end].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines(&whole[..end]), Ok(ended), "after {end} bytes");
        }
    }

    #[test]
    fn any_other_damage_is_named_by_its_line() {
        fn check(damage: &[u8]) {
            let mut text = ledger();
            text.extend_from_slice(damage);
            text.extend_from_slice(b"\n{\"garbage\":{\"key\":\"b\"}}\n");
            assert!(lines(&text).unwrap_err().contains("line 5:"));
        }
        check(b"{\"garbage\":{\"key\"");
        check(b"");
        check(b"{\"other\":{}}");
        check(b"{\"garbage\":{\"key\":\"\xff\"}}");
    }

    #[test]
    fn an_event_takes_less_than_500_bytes() {
        for session in own().unwrap() {
            let envelope = session.envelope();
            let line = serde_json::to_vec(&Line::Sent(Sent::of(0, &envelope))).unwrap();
            assert!(line.len() < 500 * envelope.events.len(), "{}", session.name);
        }
    }
}
