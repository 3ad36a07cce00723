//! When which events and page states leave a recorder.

use std::ops::Range;
use std::time::Duration;

use common::time::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::recordings::envelope::{Capture, Event};
use crate::recordings::{Moment, Session};

/// A recorder sends every so many seconds of recording time, both ends included.
pub(super) const BATCH_INTERVAL_SECONDS: Range<u64> = 2..10;

/// How often a page state is still being compressed when the batch leaves whose events name it.
const LATE_PAGE_SHARE: f64 = 0.2;

/// How many batches later such a page leaves at most.
const LATE_PAGE_BATCHES_MAX: usize = 3;

/// What leaves a recorder at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// When, counted from the start of the recording, in recording time.
    pub(super) due: Duration,
    /// Events since the batch before, in order.
    pub(super) events: Vec<Event>,
    /// Page states, each with its content.
    pub(super) pages: Vec<Capture>,
}

/// Cuts a session into batches. Every event and page is in exactly one; there is at least one.
pub(super) fn batches(session: &Session, choices: &mut StdRng) -> Vec<Batch> {
    let punctual = cut(session, choices);
    delay_pages(punctual, choices)
}

fn cut(session: &Session, choices: &mut StdRng) -> Vec<Batch> {
    let start = session.replay.start_time;
    let mut batches = Vec::new();
    let mut batch = Batch { due: interval(choices), ..Batch::default() };
    for moment in &session.moments {
        let at = since(start, moment.time());
        while at > batch.due {
            let due = batch.due + interval(choices);
            let full = std::mem::replace(&mut batch, Batch { due, ..Batch::default() });
            if !full.events.is_empty() || !full.pages.is_empty() {
                batches.push(full);
            }
        }
        match moment {
            Moment::Page(capture) => batch.pages.push(capture.clone()),
            Moment::Event(event) => batch.events.push(event.clone()),
        }
    }
    // The page is left, so the last batch does not wait for its time.
    batch.due = batch.due.min(since(start, session.end()));
    batches.push(batch);
    batches
}

fn delay_pages(mut batches: Vec<Batch>, choices: &mut StdRng) -> Vec<Batch> {
    for number in 0..batches.len() {
        for page in std::mem::take(&mut batches[number].pages) {
            let delay = match choices.random_bool(LATE_PAGE_SHARE) {
                true => choices.random_range(1..=LATE_PAGE_BATCHES_MAX),
                false => 0,
            };
            let target = (number + delay).min(batches.len());
            if target == batches.len() {
                let last = batches.last().map_or(Duration::ZERO, |batch| batch.due);
                batches.push(Batch { due: last + interval(choices), ..Batch::default() });
            }
            batches[target].pages.push(page);
        }
    }
    batches.retain(|batch| !batch.events.is_empty() || !batch.pages.is_empty());
    if batches.is_empty() {
        // A replay without events is a replay still.
        batches.push(Batch::default());
    }
    batches
}

fn interval(choices: &mut impl Rng) -> Duration {
    let (least, most) = (BATCH_INTERVAL_SECONDS.start, BATCH_INTERVAL_SECONDS.end);
    Duration::from_millis(choices.random_range(least * 1_000..=most * 1_000))
}

fn since(start: Timestamp, time: Timestamp) -> Duration {
    let micros = time.micros().saturating_sub(start.micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::{own, seed};

    #[test]
    fn every_event_and_page_is_in_exactly_one_batch_in_order() {
        let sessions = own().unwrap();
        for (session, number) in sessions.iter().cycle().zip(0..50) {
            let batches = batches(session, &mut seed::generator(7, "test", number));
            let events: Vec<_> =
                batches.iter().flat_map(|batch| &batch.events).map(|event| event.seq).collect();
            let expected: Vec<_> = session.events().map(|event| event.seq).collect();
            assert_eq!(events, expected);
            let pages = |pages: &mut dyn Iterator<Item = &Capture>| {
                let mut pages: Vec<_> = pages.map(|p| (p.html_hash, p.captured_at)).collect();
                pages.sort();
                pages
            };
            assert_eq!(
                pages(&mut batches.iter().flat_map(|batch| &batch.pages)),
                pages(&mut session.pages())
            );
            assert!(batches.is_sorted_by_key(|batch| batch.due));
            assert!(batches.iter().all(|b| !b.events.is_empty() || !b.pages.is_empty()));
        }
    }

    #[test]
    fn some_pages_leave_after_the_events_that_name_them() {
        let sessions = own().unwrap();
        let mut late = 0;
        let mut punctual = 0;
        for (session, number) in sessions.iter().cycle().zip(0..50) {
            for batch in batches(session, &mut seed::generator(7, "test", number)) {
                let named = |page: &&Capture| {
                    batch.events.iter().any(|event| event.webstate_hash == Some(page.html_hash))
                };
                punctual += batch.pages.iter().filter(named).count();
                late += batch.pages.iter().filter(|page| !named(page)).count();
            }
        }
        assert!(late > 10 && punctual > late, "{late} late, {punctual} not");
    }

    #[test]
    fn a_session_without_moments_is_one_empty_batch() {
        let mut session = own().unwrap().swap_remove(0);
        session.moments.clear();
        assert_eq!(batches(&session, &mut seed::generator(1, "test", 0)).len(), 1);
    }
}
