//! Which part of a batch to write: all of it, and after a refusal ever smaller halves, until the
//! row that is refused stands alone.

use std::ops::Range;

use crate::record::{Content, Record};

/// A part of one record: its head (replay, user, page states; a page) with some of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The record's place in the batch.
    pub record: usize,
    /// Which of its events, by place in the record.
    pub events: Range<usize>,
    /// The record's head is known to be written: of the part only its events can be refused.
    pub head_stands: bool,
}

/// Parts of a batch that are written in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<Part>);

/// How to go on after a selection was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Narrowed {
    /// Try these, one after the other.
    Halves([Selection; 2]),
    /// It is one record's: try its head alone, to have it whatever becomes of the events, and to
    /// learn whether head or events are refused.
    Head(Part),
    /// Nothing smaller is left: this is what Postgres refuses.
    Refused(Part),
    /// The selection was empty.
    Nothing,
}

/// More records are not written in one transaction: each may bring a user, whose claim to an
/// address takes up to three advisory locks, and Postgres has room for some thousands in all
/// (`max_locks_per_transaction` × `max_connections`: 6,400 by default).
const MAX_RECORDS: usize = 500;

impl Selection {
    /// All of a batch that can be read, in as few transactions as it may be; nearly always one.
    pub fn all(records: &[Record]) -> Vec<Self> {
        let readable =
            |(_, record): &(usize, &Record)| !matches!(record.content, Content::Unreadable(_));
        let part = |(record, it): (usize, &Record)| Part::whole(record, it.events());
        let parts: Vec<_> = records.iter().enumerate().filter(readable).map(part).collect();
        parts.chunks(MAX_RECORDS).map(|chunk| Self(chunk.to_vec())).collect()
    }

    /// One record's part alone.
    pub fn one(part: Part) -> Self {
        Self(vec![part])
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// How to go on after a refusal.
    pub fn narrow(mut self) -> Narrowed {
        if self.0.len() > 1 {
            let second = self.0.split_off(self.0.len() / 2);
            return Narrowed::Halves([self, Self(second)]);
        }
        match self.0.pop() {
            Some(part) if !part.head_stands && !part.events.is_empty() => Narrowed::Head(part),
            Some(part) if part.events.len() > 1 => Narrowed::Halves(part.halves()),
            Some(part) => Narrowed::Refused(part),
            // Nothing was asked for, so nothing was refused.
            None => Narrowed::Nothing,
        }
    }
}

impl Part {
    /// All of a record with so many events.
    const fn whole(record: usize, events: usize) -> Self {
        Self { record, events: 0..events, head_stands: false }
    }

    /// The part without its events.
    pub fn head(&self) -> Self {
        Self { events: self.events.start..self.events.start, ..*self }
    }

    /// The part once its head is written.
    pub fn below_head(self) -> Self {
        Self { head_stands: true, ..self }
    }

    /// The part with the first and with the second half of its events.
    fn halves(self) -> [Selection; 2] {
        let middle = self.events.start + self.events.len() / 2;
        [self.events.start..middle, middle..self.events.end]
            .map(|events| Selection::one(Self { events, ..self }))
    }
}

/// Places of events, written as ranges for the dead letter's header: `0-2,17`.
pub fn ranges_text(mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    let text = |range: &Range<usize>| match range.len() {
        1 => range.start.to_string(),
        _ => format!("{}-{}", range.start, range.end - 1),
    };
    joined.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a search comes to.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Searched {
        /// Records and events that were found to be refused.
        refused: Vec<(usize, usize)>,
        /// Records of which the head was written, alone or with others.
        heads: BTreeSet<usize>,
    }

    /// Narrows as the settler does; `refused` says which events Postgres would refuse.
    fn search(selection: Selection, refused: &dyn Fn(usize, usize) -> bool) -> Searched {
        let fails = |selection: &Selection| {
            selection.parts().iter().any(|p| p.events.clone().any(|event| refused(p.record, event)))
        };
        let mut open = vec![selection];
        let mut found = Searched::default();
        while let Some(selection) = open.pop() {
            if !fails(&selection) {
                found.heads.extend(selection.parts().iter().map(|part| part.record));
                continue;
            }
            match selection.narrow() {
                Narrowed::Halves(halves) => open.extend(halves),
                Narrowed::Head(part) => {
                    found.heads.insert(part.record);
                    open.push(Selection::one(part.below_head()));
                }
                Narrowed::Refused(part) => {
                    found.refused.extend(part.events.map(|event| (part.record, event)));
                }
                Narrowed::Nothing => {}
            }
        }
        found.refused.sort_unstable();
        found
    }

    proptest::proptest! {
        #[test]
        fn exactly_the_refused_events_are_found_and_every_head_is_written(
            sizes in proptest::collection::vec(0_usize..20, 0..10),
            salt in 0_usize..1_000,
        ) {
            let refused = |record: usize, event: usize| (record * 31 + event * 17 + salt).is_multiple_of(7);
            let all = sizes.iter().enumerate().map(|(record, size)| Part::whole(record, *size));
            let events: Vec<_> = sizes
                .iter()
                .enumerate()
                .flat_map(|(record, size)| (0..*size).map(move |event| (record, event)))
                .filter(|(record, event)| refused(*record, *event))
                .collect();
            let expected = Searched { refused: events, heads: (0..sizes.len()).collect() };
            proptest::prop_assert_eq!(search(Selection(all.collect()), &refused), expected);
        }
    }

    /// The places that a dead letter's header names.
    fn places(text: &str) -> BTreeSet<usize> {
        let ranges = text.split(',').filter(|range| !range.is_empty()).flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<usize>().unwrap()..=last.parse().unwrap()
        });
        ranges.collect()
    }

    proptest::proptest! {
        #[test]
        fn ranges_written_name_the_same_places(
            ranges in proptest::collection::vec((0_usize..50, 0_usize..10), 0..10),
        ) {
            let ranges: Vec<_> =
                ranges.into_iter().map(|(start, length)| start..start + length).collect();
            let expected: BTreeSet<usize> = ranges.iter().cloned().flatten().collect();
            let text = ranges_text(ranges);
            proptest::prop_assert_eq!(places(&text), expected);
            // Neither overlapping nor touching: as short as it can be.
            let numbers: Vec<usize> =
                text.split([',', '-']).filter_map(|number| number.parse().ok()).collect();
            proptest::prop_assert!(numbers.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn places_are_written_as_ranges() {
        fn check(ranges: &[(usize, usize)], expected: &str) {
            let ranges = ranges.iter().map(|(start, end)| *start..*end).collect();
            assert_eq!(ranges_text(ranges), expected);
        }
        check(&[], "");
        check(&[(3, 4)], "3");
        check(&[(17, 18), (0, 2), (2, 3)], "0-2,17");
        check(&[(0, 5), (2, 3)], "0-4");
    }
}
