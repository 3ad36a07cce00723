//! The lines of an NDJSON request.

use ingest_gateway::lines::split;
use ingest_gateway::problem::Kind;

/// So few that fuzzing goes beyond it.
const LINES_LIMIT: usize = 8;

/// The lines given are those of the input at their numbers, in order, and none left out holds
/// anything but white space.
pub fn check(data: &[u8]) {
    let all: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let is_blank = |line: &[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
    let written = all.iter().filter(|line| !is_blank(line)).count();
    let mut body = data.to_vec();
    match split(&mut body, LINES_LIMIT) {
        Ok(lines) => {
            assert_eq!(lines.len(), written);
            assert!(written <= LINES_LIMIT);
            assert!(lines.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order");
            for (number, line) in lines {
                assert_eq!(line, all[number - 1]);
                assert!(!is_blank(line));
            }
        }
        Err(problem) => {
            assert!(written > LINES_LIMIT);
            assert_eq!(problem.kind, Kind::Invalid);
        }
    }
    assert_eq!(body, data, "splitting changes nothing");
}
