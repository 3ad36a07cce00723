//! Every page state that was spoken of against Kafka and the rows of `webstates`.

use std::collections::BTreeMap;

use common::page_hash::PageHash;
use common::record::events::{Event, Sighting};
use common::time::Timestamp;

use super::clause::Clause;
use super::statement::Statement;
use super::verdict::Verdict;
use crate::ledger::Sent;
use crate::model::WebstateRow;

/// What batches say of page states. Those of refused batches are not in it.
#[derive(Debug, Default)]
pub(super) struct Pages(BTreeMap<PageHash, PageClaims>);

/// What batches say of one page state.
#[derive(Debug, Default)]
struct PageClaims {
    /// When it was seen.
    captures: BTreeMap<Timestamp, Statement>,
    /// The page itself: Kafka must have it once any capture was acknowledged, for with that came
    /// the content, or the gateway's word that Kafka has it.
    content: Statement,
    /// A batch has brought the content.
    is_sent: bool,
    /// An event that must have a row belongs to it.
    is_referred_to: bool,
    /// An event belongs to it that may be the reason for a row, though the database refuses it.
    may_have_row: bool,
}

impl Pages {
    /// A batch was acknowledged.
    pub(super) fn acknowledged(&mut self, batch: &Sent<'_>) {
        self.unknown(batch);
        for page in &batch.pages {
            let claims = self.0.entry(page.html_hash).or_default();
            claims.captures.entry(page.captured_at).or_default().acknowledged = true;
            claims.content.acknowledged = true;
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
            let claims = self.0.entry(page.html_hash).or_default();
            claims.captures.entry(page.captured_at).or_default();
            claims.is_sent |= page.content;
        }
        for hash in batch.events.iter().filter_map(|event| event.webstate_hash) {
            self.0.entry(hash).or_default();
        }
    }

    /// Kafka holds a record of a batch that says so.
    pub(super) fn sighting_in_kafka(&mut self, sighting: &Sighting, verdict: &mut Verdict) {
        let Sighting { html_hash, captured_at } = sighting;
        let claims = self.0.get_mut(html_hash);
        match claims.and_then(|claims| claims.captures.get_mut(captured_at)) {
            Some(capture) => capture.in_kafka = true,
            None => verdict.add(Clause::StatementUnexpected, || {
                format!("{html_hash} captured at {captured_at}")
            }),
        }
    }

    /// Kafka holds that event.
    pub(super) fn event_in_kafka(&mut self, event: &Event<'_>, is_writable: bool) {
        // Whether anybody has sent a reference is judged with the event.
        if let Some(claims) = event.webstate_hash.and_then(|hash| self.0.get_mut(&hash)) {
            claims.is_referred_to |= is_writable;
            claims.may_have_row = true;
        }
    }

    /// Kafka holds the page.
    pub(super) fn content_in_kafka(&mut self, hash: PageHash, verdict: &mut Verdict) {
        match self.0.get_mut(&hash).filter(|claims| claims.is_sent) {
            Some(claims) => claims.content.in_kafka = true,
            None => verdict.add(Clause::StatementUnexpected, || format!("the page {hash}")),
        }
    }

    /// Compares with Kafka, of which all records have been given before, and with all rows of
    /// `webstates`.
    pub(super) fn judge(&self, rows: &BTreeMap<PageHash, WebstateRow>, verdict: &mut Verdict) {
        for (hash, claims) in &self.0 {
            claims.judge_kafka(*hash, verdict);
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
    fn judge_kafka(&self, hash: PageHash, verdict: &mut Verdict) {
        for (captured_at, _) in self.captures.iter().filter(|(_, capture)| capture.is_missing()) {
            let describe = || format!("{hash} captured at {captured_at}");
            verdict.add(Clause::StatementMissing, describe);
        }
        if self.content.is_missing() {
            verdict.add(Clause::StatementMissing, || format!("the page {hash}"));
        }
    }

    fn must_have_row(&self) -> bool {
        self.first_capture().is_some() || self.content.counts() || self.is_referred_to
    }

    fn judge(&self, hash: PageHash, row: &WebstateRow, verdict: &mut Verdict) {
        if !self.must_have_row() && !self.may_have_row {
            verdict.add(Clause::Webstate, || format!("{hash} has a row, and Kafka no reason"));
        }
        let first = self.first_capture();
        if row.captured_at != first {
            verdict.add(Clause::Webstate, || {
                format!("{hash} captured at {:?}, stored {:?}", first, row.captured_at)
            });
        }
        match row.content {
            Some(content) if content != hash => {
                verdict.add(Clause::PageChanged, || format!("{hash} holds {content}"));
            }
            Some(_) if !self.content.counts() => {
                verdict.add(Clause::Webstate, || format!("{hash} has content, and Kafka none"));
            }
            None if self.content.counts() => {
                verdict.add(Clause::PageMissing, || hash.to_string());
            }
            Some(_) | None => {}
        }
    }

    /// The capture that a row must hold.
    fn first_capture(&self) -> Option<Timestamp> {
        self.captures.iter().find(|(_, capture)| capture.counts()).map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests;
