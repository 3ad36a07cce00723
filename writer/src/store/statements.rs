//! The upserts: arrays in, one statement a table, prepared once a session; and the COPY of events.
//!
//! UNNEST takes a batch of any size with the same text, so the statement stays prepared, and it
//! loads at nine tenths of COPY's speed where multi-row VALUES reach half. The arrays come sorted
//! by key, so that writers that meet take their row locks in the same order.

use std::io::Write as _;

use common::database::copy::{Copies, CopyRows};
use common::page_hash::PageHash;
use common::time::Timestamp;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Array, Bytea, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, expression::AsExpression};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::emails::Addresses;
use super::plan::{Plan, PlannedEvent};
use super::portions::in_portions;
use crate::merge::{Dated, ReplayState, UserState, WebstateState};

/// Bytes known to be the text, or the JSON text, that their column takes: no copy, no parsing.
#[derive(Clone, Copy, Debug, AsExpression)]
#[diesel(sql_type = Text)]
#[diesel(sql_type = Json)]
struct Bytes<'a>(&'a [u8]);

impl ToSql<Text, Pg> for Bytes<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0)?;
        Ok(IsNull::No)
    }
}

impl ToSql<Json, Pg> for Bytes<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0)?;
        Ok(IsNull::No)
    }
}

/// Declares a statement whose parameters are the columns of one UNNEST.
macro_rules! unnest_statement {
    ($Name:ident { $($column:ident: $Sql:ty = $Rust:ty),+ $(,)? } $before:literal, $after:literal) => {
        #[derive(Default)]
        struct $Name<'a> {
            $( $column: Vec<$Rust>, )+
            lifetime: std::marker::PhantomData<&'a ()>,
        }

        impl QueryFragment<Pg> for $Name<'_> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                out.push_sql($before);
                let mut separator = " UNNEST(";
                $(
                    out.push_sql(separator);
                    out.push_bind_param::<Array<$Sql>, _>(&self.$column)?;
                    separator = ", ";
                )+
                let _ = separator;
                out.push_sql(") ");
                out.push_sql($after);
                Ok(())
            }
        }

        impl QueryId for $Name<'_> {
            type QueryId = $Name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }
    };
}

unnest_statement!(
    UpsertUsers {
        user_id: SqlUuid = Uuid,
        created_at: Timestamptz = Timestamp,
        name: Nullable<Text> = Option<&'a str>,
        name_as_of: Nullable<Timestamptz> = Option<Timestamp>,
        email_claim: Nullable<Text> = Option<&'a str>,
        email_as_of: Nullable<Timestamptz> = Option<Timestamp>,
        email: Nullable<Text> = Option<&'a str>,
    }
    // An update that named `email`, which is unique, would lock rows against foreign key checks;
    // so that has a statement of its own.
    "INSERT INTO users AS stored \
     (user_id, created_at, name, name_as_of, email_claim, email_as_of, email) SELECT * FROM",
    "ON CONFLICT (user_id) DO UPDATE SET \
       created_at = LEAST(stored.created_at, EXCLUDED.created_at), \
       name = CASE WHEN EXCLUDED.name_as_of IS NOT NULL AND (stored.name_as_of IS NULL OR \
         (EXCLUDED.name_as_of, EXCLUDED.name COLLATE \"C\") > \
         (stored.name_as_of, stored.name COLLATE \"C\")) \
         THEN EXCLUDED.name ELSE stored.name END, \
       name_as_of = GREATEST(stored.name_as_of, EXCLUDED.name_as_of), \
       email_claim = CASE WHEN EXCLUDED.email_as_of IS NOT NULL AND (stored.email_as_of IS NULL OR \
         (EXCLUDED.email_as_of, EXCLUDED.email_claim COLLATE \"C\") > \
         (stored.email_as_of, stored.email_claim COLLATE \"C\")) \
         THEN EXCLUDED.email_claim ELSE stored.email_claim END, \
       email_as_of = GREATEST(stored.email_as_of, EXCLUDED.email_as_of)"
);

unnest_statement!(
    UpsertReplays {
        replay_id: SqlUuid = Uuid,
        user_id: SqlUuid = Uuid,
        user_as_of: Timestamptz = Timestamp,
        start_time: Timestamptz = Timestamp,
        initial_url: Text = &'a str,
        end_time: Nullable<Timestamptz> = Option<Timestamp>,
    }
    "INSERT INTO replays AS stored \
     (replay_id, user_id, user_as_of, start_time, initial_url, end_time) SELECT * FROM",
    "ON CONFLICT (replay_id) DO UPDATE SET \
       user_id = CASE WHEN (EXCLUDED.user_as_of, EXCLUDED.user_id) > \
         (stored.user_as_of, stored.user_id) THEN EXCLUDED.user_id ELSE stored.user_id END, \
       user_as_of = GREATEST(stored.user_as_of, EXCLUDED.user_as_of), \
       initial_url = CASE WHEN (EXCLUDED.start_time, EXCLUDED.initial_url COLLATE \"C\") < \
         (stored.start_time, stored.initial_url COLLATE \"C\") \
         THEN EXCLUDED.initial_url ELSE stored.initial_url END, \
       start_time = LEAST(stored.start_time, EXCLUDED.start_time), \
       end_time = GREATEST(stored.end_time, EXCLUDED.end_time)"
);

unnest_statement!(
    UpsertWebstates {
        html_hash: Text = PageHash,
        html_content: Nullable<Bytea> = Option<&'a [u8]>,
        captured_at: Nullable<Timestamptz> = Option<Timestamp>,
    }
    "INSERT INTO webstates AS stored (html_hash, html_content, captured_at) SELECT * FROM",
    "ON CONFLICT (html_hash) DO UPDATE SET \
       html_content = COALESCE(stored.html_content, EXCLUDED.html_content), \
       captured_at = LEAST(stored.captured_at, EXCLUDED.captured_at)"
);

unnest_statement!(
    InsertEvents {
        event_id: SqlUuid = Uuid,
        replay_id: SqlUuid = Uuid,
        timestamp: Timestamptz = Timestamp,
        event_type: Text = Bytes<'a>,
        event_data: Json = Bytes<'a>,
        webstate_hash: Nullable<Text> = Option<PageHash>,
    }
    "INSERT INTO events \
     (event_id, replay_id, timestamp, event_type, event_data, webstate_hash) SELECT * FROM",
    "ON CONFLICT DO NOTHING"
);

/// Makes or merges users. The derived `email` is set only where a row is made.
pub(super) async fn upsert_users(
    connection: &mut AsyncPgConnection,
    users: &[(Uuid, UserState)],
    addresses: &Addresses,
) -> QueryResult<()> {
    if users.is_empty() {
        return Ok(());
    }
    let mut rows = UpsertUsers::default();
    for (user_id, state) in users {
        let (name, name_as_of) = split(state.name.as_ref());
        let (email_claim, email_as_of) = split(state.email_claim.as_ref());
        rows.user_id.push(*user_id);
        rows.created_at.push(state.created_at);
        rows.name.push(name);
        rows.name_as_of.push(name_as_of);
        rows.email_claim.push(email_claim);
        rows.email_as_of.push(email_as_of);
        rows.email.push(email_claim.filter(|_| addresses.given_to(user_id)));
    }
    rows.execute(connection).await.map(drop)
}

/// A dated text as its two columns.
fn split(dated: Option<&Dated<String>>) -> (Option<&str>, Option<Timestamp>) {
    (dated.map(|dated| dated.value.as_str()), dated.map(|dated| dated.as_of))
}

/// Makes or merges replays.
pub(super) async fn upsert_replays(
    connection: &mut AsyncPgConnection,
    replays: &[(Uuid, ReplayState)],
) -> QueryResult<()> {
    if replays.is_empty() {
        return Ok(());
    }
    let mut rows = UpsertReplays::default();
    for (replay_id, state) in replays {
        rows.replay_id.push(*replay_id);
        rows.user_id.push(state.user_id.value);
        rows.user_as_of.push(state.user_id.as_of);
        rows.start_time.push(state.start.0);
        rows.initial_url.push(&state.start.1);
        rows.end_time.push(state.end_time);
    }
    rows.execute(connection).await.map(drop)
}

/// Makes the commit of a transaction that found everything stored already wait as any other: a
/// commit waits for a synchronous standby, which then has all that was written before; but one
/// that wrote nothing does not wait. What this one found may be another's whose wait was cut short
/// (`pg_terminate_backend`, a restart of the primary), and would be gone after a fail-over. So it
/// writes a message that nobody reads.
pub(super) async fn wait_for_what_is_stored(connection: &mut AsyncPgConnection) -> QueryResult<()> {
    diesel::sql_query("SELECT pg_logical_emit_message(true, 'tapedeck', '')")
        .execute(connection)
        .await
        .map(drop)
}

/// Makes page states, fills in pages, and merges times of capture.
pub(super) async fn upsert_webstates<'a>(
    connection: &mut AsyncPgConnection,
    webstates: &[(PageHash, WebstateState)],
    new_page: impl Fn(&PageHash) -> Option<&'a [u8]>,
) -> QueryResult<()> {
    let content = |(hash, _): &(PageHash, WebstateState)| new_page(hash).map_or(0, <[u8]>::len);
    for webstates in in_portions(webstates, content) {
        let mut rows = UpsertWebstates::default();
        for (hash, state) in webstates {
            rows.html_hash.push(*hash);
            rows.html_content.push(new_page(hash));
            rows.captured_at.push(state.captured_at);
        }
        rows.execute(connection).await?;
    }
    Ok(())
}

/// Inserts events once; returns how many were new.
pub(super) async fn insert_events(
    connection: &mut AsyncPgConnection,
    plan: &Plan<'_>,
) -> QueryResult<u64> {
    let mut new = 0;
    for events in in_portions(plan.events(), PlannedEvent::bytes) {
        let mut rows = InsertEvents::default();
        for event in events {
            rows.event_id.push(event.event_id);
            rows.replay_id.push(event.replay_id);
            rows.timestamp.push(event.timestamp);
            rows.event_type.push(Bytes(event.event_type));
            rows.event_data.push(Bytes(event.event_data));
            rows.webstate_hash.push(event.webstate_hash);
        }
        new += rows.execute(connection).await? as u64;
    }
    Ok(new)
}

/// Inserts events that are all new; returns how many.
///
/// # Errors
/// Also with a unique violation, when one is not.
pub(super) async fn copy_events(
    connection: &mut AsyncPgConnection,
    copies: &Copies,
    plan: &Plan<'_>,
) -> QueryResult<u64> {
    let events = plan.events();
    if events.is_empty() {
        return Ok(0);
    }
    let lay_out = async |rows: &mut CopyRows| {
        for event in events {
            let webstate_hash = event.webstate_hash.map(PageHash::hex_digits);
            rows.push([
                Some(event.event_id.as_bytes()),
                Some(event.replay_id.as_bytes()),
                Some(&event.timestamp.to_postgres()),
                Some(event.event_type),
                Some(event.event_data),
                webstate_hash.as_ref().map(<[u8; _]>::as_slice),
            ])
            .await;
        }
    };
    copies.execute(CopyEvents.execute(connection), lay_out).await
}

/// A COPY, prepared once a session like the rest.
#[derive(QueryId)]
struct CopyEvents;

impl QueryFragment<Pg> for CopyEvents {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "COPY events \
             (event_id, replay_id, timestamp, event_type, event_data, webstate_hash) \
             FROM STDIN (FORMAT binary)",
        );
        Ok(())
    }
}
