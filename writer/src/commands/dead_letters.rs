//! `writer dead-letters list`.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use common::options::{CheckOptions, Problems};
use common::page_hash::PageHash;
use common::record::headers::{
    ERROR_CLASS, ERROR_EVENTS, ERROR_MESSAGE, ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC,
    text,
};
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use serde::Serialize;
use uuid::Uuid;

use super::scan::{Scan, Selection, came_at};

/// What can be done with dead letters besides redriving them.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Show them, without their content.
    List(ListOptions),
}

/// Options of `dead-letters list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    /// Which ones.
    #[command(flatten)]
    pub selection: Selection,
    /// As a table, or as JSON, one object a line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Show at most so many.
    #[arg(long, default_value_t = 1_000)]
    pub limit: usize,
}

impl CheckOptions for ListOptions {
    fn check(&self, problems: &mut Problems) {
        self.selection.check(problems);
    }
}

/// How the list looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// What the list tells of a dead letter. Texts are empty where the headers do not say.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// When it came to the dead letters, RFC 3339.
    pub at: String,
    /// The name of its error.
    pub class: String,
    /// The same for a person.
    pub message: String,
    /// Which of its events could not be written; none when the record could not be read.
    pub events: Option<String>,
    /// The topic that it was read from.
    pub original_topic: String,
    /// Its partition there.
    pub original_partition: Option<i32>,
    /// Its offset there.
    pub original_offset: Option<i64>,
    /// Its key, where that is a replay's id or a page's hash; who else writes to the topic may have
    /// put content there.
    pub key: Option<String>,
    /// How large its value is.
    pub bytes: usize,
}

impl Entry {
    /// Reads a dead letter's headers.
    pub fn of(message: &OwnedMessage) -> Self {
        let header = |name| text(message.headers(), name).unwrap_or_default().to_owned();
        Self {
            at: came_at(message).map(|at| at.to_string()).unwrap_or_default(),
            class: header(ERROR_CLASS),
            message: header(ERROR_MESSAGE),
            events: text(message.headers(), ERROR_EVENTS).map(str::to_owned),
            original_topic: header(ORIGINAL_TOPIC),
            original_partition: header(ORIGINAL_PARTITION).parse().ok(),
            original_offset: header(ORIGINAL_OFFSET).parse().ok(),
            key: message.key().and_then(id),
            bytes: message.payload().map_or(0, <[u8]>::len),
        }
    }
}

/// Writes the list.
///
/// # Errors
/// When Kafka cannot be read.
pub fn list(options: &ListOptions, out: &mut impl Write) -> anyhow::Result<()> {
    // A group that commits nothing.
    let group = options.selection.group("dead-letters-list");
    let mut scan = Scan::begin(&options.selection, &group)?;
    let mut entries = Vec::new();
    while entries.len() < options.limit
        && let Some(message) = scan.next()?
    {
        if options.selection.takes(&message) {
            entries.push(Entry::of(&message));
        }
    }
    match options.format {
        Format::Json => {
            for entry in &entries {
                serde_json::to_writer(&mut *out, entry)?;
                out.write_all(b"\n")?;
            }
        }
        Format::Table => writeln!(out, "{}", table(&entries))?,
    }
    Ok(out.flush()?)
}

/// A key that says nothing but what the record is about.
fn id(key: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(key).ok()?;
    let is_id = Uuid::try_parse(text).is_ok() || text.parse::<PageHash>().is_ok();
    is_id.then(|| text.to_owned())
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["at", "class", "why", "events", "topic/partition/offset", "key", "bytes"]);
    for entry in entries {
        let number = |number: Option<i64>| number.map_or("?".to_owned(), |it| it.to_string());
        table.add_row([
            entry.at.clone(),
            entry.class.clone(),
            entry.message.clone(),
            entry.events.clone().unwrap_or_else(|| "all".to_owned()),
            format!(
                "{}/{}/{}",
                entry.original_topic,
                number(entry.original_partition.map(i64::from)),
                number(entry.original_offset)
            ),
            entry.key.clone().unwrap_or_else(|| "not an id".to_owned()),
            entry.bytes.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_shown_as_keys() {
        fn check(key: &[u8], shown: bool) {
            let expected = shown.then(|| String::from_utf8_lossy(key).into_owned());
            assert_eq!(id(key), expected);
        }
        check(b"2237a107-3a76-4f18-887f-a033138e750e", true);
        check("ab".repeat(32).as_bytes(), true);
        check(b"", false);
        check(b"ada@shop.example", false);
        check(b"\xff", false);
    }
}
