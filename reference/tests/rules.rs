//! Prometheus takes the rules, and they do what their tests say.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reference::repository;

/// Runs promtool, which comes with Debian's package prometheus, in the folder of the rules.
fn promtool(arguments: &[&str], files: &[PathBuf]) -> Result<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .args(files)
        .current_dir(repository().join("deploy/prometheus"))
        .output()
        .context("promtool does not run")?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(())
}

#[test]
fn the_rules_are_well_formed() -> Result<()> {
    promtool(&["check", "rules", "recording-rules.yaml", "alerts.yaml"], &[])?;
    promtool(&["check", "config", "prometheus.yaml"], &[])
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() -> Result<()> {
    let folder = repository().join("deploy/prometheus/tests");
    let tests: std::io::Result<Vec<_>> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    promtool(&["test", "rules"], &tests?)
}
