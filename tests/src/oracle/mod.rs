//! Whether the promise was kept: what a gateway acknowledged is in Postgres once, unchanged, and
//! nothing else is.
//!
//! [`examine`] compares a finished run's [`ledger`](crate::ledger) with the topics and the tables
//! once the pipeline is idle. It shares nothing with the services but the record format: what the
//! tables must hold comes from the [`model`](crate::model).
//!
//! - **Events** ([`Clause::LostBeforeKafka`] to [`Clause::RefusedStored`]): every acknowledged one
//!   is in `events` once, as it was sent; what is unknown is there once or not at all, and it is if
//!   Kafka has it; what was refused is not; and nothing is there that was not sent.
//! - **Dead letters** ([`Clause::LetterMissing`] to [`Clause::LetterUnexpected`]): each record of a
//!   topic that cannot be read, or that holds an event that is unwritable by construction, is there
//!   as it was, naming just those events; and nothing else is. A writer that dies between the dead
//!   letter and the commit leaves it twice: that is counted and not a finding.
//! - **Users and replays** hold the merged values of all acknowledged batches, and of those unknown
//!   ones that left a trace: Kafka holds their record, or the tables one of their events.
//! - **Page states** have their content if an acknowledged batch brought it or was told that the
//!   gateway has it. `captured_at` is the least of the acknowledged captures; an unknown one may
//!   lie before it.
//! - **The consumer group** has committed both topics to their ends.
//!
//! | module | holds |
//! |---|---|
//! | [`verdict`] | clauses and what was found under them |
//! | `claims` | a ledger as it is held in memory: some 100 bytes an event |
//! | `events`, `letters`, `pages` | the comparisons, each of one kind, without I/O |
//! | `examination` | all of them together, fed one line, record or row at a time |
//! | [`accounts`] | whether one process's counters add up |

pub mod accounts;
mod claims;
mod events;
mod examination;
mod letters;
mod pages;
pub mod verdict;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::ledger::{self, ReadError};
use crate::model::dump;
use crate::stack::Environment;
use crate::stack::records::Records;
use claims::ClaimsReader;
use examination::Examination;
pub use verdict::{Clause, Verdict};

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
        examination.take_lag(topic, records.uncommitted(consumer_group, topic).await?);
    }
    Ok(examination.finish())
}
