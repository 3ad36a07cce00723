//! How statements about one user, replay or page state become one row, whatever their order and
//! number.
//!
//! Each state is an element of a semilattice: [`Merge::merge`] is commutative, associative and
//! idempotent (the property tests say so). That is what makes repetition and reordering
//! harmless, and it makes *remembering* sound: rows only ever move upwards, so what would not
//! change a state known to be stored will not change the row, whoever else has written since.
//!
//! The upserts in [`crate::store::statements`] do the same in SQL, for writers that meet.

use common::page_hash::PageHash;
use common::record::events::{Replay, Sighting};
use common::time::Timestamp;
use uuid::Uuid;

/// States that can be merged.
pub trait Merge {
    /// Takes in what `other` knows.
    fn merge(&mut self, other: &Self);
}

/// A statement that newer ones replace; among equally new ones the greatest wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dated<T> {
    /// The `as_of` of the envelope that made it.
    pub as_of: Timestamp,
    /// What it says.
    pub value: T,
}

/// What is known of a user. (`users.email` is derived from the claims, see
/// [`crate::store::emails`].)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserState {
    /// The least `created_at` stated.
    pub created_at: Timestamp,
    /// The newest name stated.
    pub name: Option<Dated<String>>,
    /// The newest address claimed.
    pub email_claim: Option<Dated<String>>,
}

/// What is known of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayState {
    /// The least (start, first address) stated.
    pub start: (Timestamp, String),
    /// The greatest end stated.
    pub end_time: Option<Timestamp>,
    /// Whose replay it is by the newest statement.
    pub user_id: Dated<Uuid>,
}

/// What is known of a page state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebstateState {
    /// The least time of capture stated.
    pub captured_at: Option<Timestamp>,
    /// Whether the page itself is there.
    pub has_content: bool,
}

impl UserState {
    /// What one envelope says of its user.
    pub fn of(replay: &Replay<'_>, as_of: Timestamp) -> Self {
        let dated = |text: &str| Dated { as_of, value: text.to_owned() };
        Self {
            created_at: replay.user.created_at.unwrap_or(replay.start_time),
            name: replay.user.name.as_deref().map(dated),
            email_claim: replay.user.email.as_deref().map(dated),
        }
    }
}

impl ReplayState {
    /// What one envelope says of its replay.
    pub fn of(replay: &Replay<'_>, as_of: Timestamp) -> Self {
        Self {
            start: (replay.start_time, replay.initial_url.clone().into_owned()),
            end_time: replay.end_time,
            user_id: Dated { as_of, value: replay.user.user_id },
        }
    }
}

impl WebstateState {
    /// An event refers to the page state; nothing else is known.
    pub const REFERRED_TO: Self = Self { captured_at: None, has_content: false };

    /// The page itself came.
    pub const WITH_CONTENT: Self = Self { captured_at: None, has_content: true };

    /// The page state was seen.
    pub fn seen(sighting: &Sighting) -> (PageHash, Self) {
        let state = Self { captured_at: Some(sighting.captured_at), has_content: false };
        (sighting.html_hash, state)
    }
}

impl Merge for UserState {
    fn merge(&mut self, other: &Self) {
        self.created_at = self.created_at.min(other.created_at);
        keep_greater(&mut self.name, &other.name);
        keep_greater(&mut self.email_claim, &other.email_claim);
    }
}

impl Merge for ReplayState {
    fn merge(&mut self, other: &Self) {
        if other.start < self.start {
            self.start.clone_from(&other.start);
        }
        keep_greater(&mut self.end_time, &other.end_time);
        keep_greater(&mut self.user_id, &other.user_id);
    }
}

impl Merge for WebstateState {
    fn merge(&mut self, other: &Self) {
        self.captured_at = match (self.captured_at, other.captured_at) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        self.has_content |= other.has_content;
    }
}

/// Of two values the greater; an absent one never wins.
fn keep_greater<T: Ord + Clone>(ours: &mut T, theirs: &T) {
    if theirs > ours {
        ours.clone_from(theirs);
    }
}

/// Merges `incoming` into what is stored; `None` when that changes nothing.
pub fn change<T: Merge + Clone + PartialEq>(stored: &T, incoming: &T) -> Option<T> {
    let mut merged = stored.clone();
    merged.merge(incoming);
    (merged != *stored).then_some(merged)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    // Few values, so that ties are common.
    fn time() -> impl Strategy<Value = Timestamp> {
        (0_i64..4).prop_map(Timestamp::from_micros)
    }

    fn dated() -> impl Strategy<Value = Option<Dated<String>>> {
        prop::option::of((time(), "[aBé]{0,2}").prop_map(|(as_of, value)| Dated { as_of, value }))
    }

    fn user() -> impl Strategy<Value = UserState> {
        (time(), dated(), dated()).prop_map(|(created_at, name, email_claim)| UserState {
            created_at,
            name,
            email_claim,
        })
    }

    fn replay() -> impl Strategy<Value = ReplayState> {
        (time(), "[aB]{0,2}", prop::option::of(time()), time(), 0_u128..3).prop_map(
            |(start, url, end_time, as_of, user)| ReplayState {
                start: (start, url),
                end_time,
                user_id: Dated { as_of, value: Uuid::from_u128(user) },
            },
        )
    }

    fn webstate() -> impl Strategy<Value = WebstateState> {
        (prop::option::of(time()), any::<bool>())
            .prop_map(|(captured_at, has_content)| WebstateState { captured_at, has_content })
    }

    fn merged<T: Merge + Clone>(a: &T, b: &T) -> T {
        let mut merged = a.clone();
        merged.merge(b);
        merged
    }

    fn check_semilattice<T: Merge + Clone + PartialEq + Debug>(a: &T, b: &T, c: &T) {
        assert_eq!(merged(a, a), *a, "idempotent");
        assert_eq!(merged(a, b), merged(b, a), "commutative");
        assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)), "associative");
        assert_eq!(change(&merged(a, b), b), None, "what is merged in changes nothing any more");
    }

    proptest! {
        #[test]
        fn users_merge_in_any_order(a in user(), b in user(), c in user()) {
            check_semilattice(&a, &b, &c);
        }

        #[test]
        fn replays_merge_in_any_order(a in replay(), b in replay(), c in replay()) {
            check_semilattice(&a, &b, &c);
        }

        #[test]
        fn webstates_merge_in_any_order(a in webstate(), b in webstate(), c in webstate()) {
            check_semilattice(&a, &b, &c);
        }
    }

    #[test]
    fn newer_names_win_and_ties_go_to_the_greatest() {
        fn check(names: &[(i64, &str)], expected: &str) {
            let state = |(as_of, name): &(i64, &str)| UserState {
                created_at: Timestamp::from_micros(0),
                name: Some(Dated {
                    as_of: Timestamp::from_micros(*as_of),
                    value: (*name).to_owned(),
                }),
                email_claim: None,
            };
            let all = names.iter().map(state).reduce(|a, b| merged(&a, &b)).unwrap();
            assert_eq!(all.name.unwrap().value, expected);
        }
        check(&[(1, "Zoë"), (2, "Ann")], "Ann");
        check(&[(2, "Ann"), (1, "Zoë")], "Ann");
        check(&[(2, "Ann"), (2, "ann")], "ann");
    }

    #[test]
    fn the_first_address_is_that_of_the_earliest_start() {
        let state = |start: i64, url: &str| ReplayState {
            start: (Timestamp::from_micros(start), url.to_owned()),
            end_time: None,
            user_id: Dated { as_of: Timestamp::from_micros(0), value: Uuid::nil() },
        };
        assert_eq!(merged(&state(2, "/a"), &state(1, "/z")).start.1, "/z");
        assert_eq!(merged(&state(1, "/z"), &state(1, "/a")).start.1, "/a");
    }
}
