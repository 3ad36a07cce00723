//! What rules, dashboards and pages name is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use reference::repository;
use regex::Regex;

/// The folders of pages, and their ending.
const PAGES: [(&str, &str); 6] = [
    ("docs", "md"),
    (".", "md"),
    ("deploy/docker", "md"),
    ("deploy/grafana", "md"),
    ("deploy/helm/tapedeck", "md"),
    ("deploy/systemd", "md"),
];

/// Variables that pages name and no service has.
const OTHER_VARIABLES: [&str; 3] = [
    // What `stack up` writes down for those who send: a key.
    "TAPEDECK_KEY",
    // Where the test of an upgrade finds the version before.
    "TAPEDECK_PREVIOUS_PROGRAMS",
    // Has tests write pages rather than compare them.
    "TAPEDECK_UPDATE_DOCS",
];

/// Files in the folder with one of the endings.
fn files(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let folder = repository().join(folder);
    let listed =
        std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths: Vec<_> = listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let found: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    ensure!(!found.is_empty(), "{} has no *.{ending}", folder.display());
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The metrics that a text names; `a_{b,c}_total` stands for two.
fn named(text: &str) -> Result<BTreeSet<String>> {
    let pattern = Regex::new(r"\b(?:tapedeck|process)_[a-z0-9_]+(?:\{[a-z_,]+\}[a-z0-9_]*)?")?;
    let mut names = BTreeSet::new();
    for found in pattern.find_iter(text).map(|found| found.as_str()) {
        match found.split_once('{') {
            Some((before, rest)) if before.ends_with('_') => {
                let (alternatives, after) = rest.split_once('}').unwrap_or((rest, ""));
                let name = |middle| format!("{before}{middle}{after}");
                names.extend(alternatives.split(',').map(name));
            }
            Some((name, _)) => {
                names.insert(name.to_owned());
            }
            None => {
                names.insert(found.to_owned());
            }
        }
    }
    Ok(names)
}

#[test]
fn names_are_found_however_they_are_written() -> Result<()> {
    let check = |text: &str, expected: &[&str]| -> Result<()> {
        let found: Vec<_> = named(text)?.into_iter().collect();
        ensure!(found == expected, "{text}: {found:?}");
        Ok(())
    };
    check("rate(tapedeck_writer_a_total{way=\"copy\"}[1m])", &["tapedeck_writer_a_total"])?;
    check("`tapedeck_writer_a_total{class}`", &["tapedeck_writer_a_total"])?;
    check(
        "tapedeck_writer_{a,b_c}_total",
        &["tapedeck_writer_a_total", "tapedeck_writer_b_c_total"],
    )?;
    check("process_resident_memory_bytes, reprocess_it", &["process_resident_memory_bytes"])
}

#[test]
fn every_metric_named_anywhere_is_exported() -> Result<()> {
    let series: BTreeSet<String> = reference::metrics::series()?.into_iter().collect();
    let metrics: BTreeSet<String> = reference::metrics::names()?.into_iter().collect();
    // Roles are called alike.
    let roles = named(&read(&repository().join("deploy/postgres/roles.sql"))?)?;
    let mut missing = BTreeMap::new();
    let queries = [
        ("deploy/prometheus", "yaml"),
        ("deploy/prometheus/tests", "yaml"),
        ("deploy/grafana/dashboards", "json"),
    ];
    for (folder, ending) in queries.into_iter().chain(PAGES) {
        for path in files(folder, ending)? {
            // A page may speak of a histogram as a whole; of a query nothing would come.
            let in_page = |name: &String| metrics.contains(name) || roles.contains(name);
            let known = |name: &String| series.contains(name) || (ending == "md" && in_page(name));
            let unknown: Vec<_> =
                named(&read(&path)?)?.into_iter().filter(|name| !known(name)).collect();
            if !unknown.is_empty() {
                missing.insert(path, unknown);
            }
        }
    }
    ensure!(missing.is_empty(), "no service exports these: {missing:#?}");
    Ok(())
}

/// The variables that a text names; `TAPEDECK_A_*` keeps its last underscore.
fn variables(text: &str) -> Result<BTreeSet<String>> {
    let pattern = Regex::new(r"\bTAPEDECK_[A-Z][A-Z0-9_]*")?;
    Ok(pattern.find_iter(text).map(|found| found.as_str().to_owned()).collect())
}

/// Whether a page may name it: a variable that there is, or what several begin with.
fn is_variable(name: &str, known: &BTreeSet<String>) -> bool {
    OTHER_VARIABLES.contains(&name)
        || known.contains(name)
        || (name.ends_with('_') && known.iter().any(|variable| variable.starts_with(name)))
}

#[test]
fn variables_are_known_by_their_whole_name() -> Result<()> {
    let known = BTreeSet::from(["TAPEDECK_BATCH_ROWS".to_owned()]);
    let check = |text: &str, expected: bool| -> Result<()> {
        let all_known = variables(text)?.iter().all(|name| is_variable(name, &known));
        ensure!(all_known == expected, "{text}");
        Ok(())
    };
    check("each is a variable `TAPEDECK_…`", true)?;
    check("`TAPEDECK_BATCH_ROWS=1 writer run`, `TAPEDECK_BATCH_*`", true)?;
    check("`TAPEDECK_BATCH_ROW`", false)?;
    check("`TAPEDECK_LANE_*`", false)
}

#[test]
fn every_variable_named_on_a_page_is_an_option() -> Result<()> {
    let known = reference::configuration::variables();
    let mut missing = BTreeMap::new();
    for (folder, ending) in PAGES {
        for path in files(folder, ending)? {
            let named = variables(&read(&path)?)?;
            let unknown: Vec<_> =
                named.into_iter().filter(|name| !is_variable(name, &known)).collect();
            if !unknown.is_empty() {
                missing.insert(path, unknown);
            }
        }
    }
    ensure!(missing.is_empty(), "no service has these: {missing:#?}");
    Ok(())
}
