//! `writer redrive`: dead letters go back to the topic that they came from, as they were.
//!
//! Every write is idempotent, so going through again changes only what is missing. How far a
//! selection has got is kept in Kafka as the offsets of a consumer group that is the selection's
//! own: interrupted, the same command goes on; repeated, it takes what has come since.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use common::kafka::unique_client_id;
use common::options::{CheckOptions, Problems};
use common::record::headers::{ORIGINAL_TOPIC, text};
use futures::future::try_join_all;
use rdkafka::Message;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sha2::{Digest, Sha256};

use super::scan::{Scan, Selection};
use crate::dead_letters::{Courier, durable_producer, original_headers};

/// How many dead letters, and how many bytes of them, are sent before progress is kept.
const CHUNK_RECORDS: usize = 200;
const CHUNK_BYTES: usize = 16 << 20;

/// Options of `redrive`.
#[derive(Debug, Args)]
pub struct RedriveOptions {
    /// Which ones.
    #[command(flatten)]
    pub selection: Selection,
    /// Begin at the oldest dead letter, whatever was redriven before.
    #[arg(long)]
    pub from_beginning: bool,
    /// Only say how many would be sent.
    #[arg(long)]
    pub dry_run: bool,
}

impl CheckOptions for RedriveOptions {
    fn check(&self, problems: &mut Problems) {
        self.selection.check(problems);
    }
}

/// The consumer group that keeps the progress of a selection.
fn progress_group(selection: &Selection) -> String {
    let mut classes = selection.class.clone();
    classes.sort();
    let text = format!("{classes:?} {:?} {:?}", selection.since, selection.until);
    let digest = hex::encode(Sha256::digest(text));
    selection.group(&format!("redrive-{}", &digest[..16]))
}

/// Sends the selected dead letters through again.
///
/// # Errors
/// When Kafka cannot be read or does not take a record; what was sent before is kept as progress.
pub async fn redrive(options: &RedriveOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let selection = &options.selection;
    let group = match options.from_beginning {
        // A group that never commits has no progress.
        true => selection.group("redrive-from-beginning"),
        false => progress_group(selection),
    };
    let mut scan = Scan::begin(selection, &group)?;
    let client_id = unique_client_id("tapedeck-redrive", 0);
    let config = durable_producer(&selection.kafka, selection.limits, &client_id);
    let courier = Courier::new(config.map_err(anyhow::Error::msg)?)?;
    let (mut sent, mut seen) = (0, 0);
    loop {
        let (chunk, reached) = next_chunk(&mut scan)?;
        if chunk.is_empty() {
            break;
        }
        seen += chunk.len();
        let chosen: Vec<_> = chunk.iter().filter(|message| selection.takes(message)).collect();
        sent += chosen.len();
        if options.dry_run {
            continue;
        }
        try_join_all(chosen.into_iter().map(|message| send_back(&courier, selection, message)))
            .await?;
        if !options.from_beginning {
            scan.consumer
                .commit(&reached, CommitMode::Sync)
                .context("sent, but the progress could not be kept: repeat the command")?;
        }
    }
    let would = if options.dry_run { "would be " } else { "" };
    writeln!(out, "{sent} of {seen} dead letters {would}sent through again")?;
    Ok(())
}

/// Some dead letters, and how far they reach.
fn next_chunk(scan: &mut Scan) -> anyhow::Result<(Vec<OwnedMessage>, TopicPartitionList)> {
    let mut chunk: Vec<OwnedMessage> = Vec::new();
    let mut bytes = 0;
    while chunk.len() < CHUNK_RECORDS
        && bytes < CHUNK_BYTES
        && let Some(message) = scan.next()?
    {
        bytes += message.payload().map_or(0, <[u8]>::len);
        chunk.push(message);
    }
    let newest: BTreeMap<_, _> =
        chunk.iter().map(|it| ((it.topic(), it.partition()), it.offset() + 1)).collect();
    let mut reached = TopicPartitionList::new();
    for ((topic, partition), next) in newest {
        reached.add_partition_offset(topic, partition, Offset::Offset(next))?;
    }
    Ok((chunk, reached))
}

/// Which of `topics` a dead letter came from, if its headers name one of them.
pub fn origin<'a>(topics: &'a [String], message: &OwnedMessage) -> Option<&'a str> {
    let named = text(message.headers(), ORIGINAL_TOPIC)?;
    topics.iter().map(String::as_str).find(|topic| *topic == named)
}

async fn send_back(
    courier: &Courier,
    selection: &Selection,
    message: &OwnedMessage,
) -> anyhow::Result<()> {
    let topics = [selection.topics.events(), selection.topics.webstates()];
    let Some(topic) = origin(&topics, message) else {
        bail!(
            "the dead letter at {}/{} does not say which of {topics:?} it came from",
            message.partition(),
            message.offset()
        );
    };
    courier
        .deliver(topic, message, original_headers(message))
        .await
        .with_context(|| format!("the dead letter at {}/{}", message.partition(), message.offset()))
}
