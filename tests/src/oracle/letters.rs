//! Every record that cannot be written whole against the dead letters.

use std::collections::BTreeMap;
use std::fmt;

use common::record::headers::{
    ERROR_CLASS, ERROR_EVENTS, ERROR_MESSAGE, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC,
};
use sha2::{Digest, Sha256};

use super::clause::Clause;
use super::verdict::Verdict;
use crate::stack::records::Record;

/// The headers that a dead letter has besides the original's.
const ADDED_HEADERS: [&str; 6] =
    [ERROR_CLASS, ERROR_MESSAGE, ERROR_EVENTS, ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET];

/// More events than any envelope may hold: a header that names more is not believed.
const NAMED_EVENTS_MAX: usize = 1_000_000;

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A record that must be in the dead letters.
#[derive(Debug)]
struct Dead {
    digest: RecordDigest,
    /// What the dead letter must say is wrong with it.
    class: &'static str,
    /// The places of its unwritable events; none where the record cannot be read.
    events: Option<Vec<usize>>,
    letters: u64,
}

/// SHA-256 over key, value and headers.
type RecordDigest = [u8; 32];

/// All records that must be in the dead letters, and those found there.
#[derive(Debug, Default)]
pub(super) struct Letters {
    dead: BTreeMap<Origin, Dead>,
}

impl Letters {
    /// A record of that topic must be in the dead letters, under that class of errors: because of
    /// the events at these places, or because it cannot be read.
    pub(super) fn expect(
        &mut self,
        topic: &str,
        record: &Record,
        class: &'static str,
        events: Option<Vec<usize>>,
    ) {
        let origin =
            Origin { topic: topic.to_owned(), partition: record.partition, offset: record.offset };
        self.dead.insert(origin, Dead { digest: digest(record), class, events, letters: 0 });
    }

    /// There is that dead letter.
    pub(super) fn take(&mut self, letter: &Record, verdict: &mut Verdict) {
        verdict.counts.letters += 1;
        let place = (letter.partition, letter.offset);
        let Some(origin) = origin(letter) else {
            return verdict.add(Clause::LetterUnexpected, || format!("{place:?} names no origin"));
        };
        let Some(dead) = self.dead.get_mut(&origin) else {
            return verdict.add(Clause::LetterUnexpected, || {
                let class = letter.header(ERROR_CLASS).unwrap_or("no class");
                let message = letter.header(ERROR_MESSAGE).unwrap_or_default();
                format!("{origin} ({class}: {message})")
            });
        };
        dead.letters += 1;
        verdict.counts.repeated_letters += u64::from(dead.letters > 1);
        if digest(letter) != dead.digest {
            verdict.add(Clause::LetterChanged, || origin.to_string());
        }
        let header = letter.header(ERROR_EVENTS);
        if header.map(named) != dead.events.clone().map(Some) {
            verdict.add(Clause::LetterMisnamed, || {
                format!("{origin}: {header:?} instead of {:?}", dead.events)
            });
        }
        let class = letter.header(ERROR_CLASS);
        if class != Some(dead.class) {
            verdict.add(Clause::LetterMisnamed, || {
                format!("{origin}: class {class:?} instead of {:?}", dead.class)
            });
        }
        if letter.header(ERROR_MESSAGE).is_none_or(str::is_empty) {
            verdict.add(Clause::LetterMisnamed, || format!("{origin}: without a message"));
        }
    }

    /// Judges what was not found. All dead letters have been given before.
    pub(super) fn judge(&self, verdict: &mut Verdict) {
        for (origin, dead) in self.dead.iter().filter(|(_, dead)| dead.letters == 0) {
            verdict.add(Clause::LetterMissing, || match &dead.events {
                Some(events) => format!("{origin}, with unwritable events {events:?}"),
                None => format!("{origin}, which cannot be read"),
            });
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset } = self;
        write!(formatter, "{topic} [{partition}] @{offset}")
    }
}

fn origin(letter: &Record) -> Option<Origin> {
    Some(Origin {
        topic: letter.header(ORIGINAL_TOPIC)?.to_owned(),
        partition: letter.header(ORIGINAL_PARTITION)?.parse().ok()?,
        offset: letter.header(ORIGINAL_OFFSET)?.parse().ok()?,
    })
}

/// The places that a header such as `0-2,17` names, in the order in which it does.
fn named(header: &str) -> Option<Vec<usize>> {
    let mut places = Vec::new();
    for range in header.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= NAMED_EVENTS_MAX || places.len() >= NAMED_EVENTS_MAX {
            return None;
        }
        places.extend(first..=last);
    }
    Some(places)
}

fn digest(record: &Record) -> RecordDigest {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(&record.key);
    match &record.value {
        Some(value) => add(value),
        None => add(b"a tombstone"),
    }
    for (name, value) in &record.headers {
        if !ADDED_HEADERS.contains(&name.as_str()) {
            add(name.as_bytes());
            add(value);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            partition: 1,
            offset: 5,
            key: b"key".to_vec(),
            value: Some(b"value".to_vec()),
            headers: vec![("schema".to_owned(), b"1".to_vec())],
        }
    }

    fn letter(original: &Record, events: Option<&str>) -> Record {
        let mut letter = Record { partition: 0, offset: 0, ..original.clone() };
        let mut add = |name: &str, value: &str| {
            letter.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        };
        add(ORIGINAL_TOPIC, "events");
        add(ORIGINAL_PARTITION, "1");
        add(ORIGINAL_OFFSET, &original.offset.to_string());
        add(ERROR_CLASS, "class");
        add(ERROR_MESSAGE, "message");
        if let Some(events) = events {
            add(ERROR_EVENTS, events);
        }
        letter
    }

    fn verdict(events: Option<Vec<usize>>, letters: &[Record]) -> Verdict {
        let mut expected = Letters::default();
        expected.expect("events", &record(), "class", events);
        let mut verdict = Verdict::default();
        for letter in letters {
            expected.take(letter, &mut verdict);
        }
        expected.judge(&mut verdict);
        verdict
    }

    #[test]
    fn what_is_dead_is_in_the_letters_as_it_was_and_nothing_else() {
        fn check(events: Option<&[usize]>, letters: &[Record], expected: &[Clause]) {
            let verdict = verdict(events.map(<[_]>::to_vec), letters);
            let found: Vec<_> = verdict.findings().keys().copied().collect();
            assert_eq!(found, expected, "{letters:?}");
        }
        let places = &[0, 1, 2, 17][..];
        let whole = letter(&record(), Some("0-2,17"));
        check(Some(places), std::slice::from_ref(&whole), &[]);
        check(None, &[letter(&record(), None)], &[]);
        check(Some(places), &[], &[Clause::LetterMissing]);
        check(None, &[], &[Clause::LetterMissing]);
        for events in [None, Some(""), Some("0-2"), Some("0-17"), Some("0-3000000000")] {
            check(Some(places), &[letter(&record(), events)], &[Clause::LetterMisnamed]);
        }
        check(None, &[letter(&record(), Some("0"))], &[Clause::LetterMisnamed]);
        for (name, value) in [(ERROR_CLASS, "another"), (ERROR_MESSAGE, "")] {
            let mut misnamed = letter(&record(), None);
            misnamed.headers.retain(|(header, _)| header != name);
            check(None, std::slice::from_ref(&misnamed), &[Clause::LetterMisnamed]);
            misnamed.headers.push((name.to_owned(), value.into()));
            check(None, &[misnamed], &[Clause::LetterMisnamed]);
        }
        for changed in [
            Record { key: b"other".to_vec(), ..record() },
            Record { value: Some(b"other".to_vec()), ..record() },
            Record { value: None, ..record() },
            Record { headers: vec![], ..record() },
        ] {
            check(None, &[letter(&changed, None)], &[Clause::LetterChanged]);
        }
        let elsewhere = letter(&Record { offset: 6, ..record() }, None);
        let from_nowhere = Record { headers: vec![], ..whole.clone() };
        for unexpected in [elsewhere, from_nowhere] {
            check(Some(places), &[whole.clone(), unexpected], &[Clause::LetterUnexpected]);
        }
    }

    #[test]
    fn repeated_letters_are_counted_apart() {
        let letter = letter(&record(), None);
        let verdict = verdict(None, &[letter.clone(), letter.clone(), letter]);
        assert!(verdict.is_clean());
        assert_eq!((verdict.counts.letters, verdict.counts.repeated_letters), (3, 2));
    }
}
