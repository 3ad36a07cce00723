//! The two things that JSON text may hold and Postgres cannot: lone surrogates and U+0000.
//!
//! Escapes are replaced in place by one of the same length, so whatever stood around them keeps
//! its bytes and its offset.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What takes the place of an escape that Postgres cannot read.
const REPLACEMENT: &[u8; ESCAPE_BYTES] = br"\ufffd";

/// Length of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Made once: for an event's few bytes that takes longer than the search.
static UNICODE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br"\u"));
static NULL: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br"\u0000"));

/// Replaces each lone surrogate escape of a JSON text by `\ufffd` and says how many there were.
///
/// This runs over the whole body, before anything is parsed: a lone surrogate becomes U+FFFD
/// wherever it stands (it is what a browser's TextEncoder makes of it, too), and so no later step
/// needs to know of them. Text that is not JSON may be changed as well; it is refused anyway.
pub fn mend_surrogates(json: &mut [u8]) -> u64 {
    let mut replaced = 0;
    let mut from = 0;
    while let Some(start) = next_surrogate(json, from) {
        from = start + ESCAPE_BYTES;
        match Surrogate::at(json, start) {
            Some(Surrogate::High) if Surrogate::at(json, from) == Some(Surrogate::Low) => {
                from += ESCAPE_BYTES;
            }
            Some(_) => {
                json[start..from].copy_from_slice(REPLACEMENT);
                replaced += 1;
            }
            None => from = start + 2,
        }
    }
    replaced
}

/// Replaces each escape `\u0000` of a JSON text by `\ufffd` and says how many there were.
pub fn mend_nulls(json: &str) -> (Cow<'_, str>, u64) {
    let bytes = json.as_bytes();
    let mut mended = String::new();
    let mut kept_until = 0;
    let mut replaced = 0;
    for start in NULL.find_iter(bytes).filter(|&start| is_escape(bytes, start)) {
        mended.push_str(&json[kept_until..start]);
        mended.push_str(r"\ufffd");
        kept_until = start + ESCAPE_BYTES;
        replaced += 1;
    }
    if replaced == 0 {
        return (Cow::Borrowed(json), 0);
    }
    mended.push_str(&json[kept_until..]);
    (Cow::Owned(mended), replaced)
}

#[derive(PartialEq, Eq)]
enum Surrogate {
    High,
    Low,
}

impl Surrogate {
    /// The surrogate whose escape starts at `start`.
    fn at(json: &[u8], start: usize) -> Option<Self> {
        match json.get(start..start + ESCAPE_BYTES)? {
            [b'\\', b'u', b'd' | b'D', half, third, fourth]
                if third.is_ascii_hexdigit() && fourth.is_ascii_hexdigit() =>
            {
                match half {
                    b'8' | b'9' | b'a' | b'b' | b'A' | b'B' => Some(Self::High),
                    b'c'..=b'f' | b'C'..=b'F' => Some(Self::Low),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Where the next escape `\ud…` starts, at or after `from`. Nearly all text has none, and is
/// searched at the speed of memory.
fn next_surrogate(json: &[u8], from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let start = from + UNICODE.find(json.get(from..)?)?;
        if matches!(json.get(start + 2), Some(b'd' | b'D')) && is_escape(json, start) {
            return Some(start);
        }
        from = start + 2;
    }
}

/// Whether the backslash at `start` begins an escape, not ends one: an even number of backslashes
/// stands before it.
fn is_escape(json: &[u8], start: usize) -> bool {
    json[..start].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lone_surrogates_are_replaced_and_nothing_else() {
        fn check(json: &str, expected: &str, expected_count: u64) {
            let mut mended = json.as_bytes().to_vec();
            let count = mend_surrogates(&mut mended);
            assert_eq!(String::from_utf8(mended).unwrap(), expected);
            assert_eq!(count, expected_count, "{json}");
        }
        check(r#""\ud800""#, r#""\ufffd""#, 1);
        check(r#""\uDFFF""#, r#""\ufffd""#, 1);
        check(r#""\ud83d\ude00""#, r#""\ud83d\ude00""#, 0);
        check(r#""\uD83D\uDE00\uDE00""#, r#""\uD83D\uDE00\ufffd""#, 1);
        check(r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#, 1);
        check(r#""\ud83d\u0041""#, r#""\ufffd\u0041""#, 1);
        check(r#""\ud83d\\ude00""#, r#""\ufffd\\ude00""#, 1);
        check(r#""\\ud800""#, r#""\\ud800""#, 0);
        check(r#""\\\ud800""#, r#""\\\ufffd""#, 1);
        check(r#""\ud7ff\ue000\u0000""#, r#""\ud7ff\ue000\u0000""#, 0);
        check(r#"{"\udabc":1}"#, r#"{"\ufffd":1}"#, 1);
        check(r"\ud8", r"\ud8", 0);
        check(r"\ud8zz\ud800", r"\ud8zz\ufffd", 1);
    }

    #[test]
    fn nulls_are_replaced_and_nothing_else() {
        fn check(json: &str, expected: &str, expected_count: u64) {
            let (mended, count) = mend_nulls(json);
            assert_eq!((mended.as_ref(), count), (expected, expected_count));
            assert_eq!(matches!(mended, Cow::Owned(_)), expected_count > 0);
        }
        check(r#""a\u0000b\u0000""#, r#""a\ufffdb\ufffd""#, 2);
        check(r#""\\u0000 \\\u0000""#, r#""\\u0000 \\\ufffd""#, 1);
        check(r#""\u00000""#, r#""\ufffd0""#, 1);
        check(r#""\u0001""#, r#""\u0001""#, 0);
        check("", "", 0);
    }

    /// Pieces of which a JSON string's inside can be made, with what must become of them.
    const PIECES: &[(&str, &str)] = &[
        ("a", "a"),
        ("é€😀", "é€😀"),
        (r"\\", r"\\"),
        (r"\n", r"\n"),
        (r#"\""#, r#"\""#),
        (r"\\u0000", r"\\u0000"),
        (r"\\ud800", r"\\ud800"),
        (r"\u0041", r"\u0041"),
        (r"\uD83D\uDE00", r"\uD83D\uDE00"),
        (r"\u0000", r"\ufffd"),
        // A low half alone stays lone whatever stands before it but a high half, and a letter
        // after a high half keeps that one lone.
        (r"\ud9ffx", r"\ufffdx"),
        (r"x\uDCBA", r"x\ufffd"),
    ];

    proptest! {
        #[test]
        fn only_what_postgres_cannot_read_changes(
            choices in prop::collection::vec(0..PIECES.len(), 0..40),
        ) {
            let join = |which: fn(&(&'static str, &'static str)) -> &'static str| {
                let inside: String = choices.iter().map(|&choice| which(&PIECES[choice])).collect();
                format!("\"{inside}\"")
            };
            let (sent, expected) = (join(|piece| piece.0), join(|piece| piece.1));
            let mut bytes = sent.clone().into_bytes();
            mend_surrogates(&mut bytes);
            let without_surrogates = String::from_utf8(bytes).unwrap();
            let (mended, _) = mend_nulls(&without_surrogates);
            prop_assert_eq!(mended.as_ref(), expected);
            prop_assert_eq!(mended.len(), sent.len());
            let value: String = serde_json::from_str(&mended).unwrap();
            prop_assert!(!value.contains('\0'));
        }

        #[test]
        fn arbitrary_bytes_never_break_the_scan(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let length = bytes.len();
            mend_surrogates(&mut bytes);
            prop_assert_eq!(bytes.len(), length);
        }
    }
}
