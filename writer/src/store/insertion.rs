//! How events are inserted: by COPY as long as all are new, which is faster, and one by one once
//! some are not, because COPY refuses them all for one that is there.

use common::database::error_code::SqlState;

/// unique_violation: what COPY is refused with for a row that is there.
const UNIQUE_VIOLATION: SqlState = *b"23505";

/// So many transactions without a repeat must follow one another before COPY is tried again: what
/// is read again after a consumer's end comes in one stretch.
const WITHOUT_REPEAT: u32 = 4;

/// A way to insert events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// All of them, or none if one is there.
    Copy,
    /// Each that is not there.
    OnConflict,
}

impl Insertion {
    /// All ways.
    pub const ALL: [Self; 2] = [Self::Copy, Self::OnConflict];

    /// The label in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::OnConflict => "on_conflict",
        }
    }
}

/// Chooses the way by what happened before. The first transactions of a consumer may well bring
/// what the one before it wrote and could not commit.
#[derive(Debug)]
pub(super) struct Choice {
    until_copy: u32,
}

impl Choice {
    pub(super) const fn new() -> Self {
        Self { until_copy: WITHOUT_REPEAT }
    }

    /// What to try next.
    pub(super) const fn next(&self) -> Insertion {
        match self.until_copy {
            0 => Insertion::Copy,
            _ => Insertion::OnConflict,
        }
    }

    /// A transaction was committed.
    pub(super) const fn committed(&mut self, duplicates: u64) {
        self.until_copy = match duplicates {
            0 => self.until_copy.saturating_sub(1),
            _ => WITHOUT_REPEAT,
        };
    }

    /// A transaction was refused. Returns whether it was for a row that is there: the other way
    /// will take the rest.
    pub(super) fn refused(&mut self, code: Option<SqlState>) -> bool {
        let repeat = self.next() == Insertion::Copy && code == Some(UNIQUE_VIOLATION);
        if repeat {
            self.until_copy = WITHOUT_REPEAT;
        }
        repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_is_used_once_repeats_have_been_missing_for_a_while() {
        fn check(duplicates: &[u64], expected: Insertion) {
            let mut choice = Choice::new();
            for count in duplicates {
                choice.committed(*count);
            }
            assert_eq!(choice.next(), expected, "{duplicates:?}");
        }
        check(&[], Insertion::OnConflict);
        check(&[0, 0, 0], Insertion::OnConflict);
        check(&[0, 0, 0, 0], Insertion::Copy);
        check(&[0, 0, 1, 0, 0, 0], Insertion::OnConflict);
        check(&[7, 0, 0, 0, 0], Insertion::Copy);
        check(&[0; 9], Insertion::Copy);
    }

    #[test]
    fn only_a_row_that_is_there_turns_a_copy_into_the_other_way() {
        fn check(before: &[u64], code: Option<&SqlState>, expected: bool) {
            let mut choice = Choice::new();
            for duplicates in before {
                choice.committed(*duplicates);
            }
            let way = choice.next();
            assert_eq!(choice.refused(code.copied()), expected);
            let stays = choice.next() == way;
            assert_eq!(stays, !expected);
        }
        check(&[0; 4], Some(b"23505"), true);
        check(&[0; 4], Some(b"40001"), false);
        check(&[0; 4], None, false);
        // Of another unique index: no event's.
        check(&[], Some(b"23505"), false);
    }
}
