//! One transaction a batch: users, replays, page states, events, each sorted by key.
//!
//! [`plan`] decides what the rows should become, without I/O; [`known`] remembers what is stored,
//! so that a batch touches only what is new; [`statements`] are the upserts, and carry rows in
//! [`portions`]; [`emails`] derives `users.email`, by statements [`of_array`]; [`insertion`] chooses
//! how events are inserted, and [`foreign_keys`] makes sure of their parents; [`partitions`] makes
//! months. [`Store::write`] puts them together and is the one seam through which rows reach
//! Postgres.

mod emails;
pub mod foreign_keys;
pub mod insertion;
mod known;
mod of_array;
mod partitions;
pub mod plan;
mod portions;
mod read;
pub mod statements;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use common::database::error_code::SqlState;
use common::database::{ConnectError, DatabaseOptions, Session};
use common::failpoint;
use common::page_hash::PageHash;
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::merge::{ReplayState, UserState, WebstateState};
use crate::metrics::WriterMetrics;
use crate::record::Record;
use crate::selection::Selection;
use emails::ClaimChanges;
use foreign_keys::{ForeignKeys, Parents};
use insertion::{Choice, Insertion};
use known::Known;
use plan::{Pages, Plan};

/// The name of the writer's sessions in `pg_stat_activity`.
pub(crate) const APPLICATION: &str = "tapedeck-writer";

/// Settings of these sessions. All that they look for has an index. But a plan is kept, and one made
/// while a table was small would read all of it for as long as it grows.
const SETTINGS: [(&str, &str); 1] = [("enable_seqscan", "off")];

/// What one transaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// New rows in `events`.
    pub events: u64,
    /// Events that were there already, or twice in the selection.
    pub duplicates: u64,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no session and none could be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused, or the session broke.
    #[error("{}", without_content(*code, error))]
    Database {
        /// The SQLSTATE of the first thing refused, if the server did.
        code: Option<SqlState>,
        /// What diesel made of it.
        error: Error,
    },
    /// Some event is there already, so that COPY took none; the next attempt takes the others.
    #[error("an event is stored already")]
    Repeated,
    /// A replay or page state that was believed stored is gone.
    #[error("a parent row is gone")]
    ParentGone,
    /// The whole transaction took too long; the session was dropped.
    #[error("the transaction took longer than {limit_ms} ms")]
    TooSlow {
        /// How long it may take.
        limit_ms: u128,
    },
}

/// Classes of SQLSTATE whose messages, as Postgres itself words them, name tables, rights, locks and
/// disks, and no values: connection, integrity, transaction state and rollback, access and syntax,
/// resources, object state, intervention, system.
const CLASSES_WITHOUT_CONTENT: [&[u8; 2]; 9] =
    [b"08", b"23", b"25", b"40", b"42", b"53", b"55", b"57", b"58"];

/// What Postgres says, where its message quotes no row. Of the rest, such as what functions raise,
/// only the code is told. (A value that Postgres itself refuses is poison, and told in words of ours.)
fn without_content(code: Option<SqlState>, error: &Error) -> String {
    match code {
        Some(code) if !CLASSES_WITHOUT_CONTENT.iter().any(|class| code.starts_with(*class)) => {
            let code = String::from_utf8_lossy(&code);
            format!("an error of SQLSTATE {code}; the server's log has its message")
        }
        _ => error.to_string(),
    }
}

/// A lane's way to Postgres: a session, opened when needed, and what it knows to be stored.
pub struct Store {
    options: DatabaseOptions,
    transaction_timeout: Duration,
    session: Option<Session>,
    known: Known,
    choice: Choice,
    foreign_keys: ForeignKeys,
    metrics: WriterMetrics,
}

impl Store {
    /// A store without a session yet. It remembers `known_rows` users, replays and page states
    /// each.
    pub fn new(
        options: DatabaseOptions,
        transaction_timeout: Duration,
        known_rows: NonZeroUsize,
        foreign_keys: ForeignKeys,
        metrics: WriterMetrics,
    ) -> Self {
        let known = Known::new(known_rows);
        Self {
            options,
            transaction_timeout,
            session: None,
            known,
            choice: Choice::new(),
            foreign_keys,
            metrics,
        }
    }

    /// Closes the session; what was open on it is rolled back.
    pub fn disconnect(&mut self) {
        self.session = None;
    }

    /// Forgets what is stored: rows went away under us.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Writes a selection of a batch, all or nothing.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing of the selection is stored then, except when the answer to
    /// the commit was lost.
    pub async fn write(
        &mut self,
        records: &[Record],
        selection: &Selection,
    ) -> Result<Written, WriteError> {
        let plan = Plan::new(records, selection);
        let insertion = self.choice.next();
        match self.attempt(&plan, insertion).await {
            Ok(written) => {
                self.choice.committed(written.duplicates);
                self.metrics.insertions.with_label_values(&[insertion.label()]).inc();
                Ok(written)
            }
            Err(WriteError::Database { code, .. }) if self.choice.refused(code) => {
                Err(WriteError::Repeated)
            }
            Err(error) => Err(error),
        }
    }

    async fn attempt(
        &mut self,
        plan: &Plan<'_>,
        insertion: Insertion,
    ) -> Result<Written, WriteError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let session = self.options.connect_with(APPLICATION, &SETTINGS).await?;
                self.metrics.connections.inc();
                none.insert(session)
            }
        };
        session.error_codes.take();
        let (foreign_keys, known) = (self.foreign_keys, &mut self.known);
        let work = write_plan(session, plan, insertion, foreign_keys, known, &self.metrics);
        let result = tokio::time::timeout(self.transaction_timeout, work).await;
        match result {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(Error::RollbackTransaction)) => Err(WriteError::ParentGone),
            Ok(Err(error)) => {
                let code = session.error_codes.take();
                Err(WriteError::Database { code, error })
            }
            Err(_) => {
                self.disconnect();
                Err(WriteError::TooSlow { limit_ms: self.transaction_timeout.as_millis() })
            }
        }
    }
}

/// What a plan comes to, once it is known what is stored: only the rows that would change.
struct Changes {
    users: Vec<(Uuid, UserState)>,
    claims: ClaimChanges,
    replays: Vec<(Uuid, ReplayState)>,
    webstates: Vec<(PageHash, WebstateState)>,
    /// The pages that came and are not stored.
    new_pages: BTreeSet<PageHash>,
}

impl Changes {
    fn write_no_row(&self) -> bool {
        // Claims change with their users.
        self.users.is_empty() && self.replays.is_empty() && self.webstates.is_empty()
    }
}

async fn write_plan(
    session: &mut Session,
    plan: &Plan<'_>,
    insertion: Insertion,
    foreign_keys: ForeignKeys,
    known: &mut Known,
    metrics: &WriterMetrics,
) -> QueryResult<Written> {
    partitions::ensure(session, known, plan.months()).await?;
    let Session { connection, copies, .. } = session;
    let changes = find_changes(connection, plan, known).await?;
    let written = connection
        .build_transaction()
        .read_committed()
        .run(async |connection| {
            let addresses = changes.claims.lock(connection).await?;
            statements::upsert_users(connection, &changes.users, &addresses).await?;
            let conflicts = changes.claims.derive(connection, &addresses).await?;
            statements::upsert_replays(connection, &changes.replays).await?;
            let new_page = |hash: &PageHash| {
                changes.new_pages.contains(hash).then(|| plan.page(hash)).flatten()
            };
            statements::upsert_webstates(connection, &changes.webstates, new_page).await?;
            if foreign_keys.secure(connection, plan).await? == Parents::Gone {
                return Err(Error::RollbackTransaction);
            }
            let new = match insertion {
                Insertion::Copy => statements::copy_events(connection, copies, plan).await?,
                Insertion::OnConflict => statements::insert_events(connection, plan).await?,
            };
            if new == 0 && changes.write_no_row() {
                statements::wait_for_what_is_stored(connection).await?;
            }
            failpoint::pass("writer::before-database-commit");
            QueryResult::Ok((new, conflicts))
        })
        .await
        .map(|(new, conflicts)| {
            metrics.email_conflicts.inc_by(conflicts);
            Written { events: new, duplicates: plan.all_events() - new }
        })?;
    failpoint::pass("writer::after-database-commit");
    let Changes { users, replays, webstates, new_pages, .. } = changes;
    count_rows(metrics, users.len(), replays.len(), webstates.len());
    count_pages(metrics, plan.all_pages(), plan.size_of(&new_pages));
    known.users.remember(users);
    known.replays.remember(replays);
    known.webstates.remember(webstates);
    Ok(written)
}

fn count_rows(metrics: &WriterMetrics, users: usize, replays: usize, webstates: usize) {
    for (table, rows) in [("users", users), ("replays", replays), ("webstates", webstates)] {
        metrics.rows_merged.with_label_values(&[table]).inc_by(rows as u64);
    }
}

fn count_pages(metrics: &WriterMetrics, came: Pages, stored: Pages) {
    metrics.pages_written.inc_by(stored.count);
    metrics.page_repeats.inc_by(came.count - stored.count);
    metrics.page_bytes_saved.inc_by(came.bytes - stored.bytes);
}

/// Reads, without locks, what the plan would change, unless it is known already.
async fn find_changes(
    connection: &mut AsyncPgConnection,
    plan: &Plan<'_>,
    known: &mut Known,
) -> QueryResult<Changes> {
    let unknown = known.users.unknown(&plan.users);
    known.users.remember(read::users(connection, &unknown).await?);
    let unknown = known.replays.unknown(&plan.replays);
    known.replays.remember(read::replays(connection, &unknown).await?);
    let unknown = known.webstates.unknown(&plan.webstates);
    known.webstates.remember(read::webstates(connection, &unknown).await?);

    let users = known.users.changes(&plan.users);
    let mut claims = ClaimChanges::default();
    for (user_id, merged) in &users {
        claims.note(*user_id, known.users.get(user_id), merged);
    }
    let replays = known.replays.changes(&plan.replays);
    let webstates = known.webstates.changes(&plan.webstates);
    let stored = |hash: &PageHash| known.webstates.get(hash).is_some_and(|it| it.has_content);
    let new_pages = plan.page_hashes().filter(|hash| !stored(hash)).collect();
    Ok(Changes { users, claims, replays, webstates, new_pages })
}
