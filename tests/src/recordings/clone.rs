//! Copies of a session under fresh ids and at other times.

use std::sync::Arc;

use common::page_hash::PageHash;
use common::time::Timestamp;
use rand::RngExt;

use super::seed;
use super::session::Session;

/// Microseconds in a millisecond: a browser's clock shows no less, so copies don't either.
const MICROS_PER_MILLI: i64 = 1_000;

/// What the copies are like. The same values give the same copies.
#[derive(Clone, Copy, Debug)]
pub struct CloneOptions {
    /// What ids and choices are derived from.
    pub seed: u64,
    /// When every copy ends.
    pub ending_at: Timestamp,
    /// The share, from 0 to 1, of page states that stay as they are, and so repeat from copy to
    /// copy; the others get a comment that no other page has.
    pub duplicate_page_states: f64,
}

impl CloneOptions {
    /// Copy `number` of a session. Copies of one `round` share their users as their originals do.
    pub(super) fn copy(&self, original: &Session, number: u64, round: u64) -> Session {
        let millis = self.ending_at.millis() - original.end().millis();
        let mut session = original.clone().shifted(millis.saturating_mul(MICROS_PER_MILLI));
        session.name = format!("{}-{number}", original.name);
        session.replay.replay_id = seed::uuid(self.seed, number, original.replay.replay_id);
        let user = &mut session.replay.user;
        user.user_id = seed::uuid(self.seed, round, user.user_id);
        user.email = user.email.as_deref().map(|email| unique(email, self.seed, round).into());
        self.vary_pages(&mut session, number);
        session
    }

    fn vary_pages(&self, session: &mut Session, number: u64) {
        let mut choices = seed::generator(self.seed, "pages", number);
        let replay_id = session.replay.replay_id;
        let mut captures = 0_u64;
        session.replace_pages(|capture| {
            captures += 1;
            if choices.random_bool(self.duplicate_page_states) {
                return;
            }
            if let Some(content) = &capture.html_content {
                let varied = format!("{content}<!-- {replay_id} {captures} -->");
                capture.html_hash = PageHash::of(varied.as_bytes());
                capture.html_content = Some(Arc::from(varied));
            }
        });
    }
}

/// An address of the same person and domain that no other round has.
fn unique(email: &str, seed: u64, round: u64) -> String {
    let (person, domain) = email.split_once('@').unwrap_or((email, "example.com"));
    format!("{person}+{seed}.{round}@{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::{Cast, own};

    fn cast(seed: u64, duplicate_page_states: f64) -> Cast {
        let ending_at = Timestamp::from_micros(1_704_067_200_000_000);
        let options = CloneOptions { seed, ending_at, duplicate_page_states };
        Cast::copies(own().unwrap(), 40, options)
    }

    fn hashes(cast: &Cast) -> Vec<PageHash> {
        let mut hashes: Vec<_> = (0..cast.len())
            .flat_map(|n| cast.session(n).pages().map(|page| page.html_hash).collect::<Vec<_>>())
            .collect();
        hashes.sort();
        hashes
    }

    #[test]
    fn copies_are_repeatable_and_differ_from_each_other() {
        let ids = |seed| {
            let cast = cast(seed, 1.0);
            let ids = (0..cast.len()).map(|n| cast.session(n).replay.replay_id);
            let mut ids: Vec<_> = ids.collect();
            ids.sort();
            ids.dedup();
            ids
        };
        assert_eq!(ids(1).len(), 40);
        assert_eq!(ids(1), ids(1));
        assert!(ids(1).iter().all(|id| !ids(2).contains(id)));
    }

    #[test]
    fn copies_keep_order_and_distances_and_end_as_asked() {
        let cast = cast(1, 1.0);
        for (number, original) in own().unwrap().iter().enumerate() {
            let copy = cast.session(number);
            assert_eq!(copy.end().millis(), 1_704_067_200_000);
            let distances = |session: &Session| {
                let end = session.end().micros();
                session.events().map(|e| end - e.timestamp.micros()).collect::<Vec<_>>()
            };
            assert_eq!(distances(original), distances(&copy));
        }
    }

    #[test]
    fn the_share_of_repeated_pages_is_the_one_asked_for() {
        let distinct = |share| {
            let mut hashes = hashes(&cast(1, share));
            let all = hashes.len();
            hashes.dedup();
            (hashes.len(), all)
        };
        assert_eq!(distinct(1.0).0, 12);
        let (none_repeat, all) = distinct(0.0);
        assert_eq!(none_repeat, all);
        let (half_repeat, _) = distinct(0.5);
        assert!((all / 3..all * 2 / 3).contains(&half_repeat), "{half_repeat} of {all}");
    }

    #[test]
    fn every_page_hashes_to_its_key_and_events_name_the_varied_page() {
        let cast = cast(3, 0.5);
        for session in (0..cast.len()).map(|number| cast.session(number)) {
            let pages: Vec<_> = session.pages().map(|page| page.html_hash).collect();
            for page in session.pages() {
                let content = page.html_content.as_ref().unwrap();
                assert_eq!(PageHash::of(content.as_bytes()), page.html_hash);
            }
            let named: Vec<_> = session.events().filter_map(|event| event.webstate_hash).collect();
            assert_eq!(named, pages);
        }
    }
}
