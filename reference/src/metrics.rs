//! What the services export.

use std::fmt::Write as _;

use anyhow::Result;
use common::heap::HeapMetrics;
use common::metrics::{BuildMetrics, Declaration, Kind};
use common::repeats::LogMetrics;
use common::traces::TraceMetrics;
use ingest_gateway::metrics::GatewayMetrics;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};
use reporter::metrics::ReporterMetrics;
use writer::accounts::AccountMetrics;
use writer::metrics::WriterMetrics;

const HEAD: &str = "\
# Metrics

<!-- Written by `cargo run --package reference`; change the code, not this page. -->

Each service serves these in Prometheus' text format at `/metrics` on its admin port. Names, labels \
and their values stay as they are within a major version. A series exists from the start wherever \
its labels' values are known, so that a rate is 0 rather than nothing. Times are exported as \
timestamps, not as ages; no label has values without bound.

What to do when one of them is out of the ordinary: [runbook.md](runbook.md).
";

/// Metrics of one service, or of several.
struct Group {
    title: &'static str,
    metrics: Vec<Metric>,
}

/// A metric, as the page tells it.
struct Metric {
    name: String,
    kind: String,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: String,
}

impl From<&Declaration> for Metric {
    fn from(declaration: &Declaration) -> Self {
        Self {
            name: declaration.name.to_owned(),
            kind: declaration.kind.name().to_owned(),
            labels: declaration.labels,
            buckets: declaration.buckets,
            help: declaration.help.trim().to_owned(),
        }
    }
}

fn groups() -> Result<Vec<Group>> {
    let group = |title, declarations: &[&[Declaration]]| {
        let metrics = declarations.iter().copied().flatten().map(Metric::from).collect();
        Group { title, metrics }
    };
    let mut all = group(
        "All services",
        &[BuildMetrics::DECLARATIONS, LogMetrics::DECLARATIONS, TraceMetrics::DECLARATIONS],
    );
    all.metrics.extend(of_the_process()?);
    Ok(vec![
        group("Gateway", &[GatewayMetrics::DECLARATIONS]),
        group("Writer", &[AccountMetrics::DECLARATIONS, WriterMetrics::DECLARATIONS]),
        group("Reporter", &[ReporterMetrics::DECLARATIONS]),
        group("Gateway and writer", &[HeapMetrics::DECLARATIONS]),
        all,
    ])
}

/// What the client library exports of the process itself.
fn of_the_process() -> Result<Vec<Metric>> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let exposition = TextEncoder::new().encode_to_string(&registry.gather())?;
    let told = |line: &str, what: &str| -> Option<(String, String)> {
        let (name, told) = line.strip_prefix(what)?.trim_start().split_once(' ')?;
        Some((name.to_owned(), told.to_owned()))
    };
    let helps = exposition.lines().filter_map(|line| told(line, "# HELP"));
    let kinds = exposition.lines().filter_map(|line| told(line, "# TYPE"));
    // Both stand before each metric, in this order.
    let metrics = helps.zip(kinds).map(|((name, help), (_, kind))| Metric {
        name,
        kind,
        labels: &[],
        buckets: &[],
        help,
    });
    Ok(metrics.collect())
}

/// The page.
///
/// # Errors
/// When the process cannot tell its own metrics.
pub fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    for Group { title, metrics } in groups()? {
        write!(page, "\n## {title}\n\n| metric | type | labels | what |\n|---|---|---|---|\n")?;
        for metric in metrics {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let Metric { name, kind, mut help, .. } = metric;
            if !metric.buckets.is_empty() {
                let bounds: Vec<_> = metric.buckets.iter().map(f64::to_string).collect();
                write!(help, " (Bounds: {}.)", bounds.join(", "))?;
            }
            writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "))?;
        }
    }
    Ok(page)
}

/// The names of all series: of a histogram, those of its parts.
///
/// # Errors
/// As [`page`].
pub fn series() -> Result<Vec<String>> {
    let metrics = groups()?.into_iter().flat_map(|group| group.metrics);
    let of = |metric: Metric| match metric.kind == Kind::Histogram.name() {
        true => ["_bucket", "_sum", "_count"].map(|part| metric.name.clone() + part).to_vec(),
        false => vec![metric.name],
    };
    Ok(metrics.flat_map(of).collect())
}

/// The names of all metrics, histograms as a whole among them.
///
/// # Errors
/// As [`page`].
pub fn names() -> Result<Vec<String>> {
    let metrics = groups()?.into_iter().flat_map(|group| group.metrics);
    Ok(metrics.map(|metric| metric.name).collect())
}
