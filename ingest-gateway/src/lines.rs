//! The lines of an NDJSON request.

use crate::problem::{Kind, Problem};

/// The lines that are not blank, each with its number from 1, blank ones counted.
///
/// # Errors
/// When there are more than `limit`.
pub fn split(body: &mut [u8], limit: usize) -> Result<Vec<(usize, &mut [u8])>, Problem> {
    let count = body.split(is_line_end).filter(|line| !is_blank(line)).count();
    if count > limit {
        let detail = format!("has {count} lines that are not blank; the limit is {limit}");
        return Err(Problem::new(Kind::Invalid, detail));
    }
    let numbered = (1..).zip(body.split_mut(is_line_end));
    Ok(numbered.filter(|(_, line)| !is_blank(line)).collect())
}

fn is_line_end(byte: &u8) -> bool {
    *byte == b'\n'
}

/// Whether a line holds nothing but JSON's white space.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_count_as_lines_and_not_to_the_limit() {
        fn check(body: &str, expected: &[(usize, &str)]) {
            let mut bytes = body.as_bytes().to_vec();
            let lines: Vec<_> = split(&mut bytes, 2)
                .unwrap()
                .into_iter()
                .map(|(number, line)| (number, String::from_utf8(line.to_vec()).unwrap()))
                .collect();
            let lines: Vec<_> =
                lines.iter().map(|(number, line)| (*number, line.as_str())).collect();
            assert_eq!(lines, expected, "{body:?}");
        }
        check("", &[]);
        check("\n \r\n\t\n", &[]);
        check("a\nb", &[(1, "a"), (2, "b")]);
        check("\n\na\r\n\nb\n", &[(3, "a\r"), (5, "b")]);
        assert_eq!(split(&mut b"a\nb\nc".to_vec(), 2).unwrap_err().kind, Kind::Invalid);
    }
}
