//! Scraped metrics, to look values up in.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result};

/// The metrics of a service at one moment.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// The sum of the series of that name that carry all of these labels; none where there is no
    /// such series. Parts of a histogram have names of their own: `…_sum`, `…_count`, `…_bucket`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let carries = |series: &Series| {
            labels.iter().all(|(label, value)| {
                series.labels.get(*label).is_some_and(|carried| carried == value)
            })
        };
        self.series
            .iter()
            .filter(|series| series.name == name && carries(series))
            .map(|series| series.value)
            .reduce(|sum, value| sum + value)
    }

    /// The buckets of a histogram, all its series together: upper bounds, each with the number of
    /// values at most as large, in ascending order.
    pub fn buckets(&self, histogram: &str) -> Vec<(f64, f64)> {
        let name = format!("{histogram}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for series in self.series.iter().filter(|series| series.name == name) {
            let Some(bound) = series.labels.get("le").and_then(|bound| bound.parse().ok()) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += series.value,
                None => buckets.push((bound, series.value)),
            }
        }
        buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        buckets
    }

    /// Everything that only ever grows within one process: counters, and the counts of histograms.
    /// Each series by its name and labels.
    pub fn counters(&self) -> impl Iterator<Item = (String, f64)> {
        let grows = |series: &&Series| {
            ["_total", "_count", "_bucket"].iter().any(|ending| series.name.ends_with(ending))
        };
        let named = |series: &Series| (format!("{}{:?}", series.name, series.labels), series.value);
        self.series.iter().filter(grows).map(named)
    }

    /// The exposition as it came.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Metrics {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let series = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_series(line).with_context(|| format!("not a series: {line}")))
            .collect::<Result<_>>()?;
        Ok(Self { text: text.to_owned(), series })
    }
}

/// `name value` or `name{label="value",…} value`, with an optional time behind.
fn parse_series(line: &str) -> Option<Series> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels, value })
}

/// Reads a label's value up to its closing quote; gives it and what follows.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped => escaped,
            }),
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP requests_total What is "counted".
# TYPE requests_total counter
requests_total{method="GET",status="200"} 3
requests_total{method="PUT",status="200"} 4
requests_total{method="GET",status="500"} 1 1700000000000
up 1
seconds_bucket{le="+Inf"} 7
limit NaN
path{name="a\\b\"c}, d\n"} -2.5e-3
"#;

    #[test]
    fn series_are_summed_by_the_labels_asked_for() {
        fn check(name: &str, labels: &[(&str, &str)], expected: Option<f64>) {
            let metrics: Metrics = TEXT.parse().unwrap();
            assert_eq!(metrics.sum(name, labels), expected, "{name} {labels:?}");
        }
        check("requests_total", &[], Some(8.0));
        check("requests_total", &[("status", "200")], Some(7.0));
        check("requests_total", &[("status", "200"), ("method", "PUT")], Some(4.0));
        check("requests_total", &[("status", "404")], None);
        check("up", &[], Some(1.0));
        check("seconds_bucket", &[("le", "+Inf")], Some(7.0));
        check("path", &[("name", "a\\b\"c}, d\n")], Some(-0.0025));
        check("missing", &[], None);
    }

    #[test]
    fn buckets_of_all_series_are_added_up_by_bound() {
        let text = r#"seconds_bucket{lane="0",le="10"} 2
seconds_bucket{lane="0",le="+Inf"} 3
seconds_bucket{lane="1",le="2.5"} 1
seconds_bucket{lane="1",le="10"} 5
seconds_count{lane="1"} 5
"#;
        let metrics: Metrics = text.parse().unwrap();
        let expected = [(2.5, 1.0), (10.0, 7.0), (f64::INFINITY, 3.0)];
        assert_eq!(metrics.buckets("seconds"), expected);
    }

    #[test]
    fn counters_are_told_from_gauges() {
        let metrics: Metrics = TEXT.parse().unwrap();
        let counters: BTreeMap<_, _> = metrics.counters().collect();
        assert_eq!(counters.len(), 4);
        let series = r#"requests_total{"method": "PUT", "status": "200"}"#;
        assert_eq!(counters.get(series), Some(&4.0));
    }

    #[test]
    fn what_is_not_metrics_is_refused() {
        for text in ["name", "name{label=\"x\" 1", "name{label=x} 1", "name one"] {
            assert!(text.parse::<Metrics>().is_err(), "{text}");
        }
    }
}
