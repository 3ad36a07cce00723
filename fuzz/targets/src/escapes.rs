//! Escapes that Postgres cannot store.

use ingest_gateway::envelope::escapes::{mend_nulls, mend_surrogates};
use serde_json::value::RawValue;

/// Length of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Tries the input as a whole, and as the inside of a JSON string.
pub fn check(data: &[u8]) {
    check_text(data);
    check_text(&[b"\"", data, b"\""].concat());
}

/// Mending replaces in place, is done after one time, and of JSON text leaves nothing over that
/// Postgres cannot store, and touches nothing else.
fn check_text(sent: &[u8]) {
    let mut mended = sent.to_vec();
    let surrogates = mend_surrogates(&mut mended);
    check_changes(sent, &mended, surrogates);
    assert_eq!(mend_surrogates(&mut mended.clone()), 0, "surrogates are mended at once");
    let Ok(text) = std::str::from_utf8(&mended) else {
        assert!(std::str::from_utf8(sent).is_err(), "mending keeps text text");
        return;
    };
    let (without_nulls, nulls) = mend_nulls(text);
    check_changes(text.as_bytes(), without_nulls.as_bytes(), nulls);
    assert_eq!(mend_nulls(&without_nulls).1, 0, "nulls are mended at once");
    if serde_json::from_slice::<&RawValue>(sent).is_ok() {
        assert_eq!(without_nulls.as_bytes(), storable(sent));
        serde_json::from_str::<&RawValue>(&without_nulls).expect("JSON stays JSON");
    }
}

/// As many escapes as are counted were replaced, each by one of the same length.
fn check_changes(before: &[u8], after: &[u8], replaced: u64) {
    assert_eq!(before.len(), after.len(), "escapes are replaced in place");
    let (mut at, mut found) = (0, 0);
    while at < before.len() {
        if after[at..].starts_with(br"\ufffd") && before[at..at + ESCAPE_BYTES] != *br"\ufffd" {
            found += 1;
            at += ESCAPE_BYTES;
        } else {
            assert_eq!(before[at], after[at], "only escapes change");
            at += 1;
        }
    }
    assert_eq!(found, replaced, "every replacement is counted");
}

/// What must become of JSON text, by walking through it from escape to escape.
fn storable(json: &[u8]) -> Vec<u8> {
    let mut storable = json.to_vec();
    let mut at = 0;
    while at < json.len() {
        if json[at] != b'\\' {
            at += 1;
            continue;
        }
        let Some(unit) = code_unit(json, at) else {
            at += 2;
            continue;
        };
        let next = at + ESCAPE_BYTES;
        let paired = || matches!(code_unit(json, next), Some(0xdc00..=0xdfff));
        match unit {
            0xd800..=0xdbff if paired() => at = next + ESCAPE_BYTES,
            0 | 0xd800..=0xdfff => {
                storable[at..next].copy_from_slice(br"\ufffd");
                at = next;
            }
            _ => at = next,
        }
    }
    storable
}

/// The UTF-16 code unit that the escape at `at` stands for.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE_BYTES)?.strip_prefix(br"\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
