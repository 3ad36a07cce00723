//! Small worlds in which everything happens that merging must bear: few users, replays, pages and
//! addresses, and many statements about them, delivered in pieces, repeatedly and in any order.

use common::page_hash::PageHash;
use common::record::events::{Replay, User};
use common::time::Timestamp;
use proptest::prelude::*;
use serde_json::value::RawValue;
use tests::recordings::envelope::{Capture, Envelope, Event};
use tests::recordings::seed;
use uuid::Uuid;

use super::pipeline::{Delivery, UNSPLIT_BYTES};

/// 2026-01-01T00:00:00Z, where two of the events' partitions meet.
const MIDNIGHT_MICROS: i64 = 1_767_225_600_000_000;

/// Records so small that most envelopes are split.
const SPLIT_BYTES: usize = 900;

/// What event data looks like: kept byte for byte, however odd.
const DATA: [&str; 6] = [
    "null",
    "{ \"x\": 1.0,\t\"x\": 1.00 }",
    "\"é\\u00e9 雪 \\\"\"",
    "[1E400, -0, [], {}]",
    "{\"z\":1,\"a\":{\"b\":[true]}}",
    "9007199254740993",
];

/// What one envelope says, in small numbers; [`World::envelopes`] gives them names.
#[derive(Clone, Debug)]
struct Statement {
    replay: u8,
    user: u8,
    email: Option<u8>,
    name: Option<u8>,
    created: Option<u8>,
    start: u8,
    end: Option<u8>,
    url: u8,
    events: Vec<u8>,
    captures: Vec<(u8, u8, bool)>,
    /// One for each delivery: its place among all, and whether it is split.
    deliveries: Vec<(u16, bool)>,
}

/// Any number of statements.
#[derive(Clone, Debug)]
pub(super) struct World(Vec<Statement>);

fn statement() -> impl Strategy<Value = Statement> {
    let time = 0_u8..12;
    let user = (0_u8..3, prop::option::of(0_u8..3), prop::option::of(0_u8..3));
    let replay = (0_u8..4, time.clone(), prop::option::of(time.clone()), 0_u8..3);
    let captures = prop::collection::vec((0_u8..3, time.clone(), any::<bool>()), 0..3);
    let events = prop::collection::vec(0_u8..16, 0..6);
    let deliveries = prop::collection::vec(any::<(u16, bool)>(), 1..4);
    (user, prop::option::of(time), replay, events, captures, deliveries).prop_map(
        |(
            (user, email, name),
            created,
            (replay, start, end, url),
            events,
            captures,
            deliveries,
        )| {
            Statement {
                replay,
                user,
                email,
                name,
                created,
                start,
                end,
                url,
                events,
                captures,
                deliveries,
            }
        },
    )
}

/// Any small world.
pub(super) fn world() -> impl Strategy<Value = World> {
    prop::collection::vec(statement(), 1..16).prop_map(World)
}

impl World {
    /// The envelopes. Another `case` gives the same under other ids, addresses and pages.
    pub(super) fn envelopes(&self, case: u64) -> Vec<Envelope> {
        let names = Names { case };
        self.0.iter().map(|statement| names.envelope(statement)).collect()
    }

    /// How these envelopes are delivered.
    pub(super) fn deliveries<'a>(&self, envelopes: &'a [Envelope]) -> Vec<Delivery<'a>> {
        let mut deliveries: Vec<_> = self
            .0
            .iter()
            .zip(envelopes)
            .flat_map(|(statement, envelope)| {
                statement.deliveries.iter().map(move |(place, split)| {
                    let limit_bytes = if *split { SPLIT_BYTES } else { UNSPLIT_BYTES };
                    (*place, Delivery { envelope, limit_bytes })
                })
            })
            .collect();
        deliveries.sort_by_key(|(place, _)| *place);
        deliveries.into_iter().map(|(_, delivery)| delivery).collect()
    }
}

/// What the small numbers of one case stand for.
struct Names {
    case: u64,
}

impl Names {
    fn replay(&self, number: u8) -> Uuid {
        seed::uuid(self.case, number.into(), Uuid::from_u128(1))
    }

    fn user(&self, number: u8) -> Uuid {
        seed::uuid(self.case, number.into(), Uuid::from_u128(2))
    }

    fn page(&self, number: u8) -> String {
        format!("<!DOCTYPE html><title>{}</title><p>page {number} é", self.case)
    }

    /// Times around midnight, several of them within a millisecond.
    fn time(number: u8) -> Timestamp {
        Timestamp::from_micros(MIDNIGHT_MICROS + (i64::from(number) - 6) * 400)
    }

    fn envelope(&self, statement: &Statement) -> Envelope {
        let text = |kind: &str, number: u8| format!("{kind}{number}@{}.example", self.case);
        Envelope {
            replay: Replay {
                replay_id: self.replay(statement.replay),
                initial_url: format!("https://shop.example/{}", statement.url).into(),
                start_time: Self::time(statement.start),
                end_time: statement.end.map(Self::time),
                user: User {
                    user_id: self.user(statement.user),
                    email: statement.email.map(|number| text("é", number).into()),
                    name: statement.name.map(|number| text("Name", number).into()),
                    created_at: statement.created.map(Self::time),
                },
            },
            events: statement.events.iter().map(|seq| self.event(*seq)).collect(),
            webstates: statement
                .captures
                .iter()
                .map(|(page, time, with_content)| self.capture(*page, *time, *with_content))
                .collect(),
        }
    }

    /// The same number is the same event, in whichever envelope: recorders don't contradict
    /// themselves.
    fn event(&self, seq: u8) -> Event {
        let data = DATA[usize::from(seq) % DATA.len()].to_owned();
        Event {
            seq: Some(seq.into()),
            timestamp: Self::time(seq),
            event_type: if seq.is_multiple_of(2) { "click" } else { "dom_mutation" },
            event_data: RawValue::from_string(data).unwrap().into(),
            webstate_hash: seq
                .is_multiple_of(3)
                .then(|| PageHash::of(self.page(seq % 5).as_bytes())),
        }
    }

    fn capture(&self, page: u8, time: u8, with_content: bool) -> Capture {
        let content = self.page(page);
        Capture {
            html_hash: PageHash::of(content.as_bytes()),
            html_content: with_content.then(|| content.into()),
            captured_at: Self::time(time),
        }
    }
}
