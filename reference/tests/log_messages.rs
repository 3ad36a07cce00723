//! What the runbook says that the log says is what a service writes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use reference::repository;
use regex::Regex;

/// Where messages are written.
const SOURCES: [&str; 4] = ["common/src", "ingest-gateway/src", "writer/src", "reporter/src"];

/// Appends all source files below the folder.
fn append_sources(folder: &Path, sources: &mut String) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            append_sources(&path, sources)?;
        } else {
            sources.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The messages that a text quotes from a log: of several words, so that they are no field's name.
fn quoted(text: &str) -> Result<Vec<String>> {
    let speaks_of_log = Regex::new(r"\blog (?:says|has|repeats)\b")?;
    let quotation = Regex::new(r"`([^`]+)`")?;
    // Not where a metric's name or a number has a point.
    let sentences = text.split(". ").flat_map(|part| part.split('\n'));
    let messages =
        sentences.filter_map(|sentence| Some(&sentence[speaks_of_log.find(sentence)?.end()..]));
    let messages = messages.flat_map(|said| quotation.captures_iter(said));
    let messages = messages.map(|found| found[1].to_owned());
    Ok(messages.filter(|message| message.contains(' ') && !message.starts_with(':')).collect())
}

#[test]
fn messages_are_found_and_nothing_else() -> Result<()> {
    let check = |text: &str, expected: &[&str]| -> Result<()> {
        let found = quoted(text)?;
        ensure!(found == expected, "{text}: {found:?}");
        Ok(())
    };
    check(
        "The log says `one thing` or `another one`, with `lane`.",
        &["one thing", "another one"],
    )?;
    check("Its log has `one thing`. `/readyz`: `lane N: something`.", &["one thing"])?;
    check("`curl -s http://it` tells, and the log says `one thing`.", &["one thing"])?;
    check("Run `writer migrate` and see the log.", &[])
}

#[test]
fn every_message_that_the_runbook_quotes_from_a_log_is_written() -> Result<()> {
    let mut sources = String::new();
    for folder in SOURCES {
        append_sources(&repository().join(folder), &mut sources)?;
    }
    // A message that is longer than a line of source.
    let sources = Regex::new(r"\\\n\s*")?.replace_all(&sources, "");
    let messages = quoted(&std::fs::read_to_string(repository().join("docs/runbook.md"))?)?;
    ensure!(messages.len() > 10, "the runbook quotes only {messages:?}");
    let missing: Vec<_> =
        messages.into_iter().filter(|message| !sources.contains(message)).collect();
    ensure!(missing.is_empty(), "no service writes these: {missing:#?}");
    Ok(())
}
