//! Every page state that was spoken of against the rows of `webstates`.

use std::collections::{BTreeMap, BTreeSet};

use common::page_hash::PageHash;
use common::time::Timestamp;

use super::verdict::{Clause, Verdict};
use crate::ledger::Sent;
use crate::model::WebstateRow;

/// What batches say of page states. Those of refused batches are not in it.
#[derive(Debug, Default)]
pub(super) struct Pages(BTreeMap<PageHash, PageClaims>);

/// What batches say of one page state. Without any of it there may be a row or not.
#[derive(Debug, Default)]
struct PageClaims {
    /// The first capture that was acknowledged. With it came the content, or the gateway's word
    /// that Kafka has it.
    first_acknowledged: Option<Timestamp>,
    /// Captures of which it is unknown whether they arrived.
    unknown: BTreeSet<Timestamp>,
    /// An event that must have a row belongs to it.
    is_referred_to: bool,
}

impl Pages {
    /// A batch was acknowledged.
    pub(super) fn acknowledged(&mut self, batch: &Sent<'_>) {
        for page in &batch.pages {
            let first = &mut self.0.entry(page.html_hash).or_default().first_acknowledged;
            *first = Some(first.map_or(page.captured_at, |first| first.min(page.captured_at)));
        }
        for event in &batch.events {
            if let Some(hash) = event.webstate_hash {
                self.0.entry(hash).or_default().is_referred_to |= !event.unwritable;
            }
        }
    }

    /// A batch may have arrived or not.
    pub(super) fn unknown(&mut self, batch: &Sent<'_>) {
        for page in &batch.pages {
            self.0.entry(page.html_hash).or_default().unknown.insert(page.captured_at);
        }
        for hash in batch.events.iter().filter_map(|event| event.webstate_hash) {
            self.0.entry(hash).or_default();
        }
    }

    /// Compares with all rows of `webstates`.
    pub(super) fn judge(&self, rows: &BTreeMap<PageHash, WebstateRow>, verdict: &mut Verdict) {
        for (hash, claims) in &self.0 {
            match rows.get(hash) {
                Some(row) => claims.judge(*hash, row, verdict),
                None if claims.must_have_row() => {
                    verdict.add(Clause::Webstate, || format!("{hash} has no row"));
                }
                None => {}
            }
        }
        for hash in rows.keys().filter(|hash| !self.0.contains_key(hash)) {
            verdict.add(Clause::Webstate, || format!("{hash} was never spoken of"));
        }
    }
}

impl PageClaims {
    fn must_have_row(&self) -> bool {
        self.first_acknowledged.is_some() || self.is_referred_to
    }

    fn judge(&self, hash: PageHash, row: &WebstateRow, verdict: &mut Verdict) {
        if !self.allows(row.captured_at) {
            verdict.add(Clause::Webstate, || {
                let (stored, sent) = (row.captured_at, self.first_acknowledged);
                format!("{hash} captured at {stored:?}, first acknowledged at {sent:?}")
            });
        }
        match row.content {
            Some(content) if content != hash => {
                verdict.add(Clause::PageChanged, || format!("{hash} holds {content}"));
            }
            None if self.first_acknowledged.is_some() => {
                verdict.add(Clause::PageMissing, || hash.to_string());
            }
            Some(_) | None => {}
        }
    }

    /// Whether a row may have that time: the first acknowledged, or an earlier one that may have
    /// arrived as well.
    fn allows(&self, captured_at: Option<Timestamp>) -> bool {
        captured_at == self.first_acknowledged
            || captured_at.is_some_and(|time| {
                self.unknown.contains(&time)
                    && self.first_acknowledged.is_none_or(|first| time < first)
            })
    }
}

#[cfg(test)]
mod tests {
    use common::record::events::{Replay, User};
    use uuid::Uuid;

    use super::*;
    use crate::ledger::{EventDigest, SentEvent, SentPage};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn page() -> PageHash {
        PageHash::of(b"page")
    }

    fn batch(captures: &[i64], refers: bool, unwritable: bool) -> Sent<'static> {
        let event = SentEvent {
            event_id: Uuid::nil(),
            sha256: EventDigest::of(Uuid::nil(), at(0), "", "", None),
            webstate_hash: Some(page()),
            unwritable,
        };
        let capture =
            |micros: &i64| SentPage { html_hash: page(), captured_at: at(*micros), content: true };
        let user = User { user_id: Uuid::nil(), email: None, name: None, created_at: None };
        Sent {
            batch: 0,
            as_of: at(0),
            replay: Replay {
                replay_id: Uuid::nil(),
                initial_url: "/".into(),
                start_time: at(0),
                end_time: None,
                user,
            },
            events: if refers { vec![event] } else { vec![] },
            pages: captures.iter().map(capture).collect(),
        }
    }

    fn check(
        acknowledged: &[Sent<'_>],
        unknown: &[Sent<'_>],
        row: Option<(Option<&[u8]>, Option<i64>)>,
        expected: &[Clause],
    ) {
        let mut pages = Pages::default();
        acknowledged.iter().for_each(|batch| pages.acknowledged(batch));
        unknown.iter().for_each(|batch| pages.unknown(batch));
        let row = row.map(|(content, captured_at)| WebstateRow {
            content: content.map(PageHash::of),
            captured_at: captured_at.map(at),
        });
        let mut verdict = Verdict::default();
        let rows: BTreeMap<_, _> = row.map(|row| (page(), row)).into_iter().collect();
        pages.judge(&rows, &mut verdict);
        let found: Vec<_> = verdict.findings().keys().copied().collect();
        assert_eq!(found, expected, "{acknowledged:?} {unknown:?} {rows:?}");
    }

    #[test]
    fn page_states_are_judged_by_what_batches_say_of_them() {
        let captured = |micros: &[i64]| [batch(micros, false, false)];
        let content = Some(&b"page"[..]);
        check(&captured(&[7, 5]), &[], Some((content, Some(5))), &[]);
        check(&captured(&[7, 5]), &[], Some((content, Some(7))), &[Clause::Webstate]);
        check(&captured(&[7, 5]), &[], Some((content, None)), &[Clause::Webstate]);
        check(&captured(&[5]), &[], None, &[Clause::Webstate]);
        check(&captured(&[5]), &[], Some((None, Some(5))), &[Clause::PageMissing]);
        check(&captured(&[5]), &[], Some((Some(b"other"), Some(5))), &[Clause::PageChanged]);
        check(&[], &[], Some((content, None)), &[Clause::Webstate]);
        check(&[], &[], None, &[]);

        // What is unknown may have arrived, in part, or not at all.
        let unknown = captured(&[3, 9]);
        check(&captured(&[5]), &unknown, Some((content, Some(3))), &[]);
        check(&captured(&[5]), &unknown, Some((content, Some(5))), &[]);
        check(&captured(&[5]), &unknown, Some((content, Some(9))), &[Clause::Webstate]);
        check(&captured(&[5]), &unknown, Some((content, Some(4))), &[Clause::Webstate]);
        for row in [None, Some((content, None)), Some((None, Some(9))), Some((content, Some(3)))] {
            check(&[], &unknown, row, &[]);
        }
        check(&[], &unknown, Some((content, Some(4))), &[Clause::Webstate]);
    }

    #[test]
    fn an_event_that_is_stored_has_a_row_to_refer_to() {
        check(&[batch(&[], true, false)], &[], Some((None, None)), &[]);
        check(&[batch(&[], true, false)], &[], None, &[Clause::Webstate]);
        check(&[batch(&[], true, true)], &[], None, &[]);
        check(&[batch(&[], true, true)], &[], Some((None, None)), &[]);
        check(&[], &[batch(&[], true, false)], None, &[]);
        check(&[], &[batch(&[], true, false)], Some((None, None)), &[]);
    }
}
