//! What a failed write means: is it the data's fault, or the circumstances'?
//!
//! Poison is only what stays refused however often it is tried. Everything else, known or not,
//! is retried for as long as it takes: a full disk, a locked table or a missing column must
//! never drain the stream into the dead letters.

use common::database::error_code::SqlState;

/// Why Postgres refuses a row for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Poison {
    /// SQLSTATE class 22: a value that its column cannot take.
    DataException,
    /// 23502.
    NotNullViolation,
    /// 23514.
    CheckViolation,
    /// 54001: nested deeper than Postgres' stack allows.
    TooComplex,
}

impl Poison {
    /// All kinds.
    pub const ALL: [Self; 4] =
        [Self::DataException, Self::NotNullViolation, Self::CheckViolation, Self::TooComplex];

    /// The name in the dead letter's `error.class` and in the metrics.
    pub const fn class(self) -> &'static str {
        match self {
            Self::DataException => "data_exception",
            Self::NotNullViolation => "not_null_violation",
            Self::CheckViolation => "check_violation",
            Self::TooComplex => "too_complex",
        }
    }

    /// The message in the dead letter. Postgres' own may quote content.
    pub const fn message(self) -> &'static str {
        match self {
            Self::DataException => "Postgres: a value that its column cannot take (class 22)",
            Self::NotNullViolation => "Postgres: null where none may be (23502)",
            Self::CheckViolation => "Postgres: a check constraint refused the row (23514)",
            Self::TooComplex => "Postgres: nested too deeply (54001)",
        }
    }
}

/// What to do about a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Some row is refused for good: find it.
    Poison(Poison),
    /// COPY met an event that is stored; at once again, another way.
    Repeated,
    /// Two transactions crossed; at once again, on the same session.
    Crossed,
    /// A parent row believed stored is gone: forget what is remembered, then again.
    ParentGone,
    /// A lock or a statement took too long; the session is sound.
    Waited,
    /// Anything else: again on a new session, which may lead to another server.
    Session,
}

impl Failure {
    /// All kinds of failure that are retried, as labelled in the metrics.
    pub const RETRIED: [&'static str; 5] =
        ["repeated", "crossed", "parent_gone", "waited", "session"];

    /// The label in the metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Poison(_) => "poison",
            Self::Repeated => "repeated",
            Self::Crossed => "crossed",
            Self::ParentGone => "parent_gone",
            Self::Waited => "waited",
            Self::Session => "session",
        }
    }
}

/// Judges a failed write by the SQLSTATE of the first thing the server refused, if it did.
pub fn judge(code: Option<SqlState>) -> Failure {
    match code.as_ref().map(|code| &code[..]) {
        Some([b'2', b'2', ..]) => Failure::Poison(Poison::DataException),
        Some(b"23502") => Failure::Poison(Poison::NotNullViolation),
        Some(b"23514") => Failure::Poison(Poison::CheckViolation),
        Some(b"54001") => Failure::Poison(Poison::TooComplex),
        Some(b"40001" | b"40P01") => Failure::Crossed,
        Some(b"23503") => Failure::ParentGone,
        Some(b"55P03" | b"57014") => Failure::Waited,
        _ => Failure::Session,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_refused_is_poison() {
        fn check(code: Option<&[u8; 5]>, expected: Failure) {
            assert_eq!(judge(code.copied()), expected);
        }
        check(Some(b"22001"), Failure::Poison(Poison::DataException));
        check(Some(b"22P05"), Failure::Poison(Poison::DataException));
        check(Some(b"23502"), Failure::Poison(Poison::NotNullViolation));
        check(Some(b"23514"), Failure::Poison(Poison::CheckViolation));
        check(Some(b"54001"), Failure::Poison(Poison::TooComplex));
        check(Some(b"40P01"), Failure::Crossed);
        check(Some(b"40001"), Failure::Crossed);
        check(Some(b"23503"), Failure::ParentGone);
        check(Some(b"55P03"), Failure::Waited);
        check(Some(b"57014"), Failure::Waited);
        // Unique violation, disk full, read-only, missing column, missing table, missing
        // permission, shut down, no answer at all.
        for code in [b"23505", b"53100", b"25006", b"42703", b"42P01", b"42501", b"57P01"] {
            check(Some(code), Failure::Session);
        }
        check(None, Failure::Session);
    }
}
