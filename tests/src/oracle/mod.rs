//! Whether the promise was kept: what a gateway acknowledged is in Postgres once, unchanged, and
//! nothing else is.
//!
//! [`examine`] compares a finished run's [`ledger`](crate::ledger) with the topics and the tables
//! once the pipeline is idle. Kafka must still hold whatever was put there: retention is to be
//! longer than a run.
//!
//! What the tables must hold comes from the [`model`](crate::model) and the ledger, not from the
//! writer. With the services the oracle shares the format of the records and of the ids, in the
//! crate `common`: `event_id` gives an event without an id of its own the one that it must be
//! stored under, `record` decodes batches and headers and opens pages, and `page_hash` and `time`
//! are the types of hashes and times. So it is blind to a mistake in these; what they must do is
//! tested where they are, against the test vectors of their specification.
//!
//! What was acknowledged is in Kafka, what is in Kafka was sent, and the tables hold what is in
//! Kafka, merged:
//!
//! - **Events in Kafka** ([`Clause::StoredNotInKafka`] to [`Clause::RefusedInKafka`]): every
//!   acknowledged one is there as it was sent, whether it has a row or not; what is unknown is
//!   there as it was sent or not at all; and nothing else is.
//! - **Rows of `events`** ([`Clause::LostBeforeKafka`] to [`Clause::Stranded`], [`Clause::Doubled`]
//!   to [`Clause::UnwritableStored`]): every acknowledged event has one, as it was sent; an unknown
//!   one has if Kafka has it; what was refused has none; and nothing is there that was not sent.
//! - **Statements in Kafka** ([`Clause::StatementMissing`], [`Clause::StatementUnexpected`]): the
//!   same of what batches say of replays, users and page states, and of the pages.
//! - **Dead letters** ([`Clause::LetterMissing`] to [`Clause::LetterUnexpected`]): each record of a
//!   topic that cannot be read, or that holds an event that is unwritable by construction, is there
//!   as it was, naming just those events; and nothing else is. A writer that dies between the dead
//!   letter and the commit leaves it twice: that is counted and not a finding.
//! - **Users and replays** hold the merged values of all batches that were acknowledged or of which
//!   Kafka holds a record.
//! - **Page states** have a row if such a batch speaks of them, and content if an acknowledged one
//!   does or Kafka holds it. `captured_at` is the least of these batches' captures.
//! - **The consumer group** has committed each partition of both topics to its end, and not beyond.
//!
//! | module | holds |
//! |---|---|
//! | [`clause`] | what can be broken |
//! | [`verdict`] | what was found |
//! | `claims` | a ledger as it is held in memory: some 100 bytes an event |
//! | `events`, `heads`, `letters`, `pages` | the comparisons, each of one kind, without I/O |
//! | `statement` | what is known of one thing that batches say |
//! | `examination` | all of them together, fed one line, record or row at a time |
//! | [`accounts`] | whether one process's counters add up |

pub mod accounts;
mod claims;
pub mod clause;
mod events;
mod examination;
mod heads;
mod letters;
mod pages;
mod statement;
pub mod verdict;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::ledger::{self, ReadError};
use crate::model::dump;
use crate::stack::Environment;
use crate::stack::records::Records;
use claims::ClaimsReader;
pub use clause::Clause;
use examination::Examination;
pub use verdict::Verdict;

/// What is examined.
#[derive(Debug)]
pub struct Subject {
    /// The database.
    pub sql: Client,
    /// The broker.
    pub records: Records,
    /// What stands before each topic's name.
    pub topic_prefix: String,
    /// The writers' consumer group.
    pub consumer_group: String,
}

impl Subject {
    /// A test's environment.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn of(environment: &Environment) -> Result<Self> {
        Ok(Self {
            sql: environment.sql().await?,
            records: environment.records(),
            topic_prefix: environment.topic_prefix().to_owned(),
            consumer_group: environment.consumer_group().to_owned(),
        })
    }
}

/// Compares a ledger with the topics and the tables. Nothing may be under way any more.
///
/// # Errors
/// When the ledger, Kafka or Postgres cannot be read. What is wrong with what they hold is no error
/// but part of the [`Verdict`].
pub async fn examine(ledger: &Path, subject: &Subject) -> Result<Verdict> {
    let Subject { sql, records, topic_prefix, consumer_group } = subject;
    let events = format!("{topic_prefix}replay-events");
    let webstates = format!("{topic_prefix}replay-webstates");
    let letters = format!("{topic_prefix}replay-dead-letters");

    let claims = tokio::task::spawn_blocking({
        let ledger: PathBuf = ledger.to_owned();
        move || -> Result<_, ReadError> {
            let mut reader = ClaimsReader::default();
            ledger::read(&ledger, |line| reader.take(line))?;
            Ok(reader.finish())
        }
    });
    let examination = Examination::of(claims.await??, &events, &webstates);
    let take = Examination::take_batch_record;
    let examination = records.read_each(&events, examination, take).await.context("events")?;
    let take = Examination::take_page_record;
    let examination = records.read_each(&webstates, examination, take).await.context("pages")?;
    let take = Examination::take_letter;
    let mut examination =
        records.read_each(&letters, examination, take).await.context("letters")?;
    dump::each_event(sql, |event_id, row| examination.take_event_row(event_id, &row)).await?;
    examination.take_tables(&dump::all_but_events(sql).await?);
    for topic in [&events, &webstates] {
        examination.take_lag(topic, &records.uncommitted(consumer_group, topic).await?);
    }
    Ok(examination.finish())
}
