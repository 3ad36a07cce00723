//! From text to shape, telling apart what is not JSON (400, with its offset) from JSON of another
//! shape (422, with its pointer).

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_path_to_error::Segment;

use crate::problem::{Kind, Problem};

/// Reads JSON text as a `T`.
///
/// # Errors
/// [`Kind::NotReadable`] with an offset when it is not UTF-8 or not JSON, else [`Kind::Invalid`]
/// with a path.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::new(Kind::NotReadable, "the content is not UTF-8").at_offset(error.valid_up_to())
    })?;
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Parses once more, to find out where: only refused requests pay for it.
fn explain<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> Problem {
    // A wrong shape may be found before a place further on where the text stops being JSON.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Problem::new(Kind::NotReadable, format!("the content is not JSON: {error}"))
            .at_offset(offset(text, &error));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(located) => {
            let path = pointer(located.path());
            Problem::new(Kind::Invalid, without_content(located.inner())).at_path(path)
        }
        Ok(_) => Problem::new(Kind::Invalid, without_content(error)),
    }
}

/// Bytes from the start of the text to where serde_json stopped: the byte that is not JSON, or
/// for some errors inside of strings the one before it.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return text.len();
    }
    let line_start = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', text.as_bytes())
            .nth(line - 2)
            .map_or(0, |line_end| line_end + 1),
    };
    (line_start + error.column().saturating_sub(1)).min(text.len())
}

/// What should be there. What is there instead is the recorder's and is not quoted, as answers end
/// up in its site's logs; line and column are told as path.
fn without_content(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&position).unwrap_or(&message);
    match message.rsplit_once(", expected ") {
        Some((_content, expected)) => format!("is not {expected}"),
        None => message.to_owned(),
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::raw::RawEnvelope;
    use super::super::shape::Object;
    use super::*;

    fn refusal(body: &[u8]) -> Problem {
        parse::<Object<RawEnvelope<'_>>>(body).unwrap_err()
    }

    #[test]
    fn what_is_not_json_is_told_with_its_offset() {
        fn check(body: &[u8], offset: usize) {
            let problem = refusal(body);
            let found = (problem.kind, problem.place.offset);
            assert_eq!(found, (Kind::NotReadable, Some(offset)), "{problem}");
        }
        check(b"", 0);
        check(b"{\"a\":\xff}", 5);
        check(b"{\"a\":x}", 5);
        check(b"{\"a\":1", 6);
        check(b"{}\n{}", 3);
        check(b"{\n\"a\":\n  x}", 9);
        check(b"{\"a\":\"\x01\"}", 5);
        check(b"{\"replay\":{\"replay_id\":\"line\nend\"}}", 27);
        // Of the wrong shape first, then not JSON.
        check(b"[x", 1);
        check(b"{\"events\":7,", 12);
    }

    #[test]
    fn another_shape_is_told_with_its_path() {
        fn check(body: &str, path: &str, detail: &str) {
            let problem = refusal(body.as_bytes());
            assert_eq!(problem.kind, Kind::Invalid, "{problem}");
            assert_eq!(problem.place.path.as_deref(), Some(path), "{problem}");
            assert_eq!(problem.detail, detail, "{problem}");
        }
        check("7", "", "is not an object");
        check("[]", "", "is not an object");
        check(r#"{"replay":"x"}"#, "/replay", "is not an object");
        check(r#"{"replay":"x, expected y"}"#, "/replay", "is not an object");
        check(r#"{"replay":{"user":[]}}"#, "/replay/user", "is not an object");
        check(r#"{"events":{}}"#, "/events", "is not an array");
        check(r#"{"events":[{},null]}"#, "/events/1", "is not an object");
        check(r#"{"events":[{"seq":1,"seq":2}]}"#, "/events/0", "duplicate field `seq`");
    }

    #[test]
    fn nesting_and_unknown_members_do_not_matter() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let body = format!(r#"{{"other":{deep},"events":[{{"event_data":{deep}}}]}}"#);
        assert!(parse::<Object<RawEnvelope<'_>>>(body.as_bytes()).is_ok());
    }
}
