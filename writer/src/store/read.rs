//! What is stored now, read without locks.

use common::page_hash::PageHash;
use common::schema::{replays, users, webstates};
use common::time::Timestamp;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::merge::{Dated, ReplayState, UserState, WebstateState};

pub(super) async fn users(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
) -> QueryResult<Vec<(Uuid, UserState)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<UserRow> = users::table
        .filter(users::user_id.eq_any(ids))
        .select(UserRow::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(UserRow::into_state).collect())
}

pub(super) async fn replays(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
) -> QueryResult<Vec<(Uuid, ReplayState)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<ReplayRow> = replays::table
        .filter(replays::replay_id.eq_any(ids))
        .select(ReplayRow::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(ReplayRow::into_state).collect())
}

pub(super) async fn webstates(
    connection: &mut AsyncPgConnection,
    hashes: &[PageHash],
) -> QueryResult<Vec<(PageHash, WebstateState)>> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(PageHash, Option<Timestamp>, bool)> = webstates::table
        .filter(webstates::html_hash.eq_any(hashes))
        .select((
            webstates::html_hash,
            webstates::captured_at,
            webstates::html_content.is_not_null(),
        ))
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(hash, captured_at, has_content)| (hash, WebstateState { captured_at, has_content }))
        .collect())
}

/// A row of `users`, without what is derived.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
struct UserRow {
    user_id: Uuid,
    created_at: Timestamp,
    name: Option<String>,
    name_as_of: Option<Timestamp>,
    email_claim: Option<String>,
    email_as_of: Option<Timestamp>,
}

impl UserRow {
    fn into_state(self) -> (Uuid, UserState) {
        let dated = |value: Option<String>, as_of: Option<Timestamp>| {
            Some(Dated { as_of: as_of?, value: value? })
        };
        let state = UserState {
            created_at: self.created_at,
            name: dated(self.name, self.name_as_of),
            email_claim: dated(self.email_claim, self.email_as_of),
        };
        (self.user_id, state)
    }
}

/// A row of `replays`.
#[derive(Queryable, Selectable)]
#[diesel(table_name = replays)]
struct ReplayRow {
    replay_id: Uuid,
    user_id: Uuid,
    start_time: Timestamp,
    end_time: Option<Timestamp>,
    initial_url: String,
    user_as_of: Timestamp,
}

impl ReplayRow {
    fn into_state(self) -> (Uuid, ReplayState) {
        let state = ReplayState {
            start: (self.start_time, self.initial_url),
            end_time: self.end_time,
            user_id: Dated { as_of: self.user_as_of, value: self.user_id },
        };
        (self.replay_id, state)
    }
}
