//! From shape to meaning: what each member must be like, and the pointer of the one that is not.

use std::borrow::Cow;

use common::event_id;
use common::page_hash::PageHash;
use common::record::events::{Replay, Sighting, User};
use common::time::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::identity::Ordinals;
use super::raw::{RawEnvelope, RawEvent, RawReplay, RawUser, RawWebstate};
use super::rules::EnvelopeRules;
use super::shape::{Capped, Object};
use super::{Envelope, Event, Page, depth, escapes, fields};
use crate::problem::{Kind, Problem};

/// U+FFFD, for what Postgres cannot store.
const REPLACEMENT: &str = "\u{fffd}";

/// Checks an envelope at the gateway's time `now`.
///
/// # Errors
/// The first member that is missing or wrong, with its path.
pub fn check<'a>(
    raw: RawEnvelope<'a>,
    rules: &EnvelopeRules,
    now: Timestamp,
) -> Result<Envelope<'a>, Problem> {
    let RawEnvelope { replay, events, webstates } = raw;
    let events = within_count(events, rules.events_limit, "events")?;
    let webstates = within_count(webstates, rules.webstates_limit, "webstates")?;
    let mut checker = Checker {
        rules,
        latest_allowed: rules.latest_time(now),
        as_of: rules.earliest_time,
        replaced_escapes: 0,
    };
    let replay = member("replay", fields::required(replay).and_then(|it| checker.replay(it.0)))?;
    let mut ordinals = Ordinals::of(replay.replay_id);
    let mut checked_events = Vec::with_capacity(events.len());
    for (position, event) in events.into_iter().enumerate() {
        let checked = checker.event(&event.0, &mut ordinals);
        checked_events.push(member("events", member(position, checked))?);
    }
    let mut sightings = Vec::with_capacity(webstates.len());
    let mut pages = Vec::new();
    for (position, webstate) in webstates.into_iter().enumerate() {
        let checked = checker.webstate(&webstate.0);
        let (sighting, content) = member("webstates", member(position, checked))?;
        sightings.push(sighting);
        pages.extend(content.map(|content| Page { hash: sighting.html_hash, content, position }));
    }
    Ok(Envelope {
        replay,
        as_of: checker.as_of,
        events: checked_events,
        sightings,
        pages,
        replaced_escapes: checker.replaced_escapes,
    })
}

/// Puts a member's name or an item's place before the pointer of what is wrong inside.
fn member<T>(segment: impl std::fmt::Display, result: Result<T, Problem>) -> Result<T, Problem> {
    result.map_err(|problem| problem.inside(segment))
}

fn within_count<T>(list: Option<Capped<T>>, limit: usize, name: &str) -> Result<Vec<T>, Problem> {
    let Capped { items, total } = list.unwrap_or_default();
    if total > limit {
        let detail = format!("has {total} items; the limit is {limit}");
        return Err(Problem::new(Kind::Invalid, detail).inside(name));
    }
    Ok(items)
}

/// What the checks of all members share.
struct Checker<'r> {
    rules: &'r EnvelopeRules,
    latest_allowed: Timestamp,
    /// The latest of the times that say how new the envelope is.
    as_of: Timestamp,
    replaced_escapes: u64,
}

impl Checker<'_> {
    fn replay<'a>(&mut self, raw: RawReplay<'a>) -> Result<Replay<'a>, Problem> {
        let replay = Replay {
            replay_id: member("replay_id", fields::required(raw.replay_id).and_then(fields::uuid))?,
            initial_url: member(
                "initial_url",
                fields::required(raw.initial_url)
                    .and_then(|url| self.text(url, self.rules.url_limit_bytes)),
            )?,
            start_time: member(
                "start_time",
                fields::required(raw.start_time).and_then(|time| self.time(time)),
            )?,
            end_time: member("end_time", self.optional_time(raw.end_time))?,
            user: member("user", fields::required(raw.user).and_then(|it| self.user(it)))?,
        };
        self.note(replay.start_time);
        if let Some(end_time) = replay.end_time {
            self.note(end_time);
        }
        Ok(replay)
    }

    fn user<'a>(&mut self, Object(raw): Object<RawUser<'a>>) -> Result<User<'a>, Problem> {
        Ok(User {
            user_id: member("user_id", fields::required(raw.user_id).and_then(fields::uuid))?,
            email: member("email", self.optional_text(raw.email, self.rules.email_limit_bytes))?,
            name: member("name", self.optional_text(raw.name, self.rules.name_limit_bytes))?,
            created_at: member("created_at", self.optional_time(raw.created_at))?,
        })
    }

    fn event<'a>(
        &mut self,
        raw: &RawEvent<'a>,
        ordinals: &mut Ordinals,
    ) -> Result<Event<'a>, Problem> {
        let own_id = member("event_id", raw.event_id.map(fields::uuid).transpose())?;
        let seq = member("seq", raw.seq.map(fields::seq).transpose())?;
        let timestamp =
            member("timestamp", fields::required(raw.timestamp).and_then(|time| self.time(time)))?;
        self.note(timestamp);
        let event_type =
            member("event_type", fields::required(raw.event_type).and_then(fields::event_type))?;
        let event_data = member(
            "event_data",
            fields::required(raw.event_data).and_then(|data| self.event_data(data)),
        )?;
        let webstate_hash =
            member("webstate_hash", raw.webstate_hash.map(fields::hash).transpose())?;
        let event_id = match own_id {
            Some(id) => member("event_id", carrying(id, timestamp))?,
            None => ordinals.derive(seq, timestamp, &event_type, event_data.get()),
        };
        Ok(Event { event_id, seq, timestamp, event_type, event_data, webstate_hash })
    }

    fn event_data<'a>(&mut self, raw: &'a RawValue) -> Result<Cow<'a, RawValue>, Problem> {
        let json = raw.get();
        within_size(json.len(), self.rules.event_data_limit_bytes)?;
        let limit = self.rules.event_data_depth_limit;
        if depth::exceeds(json, limit) {
            let detail = format!("nests deeper than {limit} levels");
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let (mended, replaced) = escapes::mend_nulls(json);
        self.replaced_escapes += replaced;
        match mended {
            Cow::Borrowed(_) => Ok(Cow::Borrowed(raw)),
            // An escape instead of another: still JSON.
            Cow::Owned(mended) => RawValue::from_string(mended)
                .map(Cow::Owned)
                .map_err(|error| Problem::new(Kind::Internal, error.to_string())),
        }
    }

    /// A page state's sighting, and its content if that was sent.
    fn webstate<'a>(
        &mut self,
        raw: &RawWebstate<'a>,
    ) -> Result<(Sighting, Option<Cow<'a, str>>), Problem> {
        let said = member("html_hash", raw.html_hash.map(fields::hash).transpose())?;
        let content = member("html_content", raw.html_content.map(fields::text).transpose())?;
        let captured_at = member(
            "captured_at",
            fields::required(raw.captured_at).and_then(|time| self.time(time)),
        )?;
        self.note(captured_at);
        let html_hash = match (&content, said) {
            (Some(content), said) => member("html_hash", hash_of(content, said))?,
            (None, Some(said)) => said,
            (None, None) => {
                let detail = "is missing, and so is html_content: one of the two must be there";
                return Err(Problem::new(Kind::Invalid, detail).inside("html_hash"));
            }
        };
        Ok((Sighting { html_hash, captured_at }, content))
    }

    fn time(&self, raw: &RawValue) -> Result<Timestamp, Problem> {
        let time = Timestamp::from_json(raw.get())
            .map_err(|error| Problem::new(Kind::Invalid, error.to_string()))?;
        let detail = if time < self.rules.earliest_time {
            format!("{time} is before {}; seconds sent for milliseconds?", self.rules.earliest_time)
        } else if time > self.latest_allowed {
            format!(
                "{time} is more than {} hours ahead of the gateway's clock",
                self.rules.hours_ahead_limit
            )
        } else {
            return Ok(time);
        };
        Err(Problem::new(Kind::Invalid, detail))
    }

    fn optional_time(&self, raw: Option<&RawValue>) -> Result<Option<Timestamp>, Problem> {
        raw.map(|raw| self.time(raw)).transpose()
    }

    /// A text that Postgres can store, U+0000 replaced.
    fn text<'a>(&mut self, raw: &'a RawValue, limit_bytes: usize) -> Result<Cow<'a, str>, Problem> {
        let mut text = fields::text(raw)?;
        let nulls = memchr::memchr_iter(0, text.as_bytes()).count();
        if nulls > 0 {
            text = Cow::Owned(text.replace('\0', REPLACEMENT));
            self.replaced_escapes += nulls as u64;
        }
        if text.len() > limit_bytes {
            let detail = format!("has {} bytes; the limit is {limit_bytes}", text.len());
            return Err(Problem::new(Kind::Invalid, detail));
        }
        Ok(text)
    }

    fn optional_text<'a>(
        &mut self,
        raw: Option<&'a RawValue>,
        limit_bytes: usize,
    ) -> Result<Option<Cow<'a, str>>, Problem> {
        raw.map(|raw| self.text(raw, limit_bytes)).transpose()
    }

    fn note(&mut self, time: Timestamp) {
        self.as_of = self.as_of.max(time);
    }
}

fn carrying(id: Uuid, timestamp: Timestamp) -> Result<Uuid, Problem> {
    if event_id::carries(id, timestamp) {
        return Ok(id);
    }
    let detail = "is not a UUID of version 7 that carries the millisecond of the event's timestamp";
    Err(Problem::new(Kind::Invalid, detail))
}

fn hash_of(content: &str, said: Option<PageHash>) -> Result<PageHash, Problem> {
    let actual = PageHash::of(content.as_bytes());
    match said {
        Some(said) if said != actual => {
            let detail = format!("is {said}, but html_content hashes to {actual}");
            Err(Problem::new(Kind::Invalid, detail))
        }
        _ => Ok(actual),
    }
}

/// A size within its limit.
pub(super) fn within_size(bytes: usize, limit_bytes: usize) -> Result<(), Problem> {
    if bytes <= limit_bytes {
        return Ok(());
    }
    let detail = format!("has {bytes} bytes; the limit is {limit_bytes}");
    Err(Problem::new(Kind::TooLarge, detail))
}
