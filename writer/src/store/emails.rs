//! `users.email`, derived from the claims: it is unique, and two users may claim one address.
//!
//! Of the users that now claim an address, the one with the least (`created_at`, `user_id`) has
//! it; the others have none. To come out the same in any order of writers, a transaction that
//! changes a claim or a claimant's `created_at`
//!
//! 1. locks those users (advisory, sorted), so that nobody else changes their claims;
//! 2. reads their claims: the addresses that may be let go;
//! 3. locks these and the new addresses (advisory, sorted), so that nobody else derives them;
//! 4. writes the users, and derives every locked address from all its claimants.
//!
//! All users' locks are taken before all addresses', each sorted, and both before any row: no two
//! transactions can wait for each other on them.

use common::schema::users;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::merge::UserState;

/// Keeps the locks on users apart from those on addresses.
const USER_LOCKS: &[u8] = b"tapedeck user\0";
/// Keeps the locks on addresses apart from those on users.
const ADDRESS_LOCKS: &[u8] = b"tapedeck address\0";

/// The users of a batch whose claim or rank among claimants changes.
#[derive(Debug, Default)]
pub(super) struct ClaimChanges {
    user_ids: Vec<Uuid>,
    claimed: Vec<String>,
}

impl ClaimChanges {
    /// Notes a user that is about to be written, if it can move an address.
    pub(super) fn note(&mut self, user_id: Uuid, stored: Option<&UserState>, merged: &UserState) {
        let unmoved = stored.is_some_and(|stored| {
            stored.created_at == merged.created_at && stored.email_claim == merged.email_claim
        });
        if !unmoved {
            self.user_ids.push(user_id);
            self.claimed.extend(merged.email_claim.iter().map(|claim| claim.value.clone()));
        }
    }

    /// Takes the locks; returns the addresses to derive.
    pub(super) async fn lock(
        &self,
        connection: &mut AsyncPgConnection,
    ) -> QueryResult<Vec<String>> {
        if self.user_ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.user_ids.iter().map(|user_id| lock_key(USER_LOCKS, user_id.as_bytes()));
        take_locks(connection, keys).await?;
        let let_go: Vec<Option<String>> = users::table
            .filter(users::user_id.eq_any(&self.user_ids))
            .filter(users::email_claim.is_not_null())
            .select(users::email_claim)
            .load(connection)
            .await?;
        let mut addresses: Vec<String> =
            let_go.into_iter().flatten().chain(self.claimed.iter().cloned()).collect();
        addresses.sort();
        addresses.dedup();
        let keys = addresses.iter().map(|address| lock_key(ADDRESS_LOCKS, address.as_bytes()));
        take_locks(connection, keys).await?;
        Ok(addresses)
    }

    /// Gives each address to whom it belongs now; returns how many of the users written claim one
    /// that another has.
    pub(super) async fn derive(
        &self,
        connection: &mut AsyncPgConnection,
        addresses: &[String],
    ) -> QueryResult<u64> {
        if addresses.is_empty() {
            return Ok(0);
        }
        // First everyone lets go, then the owners take: the unique index is checked row by row.
        for statement in [RELEASE, ASSIGN] {
            diesel::sql_query(statement)
                .bind::<Array<Text>, _>(addresses)
                .execute(connection)
                .await?;
        }
        let conflicts: i64 = users::table
            .filter(users::user_id.eq_any(&self.user_ids))
            .filter(users::email_claim.is_not_null())
            .filter(users::email.is_null())
            .count()
            .get_result(connection)
            .await?;
        Ok(conflicts.cast_unsigned())
    }
}

/// Takes addresses from users that no longer own them.
const RELEASE: &str = r#"
    UPDATE users SET email = NULL
    WHERE email = ANY($1) AND user_id NOT IN (
        SELECT DISTINCT ON (email_claim) user_id FROM users AS claimant
        WHERE email_claim = users.email
        ORDER BY email_claim, created_at, user_id)
"#;

/// Gives addresses to their owners.
const ASSIGN: &str = r#"
    UPDATE users SET email = owner.email_claim
    FROM (
        SELECT DISTINCT ON (email_claim) email_claim, user_id FROM users
        WHERE email_claim = ANY($1)
        ORDER BY email_claim, created_at, user_id) AS owner
    WHERE users.user_id = owner.user_id AND users.email IS DISTINCT FROM owner.email_claim
"#;

async fn take_locks(
    connection: &mut AsyncPgConnection,
    keys: impl Iterator<Item = i64>,
) -> QueryResult<()> {
    let mut keys: Vec<i64> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    diesel::sql_query("SELECT pg_advisory_xact_lock(key) FROM UNNEST($1) AS key")
        .bind::<Array<BigInt>, _>(keys)
        .execute(connection)
        .await
        .map(drop)
}

fn lock_key(space: &[u8], name: &[u8]) -> i64 {
    let digest: [u8; 32] = Sha256::new().chain_update(space).chain_update(name).finalize().into();
    let mut first_eight = [0; 8];
    first_eight.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first_eight)
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;

    use super::*;
    use crate::merge::Dated;

    fn user(created_at: i64, claim: Option<&str>) -> UserState {
        let as_of = Timestamp::from_micros(0);
        UserState {
            created_at: Timestamp::from_micros(created_at),
            name: None,
            email_claim: claim.map(|value| Dated { as_of, value: value.to_owned() }),
        }
    }

    #[test]
    fn only_what_can_move_an_address_is_locked() {
        fn check(stored: Option<&UserState>, merged: &UserState, locked: bool) {
            let mut changes = ClaimChanges::default();
            changes.note(Uuid::nil(), stored, merged);
            assert_eq!(!changes.user_ids.is_empty(), locked);
        }
        check(Some(&user(2, Some("a"))), &user(2, Some("a")), false);
        check(Some(&user(2, Some("a"))), &user(1, Some("a")), true);
        check(Some(&user(2, Some("a"))), &user(2, Some("b")), true);
        check(Some(&user(2, None)), &user(2, Some("b")), true);
        // A user that is new here may exist by the time it is written, with a claim.
        check(None, &user(2, None), true);
    }
}
