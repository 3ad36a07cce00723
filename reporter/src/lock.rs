//! One reporter at a time.
//!
//! The lock belongs to the session, not to the roll-up's transaction, and is taken before that
//! begins. In REPEATABLE READ the first statement takes the snapshot: a reporter that waited for
//! the lock inside its transaction would count what was there before it waited, and write those
//! older counts over the newer ones of whom it waited for.
//!
//! Since it is the session's, a pooler in between must leave each client its own session.

use std::time::Duration;

use common::database::Session;
use common::database::error_code::SqlState;
use diesel::QueryResult;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

/// lock_not_available: Postgres' lock_timeout has passed.
const LOCK_NOT_AVAILABLE: SqlState = *b"55P03";
/// query_canceled: its statement_timeout has passed, where that is the shorter one.
const QUERY_CANCELED: SqlState = *b"57014";

// The key is the table's own number, so nothing else in the database has it.
const TRY_LOCK: &str =
    "SELECT pg_try_advisory_lock('monthly_reports'::regclass::oid::integer, 0) AS done";
const LOCK: &str = "SELECT pg_advisory_lock('monthly_reports'::regclass::oid::integer, 0)";
const UNLOCK: &str =
    "SELECT pg_advisory_unlock('monthly_reports'::regclass::oid::integer, 0) AS done";

#[derive(diesel::QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    done: bool,
}

/// Why the lock could be neither had, nor seen with another, nor given back. The session is closed
/// then, and the lock goes with it.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The database refused or went away.
    #[error("the reporters' lock: {0}")]
    Database(#[from] diesel::result::Error),
    /// The database did not answer.
    #[error("the reporters' lock: no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
}

/// A session that holds the lock. Dropping it closes the session, with which the lock goes.
pub struct LockedSession(Session);

/// What trying for the lock gave.
pub enum Attempt {
    /// This session has it.
    Locked(LockedSession),
    /// Another session has it.
    AnotherAtWork(Session),
}

/// Takes the lock if it is free; the database may take `within` to answer.
///
/// # Errors
/// See [`LockError`].
pub async fn try_acquire(mut session: Session, within: Duration) -> Result<Attempt, LockError> {
    let question = diesel::sql_query(TRY_LOCK).get_result(&mut session.connection);
    let answer: Answer = answered(question, within).await??;
    Ok(match answer.done {
        true => Attempt::Locked(LockedSession(session)),
        false => Attempt::AnotherAtWork(session),
    })
}

/// Takes the lock once it is free, however long that takes: each request to the database is
/// bounded by its time-outs and by `within`, which is longer, and repeated when the former pass.
///
/// # Errors
/// See [`LockError`].
pub async fn acquire(mut session: Session, within: Duration) -> Result<LockedSession, LockError> {
    loop {
        session.error_codes.take();
        let request = diesel::sql_query(LOCK).execute(&mut session.connection);
        match answered(request, within).await? {
            Ok(_) => return Ok(LockedSession(session)),
            Err(error) => match session.error_codes.take() {
                Some(LOCK_NOT_AVAILABLE | QUERY_CANCELED) => {
                    tracing::info!("another reporter is still at work; waiting");
                }
                _ => return Err(error.into()),
            },
        }
    }
}

impl LockedSession {
    /// The session, for work under the lock.
    pub fn session(&mut self) -> &mut Session {
        &mut self.0
    }

    /// Gives the lock back, so that it is free when this returns.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn release(self, within: Duration) -> Result<Session, LockError> {
        let Self(mut session) = self;
        let request = diesel::sql_query(UNLOCK).get_result(&mut session.connection);
        let answer: Answer = answered(request, within).await??;
        if !answer.done {
            tracing::warn!("the lock was not held: does a pooler share sessions between clients?");
        }
        Ok(session)
    }
}

async fn answered<T>(
    request: impl Future<Output = QueryResult<T>>,
    within: Duration,
) -> Result<QueryResult<T>, LockError> {
    tokio::time::timeout(within, request).await.map_err(|_| LockError::NoAnswer(within))
}
