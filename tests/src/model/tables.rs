//! The four tables in a form that can be compared.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use common::page_hash::PageHash;
use common::time::Timestamp;
use uuid::Uuid;

/// How many characters of a row a difference shows: event data can be megabytes.
const SHOWN_CHARACTERS: usize = 400;

/// All rows by primary key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `users`.
    pub users: BTreeMap<Uuid, UserRow>,
    /// `replays`.
    pub replays: BTreeMap<Uuid, ReplayRow>,
    /// `webstates`.
    pub webstates: BTreeMap<PageHash, WebstateRow>,
    /// `events`.
    pub events: BTreeMap<Uuid, EventRow>,
}

/// A row of `users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The address, if this user has it.
    pub email: Option<String>,
    /// The name most recently sent.
    pub name: Option<String>,
    /// The earliest creation time sent.
    pub created_at: Timestamp,
    /// The address most recently sent.
    pub email_claim: Option<String>,
    /// When the claim was made.
    pub email_as_of: Option<Timestamp>,
    /// When the name was sent.
    pub name_as_of: Option<Timestamp>,
}

/// A row of `replays`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRow {
    /// Who was recorded, by the newest envelope.
    pub user_id: Uuid,
    /// The earliest start sent.
    pub start_time: Timestamp,
    /// The latest end sent.
    pub end_time: Option<Timestamp>,
    /// The address of the earliest start.
    pub initial_url: String,
    /// How new the newest envelope is.
    pub user_as_of: Timestamp,
}

/// A row of `webstates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebstateRow {
    /// What the decompressed content hashes to, once it has arrived.
    pub content: Option<PageHash>,
    /// The earliest capture known.
    pub captured_at: Option<Timestamp>,
}

/// A row of `events`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventRow {
    /// Its replay.
    pub replay_id: Uuid,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub event_type: String,
    /// JSON text, byte for byte.
    pub event_data: String,
    /// The page state it belongs to.
    pub webstate_hash: Option<PageHash>,
}

impl Tables {
    /// What `actual` has otherwise, one line a row, at most `limit` lines; empty if both are equal.
    pub fn differences(&self, actual: &Self, limit: usize) -> Vec<String> {
        differences("users", &self.users, &actual.users)
            .chain(differences("replays", &self.replays, &actual.replays))
            .chain(differences("webstates", &self.webstates, &actual.webstates))
            .chain(differences("events", &self.events, &actual.events))
            .take(limit)
            .collect()
    }
}

/// What one table has otherwise, one line a row.
pub fn differences<K: Ord + Display, V: PartialEq + Debug>(
    table: &str,
    expected: &BTreeMap<K, V>,
    actual: &BTreeMap<K, V>,
) -> impl Iterator<Item = String> {
    let missing_or_different = expected.iter().filter_map(move |(key, row)| {
        let found = actual.get(key);
        (found != Some(row)).then(|| {
            let found = found.map_or_else(|| "no row".to_owned(), show);
            format!("{table} {key}: expected {}, found {found}", show(row))
        })
    });
    let unexpected = actual
        .iter()
        .filter(|(key, _)| !expected.contains_key(key))
        .map(move |(key, row)| format!("{table} {key}: expected no row, found {}", show(row)));
    missing_or_different.chain(unexpected)
}

fn show<V: Debug>(row: &V) -> String {
    let mut text = format!("{row:?}");
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_missing_unexpected_and_different_rows() {
        let row = |content| WebstateRow { content, captured_at: None };
        let hash = |text: &str| PageHash::of(text.as_bytes());
        let table = |rows: &[(&str, Option<PageHash>)]| Tables {
            webstates: rows.iter().map(|(key, content)| (hash(key), row(*content))).collect(),
            ..Tables::default()
        };
        let expected = table(&[("same", None), ("missing", None), ("different", None)]);
        let actual = table(&[("same", None), ("unexpected", None), ("different", Some(hash("x")))]);
        assert_eq!(expected.differences(&expected, 10), Vec::<String>::new());
        let differences = expected.differences(&actual, 10);
        assert_eq!(differences.len(), 3, "{differences:?}");
        assert_eq!(expected.differences(&actual, 2).len(), 2);
    }
}
