//! What gungraun says of each function it has run, a JSON object a line
//! (<https://gungraun.github.io/gungraun/latest/html/cli_and_env/output/machine_readable.html>).

use std::io::BufRead;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::baseline::Counts;

#[derive(Deserialize)]
struct Summary {
    function_name: String,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    /// Callgrind's name of instructions that were executed.
    #[serde(rename = "Ir")]
    instructions: Option<Metric>,
}

#[derive(Deserialize)]
struct Metric {
    values: Values,
}

#[derive(Deserialize)]
struct Values {
    new: u64,
}

/// Reads the instructions of each function.
///
/// # Errors
/// When a line is something else, or there is none.
pub(crate) fn read(lines: impl BufRead) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in lines.lines() {
        let line = line?;
        let summary: Summary = serde_json::from_str(&line).with_context(|| line.clone())?;
        let profiles = summary.profiles.into_iter();
        let counted = profiles.filter_map(|profile| profile.data.total.metrics.instructions).next();
        let counted = counted.with_context(|| format!("{}: none", summary.function_name))?;
        counts.insert(summary.function_name, counted.values.new);
    }
    ensure!(!counts.is_empty(), "no function was counted");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_read_from_what_callgrind_counted() -> Result<()> {
        let line = |function: &str, metrics: &str| {
            format!(
                r#"{{"function_name":"{function}","profiles":[{{"data":{{"total":{{"metrics":{metrics}}}}}}}]}}"#
            )
        };
        let first =
            line("first", r#"{"Dr":{"values":{"new":2}},"Ir":{"values":{"new":7,"old":9}}}"#);
        let second =
            line("second", r#"{"Ir":{"values":{"new":8}},"L1HitRate":{"values":{"new":0.5}}}"#);
        let counts = read(format!("{first}\n{second}\n").as_bytes())?;
        let expected = [("first".to_owned(), 7), ("second".to_owned(), 8)];
        assert_eq!(counts, Counts::from(expected));

        let uncounted = line("third", r#"{"Dr":{"values":{"new":2}}}"#);
        assert!(read(uncounted.as_bytes()).is_err());
        assert!(read("".as_bytes()).is_err());
        Ok(())
    }
}
