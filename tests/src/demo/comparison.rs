//! What was sent against what the tables hold.

use std::collections::{BTreeMap, BTreeSet};

use common::page_hash::PageHash;
use uuid::Uuid;

use crate::model::Tables;
use crate::recordings::Session;

/// How many rows that differ are shown.
const DIFFERENCES_SHOWN: usize = 10;

/// One thing that can be counted on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) sent: u64,
    pub(super) stored: u64,
    /// Rows that were not there before.
    pub(super) new: Option<u64>,
}

impl Line {
    pub(super) fn agrees(&self) -> bool {
        self.sent == self.stored
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) lines: Vec<Line>,
    /// Rows that are not what they must be, in words.
    pub(super) differences: Vec<String>,
}

impl Comparison {
    pub(super) fn agrees(&self) -> bool {
        self.differences.is_empty() && self.lines.iter().all(Line::agrees)
    }
}

/// Compares the tables that must follow from the sessions with what was read from Postgres
/// `before` and `after` they were played.
pub(super) fn compare(
    sessions: &[Session],
    expected: &Tables,
    before: &Tables,
    after: &Tables,
) -> Comparison {
    let mut lines = vec![
        rows("replays", &expected.replays, &before.replays, &after.replays),
        rows("users", &expected.users, &before.users, &after.users),
        rows("events", &expected.events, &before.events, &after.events),
    ];
    lines.extend(event_types(expected, before, after));
    lines.extend([
        Line {
            what: "bytes of event data, equal".to_owned(),
            sent: expected.events.values().map(|event| event.event_data.len() as u64).sum(),
            stored: equal_data_bytes(expected, after),
            new: None,
        },
        Line {
            what: "replays in recording order".to_owned(),
            sent: sessions.len() as u64,
            stored: in_recording_order(sessions, after),
            new: None,
        },
        rows("distinct page states", &expected.webstates, &before.webstates, &after.webstates),
        Line {
            what: "pages that hash to their key".to_owned(),
            sent: expected.webstates.len() as u64,
            stored: pages_with_their_hash(after),
            new: None,
        },
    ]);
    Comparison { lines, differences: expected.differences(after, DIFFERENCES_SHOWN) }
}

fn rows<K, V>(
    what: &str,
    expected: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> Line {
    let (sent, stored) = (expected.len() as u64, after.len() as u64);
    let new = Some(stored.saturating_sub(before.len() as u64));
    Line { what: what.to_owned(), sent, stored, new }
}

fn event_types(expected: &Tables, before: &Tables, after: &Tables) -> Vec<Line> {
    let counts = |tables: &Tables| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for event in tables.events.values() {
            *counts.entry(event.event_type.clone()).or_default() += 1;
        }
        counts
    };
    let (expected, before, after) = (counts(expected), counts(before), counts(after));
    let mut types: Vec<_> =
        expected.keys().chain(after.keys()).collect::<BTreeSet<_>>().into_iter().collect();
    types.sort_by_key(|name| std::cmp::Reverse(expected.get(*name)));
    let line = |name: &String| {
        let of = |counts: &BTreeMap<String, u64>| counts.get(name).copied().unwrap_or(0);
        let new = Some(of(&after).saturating_sub(of(&before)));
        Line { what: format!("  {name}"), sent: of(&expected), stored: of(&after), new }
    };
    types.into_iter().map(line).collect()
}

fn equal_data_bytes(expected: &Tables, after: &Tables) -> u64 {
    let equal = |(id, event): (&Uuid, &crate::model::EventRow)| {
        let stored = after.events.get(id)?;
        (stored.event_data == event.event_data).then_some(event.event_data.len() as u64)
    };
    expected.events.iter().filter_map(equal).sum()
}

/// Counts the sessions whose stored events, by (timestamp, event_id), are the recorded ones in the
/// order of the recording.
fn in_recording_order(sessions: &[Session], after: &Tables) -> u64 {
    let mut stored: BTreeMap<Uuid, Vec<_>> = BTreeMap::new();
    for (id, event) in &after.events {
        stored.entry(event.replay_id).or_default().push((event.timestamp, *id));
    }
    stored.values_mut().for_each(|events| events.sort_unstable());
    let in_order = |session: &&Session| {
        let envelope = session.envelope();
        let recorded = envelope.identified_events().map(|(id, event)| (event.timestamp, id));
        let stored = stored.get(&session.replay.replay_id).map_or(&[][..], Vec::as_slice);
        recorded.eq(stored.iter().copied())
    };
    sessions.iter().filter(in_order).count() as u64
}

fn pages_with_their_hash(after: &Tables) -> u64 {
    let fits = |(hash, row): &(&PageHash, &crate::model::WebstateRow)| row.content == Some(**hash);
    after.webstates.iter().filter(fits).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::recordings::own;

    fn sessions_and_tables() -> (Vec<Session>, Tables) {
        let sessions = own().unwrap();
        let envelopes: Vec<_> = sessions.iter().map(Session::envelope).collect();
        let tables = Model::of(&envelopes).tables();
        (sessions, tables)
    }

    #[test]
    fn what_is_as_sent_agrees_and_is_new_only_once() {
        let (sessions, tables) = sessions_and_tables();
        let first = compare(&sessions, &tables, &Tables::default(), &tables);
        assert!(first.agrees(), "{first:?}");
        assert!(first.lines.iter().all(|line| line.new.is_none_or(|new| new == line.sent)));
        let second = compare(&sessions, &tables, &tables, &tables);
        assert!(second.agrees() && second.lines.iter().all(|line| line.new.unwrap_or(0) == 0));
    }

    fn without_first<K: Clone + Ord, V: Clone>(rows: &BTreeMap<K, V>) -> BTreeMap<K, V> {
        rows.clone().into_iter().skip(1).collect()
    }

    #[test]
    fn every_kind_of_loss_or_change_is_seen() {
        let (sessions, tables) = sessions_and_tables();
        let check = |change: &dyn Fn(&mut Tables), what: &str| {
            let mut after = tables.clone();
            change(&mut after);
            let found = compare(&sessions, &tables, &Tables::default(), &after);
            assert!(!found.agrees() && !found.differences.is_empty(), "{what}");
            let wrong = |line: &Line| line.what == what && !line.agrees();
            assert!(found.lines.iter().any(wrong), "{what} in {:?}", found.lines);
        };
        check(&|tables| tables.events = without_first(&tables.events), "events");
        check(&|tables| tables.replays = without_first(&tables.replays), "replays");
        check(&|tables| tables.users = without_first(&tables.users), "users");
        check(
            &|tables| tables.webstates = without_first(&tables.webstates),
            "distinct page states",
        );
        check(
            &|tables| tables.webstates.values_mut().for_each(|row| row.content = None),
            "pages that hash to their key",
        );
        check(
            &|tables| tables.events.values_mut().for_each(|row| row.event_data.push(' ')),
            "bytes of event data, equal",
        );
        check(
            &|tables| {
                let last = tables.events.values().map(|row| row.timestamp).max();
                if let (Some(mut row), Some(last)) = (tables.events.first_entry(), last) {
                    row.get_mut().timestamp = last;
                }
            },
            "replays in recording order",
        );
    }
}
