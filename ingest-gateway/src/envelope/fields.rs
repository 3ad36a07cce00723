//! Single values of an envelope, from the bytes sent to what they mean.

use std::borrow::Cow;

use common::page_hash::PageHash;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::problem::{Kind, Problem};

/// The largest `seq`: what a browser's numbers can count to.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// The longest event type.
const EVENT_TYPE_MAX_BYTES: usize = 64;

/// Length of a UUID with its hyphens.
const HYPHENATED_UUID_BYTES: usize = 36;

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Invalid, detail)
}

/// A member that must be there.
///
/// # Errors
/// When it is not.
pub fn required<T>(value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| invalid("is missing"))
}

/// A JSON text, decoded. Lone surrogates are gone by now, so each text is valid Unicode.
///
/// # Errors
/// When it is no text.
pub fn text(raw: &RawValue) -> Result<Cow<'_, str>, Problem> {
    let json = raw.get();
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(inside) if !inside.contains('\\') => Ok(Cow::Borrowed(inside)),
        Some(_) => match serde_json::from_str(json) {
            Ok(decoded) => Ok(Cow::Owned(decoded)),
            Err(error) => Err(invalid(format!("is not a text: {error}"))),
        },
        None => Err(invalid("is not a text")),
    }
}

/// A UUID in its 36 characters, in either case.
///
/// # Errors
/// When it is anything else, other spellings of UUIDs included.
pub fn uuid(raw: &RawValue) -> Result<Uuid, Problem> {
    let text = text(raw)?;
    Some(text.as_ref())
        .filter(|text| text.len() == HYPHENATED_UUID_BYTES)
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| invalid("is not a UUID of 36 characters"))
}

/// A page hash, in either case.
///
/// # Errors
/// When it is anything else.
pub fn hash(raw: &RawValue) -> Result<PageHash, Problem> {
    text(raw)?.parse().map_err(|error: common::page_hash::NotAPageHash| invalid(error.to_string()))
}

/// An event's number.
///
/// # Errors
/// When it is no integer from 0 to 2^53-1, written as such.
pub fn seq(raw: &RawValue) -> Result<u64, Problem> {
    raw.get()
        .parse()
        .ok()
        .filter(|seq| *seq <= SEQ_MAX)
        .ok_or_else(|| invalid("is not an integer from 0 to 9007199254740991"))
}

/// An event type.
///
/// # Errors
/// When it does not match `[a-z][a-z0-9_]{0,63}`.
pub fn event_type(raw: &RawValue) -> Result<Cow<'_, str>, Problem> {
    let name = text(raw)?;
    let fits = name.len() <= EVENT_TYPE_MAX_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if fits { Ok(name) } else { Err(invalid("does not match [a-z][a-z0-9_]{0,63}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn texts_are_decoded_and_borrowed_where_possible() {
        assert!(matches!(text(raw(r#""plain é""#)), Ok(Cow::Borrowed("plain é"))));
        assert_eq!(text(raw(r#""\"\u0000\ud83d\ude00""#)).unwrap(), "\"\0😀");
        for json in ["1", "null", "[]", "{}", "true"] {
            assert!(text(raw(json)).is_err(), "{json}");
        }
    }

    #[test]
    fn uuids_have_36_characters() {
        fn check(json: &str, expected: bool) {
            assert_eq!(uuid(raw(json)).is_ok(), expected, "{json}");
        }
        check(r#""2237a107-3a76-4f18-887f-a033138e750e""#, true);
        check(r#""2237A107-3A76-4F18-887F-A033138E750E""#, true);
        check(r#""2237a1073a764f18887fa033138e750e""#, false);
        check(r#""{2237a107-3a76-4f18-887f-a033138e750e}""#, false);
        check(r#""urn:uuid:2237a107-3a76-4f18-887f-a033138e750e""#, false);
        check(r#""2237a107-3a76-4f18-887f-a033138e750g""#, false);
        check("7", false);
    }

    #[test]
    fn seq_is_an_integer_that_a_browser_can_count_to() {
        fn check(json: &str, expected: Option<u64>) {
            assert_eq!(seq(raw(json)).ok(), expected, "{json}");
        }
        check("0", Some(0));
        check("9007199254740991", Some(SEQ_MAX));
        check("9007199254740992", None);
        check("-1", None);
        check("1.5", None);
        check("\"1\"", None);
        check("99999999999999999999999", None);
    }

    #[test]
    fn event_types_are_lower_case_names() {
        fn check(name: &str, expected: bool) {
            let json = format!("\"{name}\"");
            assert_eq!(event_type(raw(&json)).is_ok(), expected, "{name}");
        }
        check("click", true);
        check("a", true);
        check("dom_mutation_2", true);
        check(r"\u0063lick", true);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
        check("", false);
        check("_click", false);
        check("2click", false);
        check("Click", false);
        check("click me", false);
        check("clické", false);
    }
}
