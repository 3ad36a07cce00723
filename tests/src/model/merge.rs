//! The merging rules, over sets of statements.

use std::collections::{BTreeMap, BTreeSet};

use common::page_hash::PageHash;
use common::record::events::Replay;
use common::time::Timestamp;
use uuid::Uuid;

use super::tables::{EventRow, ReplayRow, Tables, UserRow, WebstateRow};
use crate::recordings::envelope::{Capture, Envelope};

/// Everything that envelopes have said.
#[derive(Clone, Debug, Default)]
pub struct Model {
    users: BTreeMap<Uuid, UserStatements>,
    replays: BTreeMap<Uuid, ReplayStatements>,
    webstates: BTreeMap<PageHash, WebstateStatements>,
    events: BTreeMap<Uuid, EventRow>,
}

#[derive(Clone, Debug, Default)]
struct UserStatements {
    created: BTreeSet<Timestamp>,
    names: BTreeSet<(Timestamp, String)>,
    emails: BTreeSet<(Timestamp, String)>,
}

#[derive(Clone, Debug, Default)]
struct ReplayStatements {
    starts: BTreeSet<(Timestamp, String)>,
    ends: BTreeSet<Timestamp>,
    users: BTreeSet<(Timestamp, Uuid)>,
}

#[derive(Clone, Debug, Default)]
struct WebstateStatements {
    content: Option<PageHash>,
    captures: BTreeSet<Timestamp>,
}

impl Model {
    /// What any number of envelopes say together.
    pub fn of<'a>(envelopes: impl IntoIterator<Item = &'a Envelope>) -> Self {
        let mut model = Self::default();
        for envelope in envelopes {
            model.add(envelope);
        }
        model
    }

    /// Takes in what an envelope says.
    pub fn add(&mut self, envelope: &Envelope) {
        self.add_head(&envelope.replay, envelope.as_of());
        for capture in &envelope.webstates {
            self.add_capture(capture);
        }
        for (event_id, event) in envelope.identified_events() {
            if let Some(hash) = event.webstate_hash {
                self.webstates.entry(hash).or_default();
            }
            self.events.entry(event_id).or_insert_with(|| EventRow {
                replay_id: envelope.replay.replay_id,
                timestamp: event.timestamp,
                event_type: event.event_type.to_owned(),
                event_data: event.event_data.get().to_owned(),
                webstate_hash: event.webstate_hash,
            });
        }
    }

    /// Takes in what an envelope of that time says of its replay and its user.
    pub fn add_head(&mut self, replay: &Replay<'_>, as_of: Timestamp) {
        self.add_user(replay, as_of);
        self.add_replay(replay, as_of);
    }

    fn add_user(&mut self, replay: &Replay<'_>, as_of: Timestamp) {
        let user = &replay.user;
        let statements = self.users.entry(user.user_id).or_default();
        statements.created.insert(user.created_at.unwrap_or(replay.start_time));
        statements.names.extend(user.name.iter().map(|name| (as_of, name.to_string())));
        statements.emails.extend(user.email.iter().map(|email| (as_of, email.to_string())));
    }

    fn add_replay(&mut self, replay: &Replay<'_>, as_of: Timestamp) {
        let statements = self.replays.entry(replay.replay_id).or_default();
        statements.starts.insert((replay.start_time, replay.initial_url.to_string()));
        statements.ends.extend(replay.end_time);
        statements.users.insert((as_of, replay.user.user_id));
    }

    fn add_capture(&mut self, capture: &Capture) {
        let statements = self.webstates.entry(capture.html_hash).or_default();
        statements.captures.insert(capture.captured_at);
        if let Some(content) = &capture.html_content {
            statements.content = Some(PageHash::of(content.as_bytes()));
        }
    }

    /// The tables that follow.
    pub fn tables(&self) -> Tables {
        Tables {
            users: self.user_rows(),
            replays: self.replay_rows(),
            webstates: self
                .webstates
                .iter()
                .map(|(hash, said)| {
                    let captured_at = said.captures.first().copied();
                    (*hash, WebstateRow { content: said.content, captured_at })
                })
                .collect(),
            events: self.events.clone(),
        }
    }

    fn user_rows(&self) -> BTreeMap<Uuid, UserRow> {
        // Of the users that now claim an address, the one created first has it.
        let mut claimants: BTreeMap<&str, BTreeSet<(Timestamp, Uuid)>> = BTreeMap::new();
        for (user_id, said) in &self.users {
            if let (Some((_, claim)), Some(created_at)) = (said.emails.last(), said.created.first())
            {
                claimants.entry(claim).or_default().insert((*created_at, *user_id));
            }
        }
        let row = |user_id: &Uuid, said: &UserStatements| {
            let created_at = *said.created.first()?;
            let claim = said.emails.last().cloned();
            let name = said.names.last().cloned();
            let has_it = |(_, claim): &&(Timestamp, String)| {
                claimants[claim.as_str()].first() == Some(&(created_at, *user_id))
            };
            Some(UserRow {
                email: claim.as_ref().filter(has_it).map(|(_, claim)| claim.clone()),
                name: name.as_ref().map(|(_, name)| name.clone()),
                created_at,
                email_claim: claim.as_ref().map(|(_, claim)| claim.clone()),
                email_as_of: claim.map(|(as_of, _)| as_of),
                name_as_of: name.map(|(as_of, _)| as_of),
            })
        };
        self.users.iter().filter_map(|(id, said)| Some((*id, row(id, said)?))).collect()
    }

    fn replay_rows(&self) -> BTreeMap<Uuid, ReplayRow> {
        let row = |said: &ReplayStatements| {
            let (start_time, initial_url) = said.starts.first()?.clone();
            let (user_as_of, user_id) = *said.users.last()?;
            let end_time = said.ends.last().copied();
            Some(ReplayRow { user_id, start_time, end_time, initial_url, user_as_of })
        };
        self.replays.iter().filter_map(|(id, said)| Some((*id, row(said)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use common::record::events::User;

    use super::*;

    const LATE: i64 = 1_704_067_300_000_000;
    const EARLY: i64 = 1_704_067_200_000_000;

    fn says(user: u128, email: &str, start: i64, end: i64) -> Envelope {
        Envelope {
            replay: Replay {
                replay_id: Uuid::from_u128(1),
                initial_url: format!("https://shop.example/{start}").into(),
                start_time: Timestamp::from_micros(start),
                end_time: Some(Timestamp::from_micros(end)),
                user: User {
                    user_id: Uuid::from_u128(user),
                    email: (!email.is_empty()).then(|| email.to_owned().into()),
                    name: None,
                    created_at: None,
                },
            },
            events: vec![],
            webstates: vec![],
        }
    }

    fn emails(envelopes: &[Envelope]) -> Vec<Option<String>> {
        Model::of(envelopes).tables().users.into_values().map(|row| row.email).collect()
    }

    #[test]
    fn an_address_belongs_to_the_first_of_its_claimants() {
        fn check(envelopes: &[Envelope], expected: &[Option<&str>]) {
            let found = emails(envelopes);
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        }
        let first = says(1, "a", EARLY, EARLY + 1);
        let second = says(2, "a", LATE, LATE + 1);
        check(&[first.clone(), second.clone()], &[Some("a"), None]);
        check(&[second.clone(), first.clone()], &[Some("a"), None]);
        // The first takes another address: the second comes into its own.
        let handed_over = says(1, "b", LATE, LATE + 2);
        check(&[handed_over, second, first.clone()], &[Some("b"), Some("a")]);
        // To say nothing gives nothing up.
        let silent = says(1, "", LATE, LATE + 9);
        check(&[first, silent], &[Some("a")]);
    }

    #[test]
    fn a_replay_keeps_its_first_start_last_end_and_newest_user() {
        let anonymous = says(1, "", EARLY, EARLY + 5);
        let signed_in = says(2, "a", EARLY + 1, LATE);
        let tables = Model::of([&signed_in, &anonymous]).tables();
        let expected = ReplayRow {
            user_id: Uuid::from_u128(2),
            start_time: Timestamp::from_micros(EARLY),
            end_time: Some(Timestamp::from_micros(LATE)),
            initial_url: format!("https://shop.example/{EARLY}"),
            user_as_of: Timestamp::from_micros(LATE),
        };
        assert_eq!(tables.replays[&Uuid::from_u128(1)], expected);
    }
}
