//! How it is made sure that an event's replay and page state exist.
//!
//! Postgres asks for them row by row, in a trigger that locks the parent (`FOR KEY SHARE`): that
//! is half of what an insertion costs. A batch has far fewer parents than events, so the same can
//! be had by locking each parent once and inserting the events without triggers:
//!
//! - whoever deletes a locked parent waits until the transaction has ended, and then finds its
//!   events and is refused;
//! - a parent that somebody is deleting makes the lock wait, and then is missing from the rows
//!   locked, and nothing is inserted.
//!
//! Triggers are switched off by `session_replication_role`, which switches off all of them, and
//! which a role must be granted: so it is asked for, and refused where it would do more than that.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use common::database::DatabaseOptions;
use common::page_hash::PageHash;
use common::schema::{replays, webstates};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::APPLICATION;
use super::plan::Plan;

/// Who checks the foreign keys of `events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ForeignKeys {
    /// Postgres, for each row.
    #[default]
    PerRow,
    /// The writer, once for each parent of a batch. Its role needs
    /// `GRANT SET ON PARAMETER session_replication_role`.
    SetBased,
}

/// Whether a batch's events may be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Parents {
    /// Their parents are there and stay, or Postgres will check.
    Stand,
    /// One that was believed stored is gone.
    Gone,
}

impl ForeignKeys {
    /// Makes sure of the parents of a plan's events, which have been written, until the end of
    /// the transaction. After this, no trigger fires in it.
    pub(super) async fn secure(
        self,
        connection: &mut AsyncPgConnection,
        plan: &Plan<'_>,
    ) -> QueryResult<Parents> {
        if self == Self::PerRow || plan.events().is_empty() {
            return Ok(Parents::Stand);
        }
        let events = plan.events();
        let replay_ids: BTreeSet<Uuid> = events.iter().map(|it| it.replay_id).collect();
        let hashes: BTreeSet<PageHash> = events.iter().filter_map(|it| it.webstate_hash).collect();
        // Sorted, so that writers that meet wait in line.
        let replays_locked = replays::table
            .filter(replays::replay_id.eq_any(&replay_ids))
            .order(replays::replay_id)
            .select(replays::replay_id)
            .for_key_share()
            .execute(connection)
            .await?;
        let webstates_locked = webstates::table
            .filter(webstates::html_hash.eq_any(&hashes))
            .order(webstates::html_hash)
            .select(webstates::html_hash)
            .for_key_share()
            .execute(connection)
            .await?;
        if replays_locked < replay_ids.len() || webstates_locked < hashes.len() {
            return Ok(Parents::Gone);
        }
        connection.batch_execute("SET LOCAL session_replication_role = replica").await?;
        Ok(Parents::Stand)
    }

    /// Checks that the database allows this.
    ///
    /// # Errors
    /// Says what stands against it, or that the database cannot be asked.
    pub async fn check(self, options: &DatabaseOptions) -> anyhow::Result<()> {
        if self == Self::PerRow {
            return Ok(());
        }
        let mut session = options.connect(APPLICATION).await?;
        let Granted { granted, role } = sql_query(
            "SELECT has_parameter_privilege('session_replication_role', 'SET') AS granted, \
             current_user::text AS role",
        )
        .get_result(&mut session.connection)
        .await
        .context("cannot ask the database for the writer's rights")?;
        ensure!(
            granted,
            "--foreign-keys=set-based needs a right that {role} has not; as a superuser: \
             GRANT SET ON PARAMETER session_replication_role TO {role}"
        );
        let others: Vec<Named> = sql_query(OTHER_TRIGGERS)
            .load(&mut session.connection)
            .await
            .context("cannot ask the database for the triggers of events")?;
        let names: Vec<_> = others.into_iter().map(|other| other.name).collect();
        ensure!(
            names.is_empty(),
            "--foreign-keys=set-based would switch off what else is on events: {}",
            names.join(", ")
        );
        Ok(())
    }
}

/// Triggers of `events` and its partitions, and foreign keys, besides those of the two parents.
/// Triggers that fire always fire all the same.
const OTHER_TRIGGERS: &str = "\
    SELECT DISTINCT format('trigger %I of %s', tgname, tgrelid::regclass) AS name \
    FROM pg_partition_tree('events') JOIN pg_trigger ON tgrelid = relid \
    WHERE NOT tgisinternal AND tgenabled IN ('O', 'R') \
    UNION \
    SELECT DISTINCT format('foreign key %I of %s', conname, conrelid::regclass) \
    FROM pg_partition_tree('events') JOIN pg_constraint ON conrelid = relid \
    WHERE contype = 'f' AND confrelid NOT IN ('replays'::regclass, 'webstates'::regclass) \
    ORDER BY 1";

#[derive(QueryableByName)]
struct Granted {
    #[diesel(sql_type = Bool)]
    granted: bool,
    #[diesel(sql_type = Text)]
    role: String,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}
