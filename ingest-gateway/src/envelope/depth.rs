//! How deep JSON text nests.

use memchr::memchr2;

/// Whether valid JSON text nests deeper than `limit` arrays and objects. Counts without
/// recursion, and most texts are too short to be looked at.
pub fn exceeds(json: &str, limit: usize) -> bool {
    // Each level takes two bytes at least.
    if json.len() / 2 <= limit {
        return false;
    }
    let bytes = json.as_bytes();
    let mut depth = 0_usize;
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        position += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => position = end_of_string(bytes, position),
            _ => {}
        }
    }
    false
}

/// The position after the quote that ends the string whose inside starts at `position`.
fn end_of_string(bytes: &[u8], mut position: usize) -> usize {
    while let Some(length) = bytes.get(position..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        position += length;
        if bytes[position] == b'"' {
            return position + 1;
        }
        // The escape and what it escapes.
        position += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        fn check(json: &str, depth: usize) {
            assert!(!exceeds(json, depth), "{json} nests {depth} deep at most");
            assert!(depth == 0 || exceeds(json, depth - 1), "{json} nests {depth} deep");
        }
        check("1", 0);
        check("[]", 1);
        check(r#"{"a":[[],{"b":{}}]}"#, 4);
        check("[[],[],[]]", 2);
        check(r#"["[[[[\"[[[[\\", "]"]"#, 1);
    }

    #[test]
    fn a_hundred_thousand_levels_are_counted_without_a_stack() {
        let json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(exceeds(&json, 99_999));
        assert!(!exceeds(&json, 100_000));
    }
}
