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
//! A user that is new, and alone in claiming an address, is inserted with it: as most are, and an
//! update would write the row and all its index entries a second time.
//!
//! All users' locks are taken before all addresses', each sorted, and both before any row: no two
//! transactions can wait for each other on them.

use std::collections::{BTreeMap, BTreeSet};

use common::schema::users;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::of_array::OfArray;
use crate::merge::UserState;

/// Keeps the locks on users apart from those on addresses.
const USER_LOCKS: &[u8] = b"tapedeck user\0";
/// Keeps the locks on addresses apart from those on users.
const ADDRESS_LOCKS: &[u8] = b"tapedeck address\0";

/// The users of a batch whose claim or rank among claimants changes, with what they claim then.
#[derive(Debug, Default)]
pub(super) struct ClaimChanges(BTreeMap<Uuid, Option<String>>);

/// What becomes of the addresses of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    /// New users that alone claim theirs.
    given: BTreeSet<Uuid>,
    /// To be derived from all their claimants.
    derived: BTreeSet<String>,
}

impl ClaimChanges {
    /// Notes a user that is about to be written, if it can move an address.
    pub(super) fn note(&mut self, user_id: Uuid, stored: Option<&UserState>, merged: &UserState) {
        let unmoved = stored.is_some_and(|stored| {
            stored.created_at == merged.created_at && stored.email_claim == merged.email_claim
        });
        if !unmoved {
            let claimed = merged.email_claim.as_ref().map(|claim| claim.value.clone());
            self.0.insert(user_id, claimed);
        }
    }

    /// Takes the locks, and decides what becomes of the addresses.
    pub(super) async fn lock(&self, connection: &mut AsyncPgConnection) -> QueryResult<Addresses> {
        if self.0.is_empty() {
            return Ok(Addresses::default());
        }
        let keys = self.0.keys().map(|user_id| lock_key(USER_LOCKS, user_id.as_bytes()));
        take_locks(connection, keys).await?;
        let stored: Vec<(Uuid, Option<String>)> = users::table
            .filter(users::user_id.eq_any(self.0.keys()))
            .select((users::user_id, users::email_claim))
            .load(connection)
            .await?;
        let stored: BTreeMap<_, _> = stored.into_iter().collect();
        let let_go = stored.values().flatten();
        let addresses: BTreeSet<&String> = let_go.chain(self.0.values().flatten()).collect();
        let keys = addresses.iter().map(|address| lock_key(ADDRESS_LOCKS, address.as_bytes()));
        take_locks(connection, keys).await?;
        // Also those that a user has whatever it claims: this table is open to others.
        let taken: Vec<(Option<String>, Option<String>)> = users::table
            .filter(users::email_claim.eq_any(&addresses).or(users::email.eq_any(&addresses)))
            .select((users::email_claim, users::email))
            .load(connection)
            .await?;
        let taken = taken.into_iter().flat_map(|(claim, email)| [claim, email]).flatten().collect();
        Ok(self.decide(&stored, &taken))
    }

    /// Decides what becomes of the addresses: `stored` is what those of the users claim that are
    /// not new, `taken` the addresses that somebody claims or has.
    fn decide(
        &self,
        stored: &BTreeMap<Uuid, Option<String>>,
        taken: &BTreeSet<String>,
    ) -> Addresses {
        let mut claimants: BTreeMap<&str, u32> = BTreeMap::new();
        for address in self.0.values().flatten() {
            *claimants.entry(address).or_default() += 1;
        }
        let mut addresses = Addresses::default();
        addresses.derived.extend(stored.values().flatten().cloned());
        for (user_id, address) in &self.0 {
            let Some(address) = address else { continue };
            let alone = !taken.contains(address) && claimants[&**address] == 1;
            if alone && !stored.contains_key(user_id) {
                addresses.given.insert(*user_id);
            } else {
                addresses.derived.insert(address.clone());
            }
        }
        addresses
    }

    /// Gives each address to derive to whom it belongs now; returns how many of the users written
    /// claim one that another has.
    pub(super) async fn derive(
        &self,
        connection: &mut AsyncPgConnection,
        addresses: &Addresses,
    ) -> QueryResult<u64> {
        if addresses.derived.is_empty() {
            return Ok(0);
        }
        let derived: Vec<&String> = addresses.derived.iter().collect();
        // First everyone lets go, then the owners take: the unique index is checked row by row.
        for text in [RELEASE, ASSIGN] {
            OfArray::<Text, _>::new(text, &derived).execute(connection).await?;
        }
        let written = self.0.keys().filter(|user_id| !addresses.given_to(user_id));
        let conflicts: i64 = users::table
            .filter(users::user_id.eq_any(written))
            .filter(users::email_claim.is_not_null())
            .filter(users::email.is_null())
            .count()
            .get_result(connection)
            .await?;
        Ok(conflicts.cast_unsigned())
    }
}

impl Addresses {
    /// Whether a user is inserted with the address that it claims.
    pub(super) fn given_to(&self, user_id: &Uuid) -> bool {
        self.given.contains(user_id)
    }
}

/// Takes addresses from users that no longer own them.
const RELEASE: [&str; 2] = [
    "UPDATE users SET email = NULL WHERE email = ANY(",
    ") AND user_id NOT IN ( \
        SELECT DISTINCT ON (email_claim) user_id FROM users AS claimant \
        WHERE email_claim = users.email \
        ORDER BY email_claim, created_at, user_id)",
];

/// Gives addresses to their owners.
const ASSIGN: [&str; 2] = [
    "UPDATE users SET email = owner.email_claim FROM ( \
        SELECT DISTINCT ON (email_claim) email_claim, user_id FROM users \
        WHERE email_claim = ANY(",
    ") ORDER BY email_claim, created_at, user_id) AS owner \
     WHERE users.user_id = owner.user_id AND users.email IS DISTINCT FROM owner.email_claim",
];

/// Takes advisory locks in the order given.
const LOCK: [&str; 2] = ["SELECT pg_advisory_xact_lock(key) FROM UNNEST(", ") AS key"];

async fn take_locks(
    connection: &mut AsyncPgConnection,
    keys: impl Iterator<Item = i64>,
) -> QueryResult<()> {
    let mut keys: Vec<i64> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    OfArray::<BigInt, _>::new(LOCK, &keys).execute(connection).await.map(drop)
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
            assert_eq!(!changes.0.is_empty(), locked);
        }
        check(Some(&user(2, Some("a"))), &user(2, Some("a")), false);
        check(Some(&user(2, Some("a"))), &user(1, Some("a")), true);
        check(Some(&user(2, Some("a"))), &user(2, Some("b")), true);
        check(Some(&user(2, None)), &user(2, Some("b")), true);
        // A user that is new here may exist by the time it is written, with a claim.
        check(None, &user(2, None), true);
    }

    #[test]
    fn only_a_new_user_that_alone_claims_an_address_is_inserted_with_it() {
        type Claims<'a> = &'a [(u128, Option<&'a str>)];
        fn check(claims: Claims, stored: Claims, taken: &[&str], expected: [&[&str]; 2]) {
            let by_user = |claims: Claims| -> BTreeMap<Uuid, Option<String>> {
                let owned = claims
                    .iter()
                    .map(|(id, claim)| (Uuid::from_u128(*id), claim.map(str::to_owned)));
                owned.collect()
            };
            let taken = taken.iter().map(|address| (*address).to_owned()).collect();
            let changes = ClaimChanges(by_user(claims));
            let addresses = changes.decide(&by_user(stored), &taken);
            let claimed = |user_id| changes.0[user_id].as_deref().unwrap();
            let given: Vec<_> = addresses.given.iter().map(claimed).collect();
            let derived: Vec<_> = addresses.derived.iter().map(String::as_str).collect();
            assert_eq!([&*given, &*derived], expected);
        }
        check(&[(1, None)], &[], &[], [&[], &[]]);
        check(&[(1, Some("a")), (2, Some("b"))], &[], &[], [&["a", "b"], &[]]);
        // Another one of the batch claims it too.
        check(&[(1, Some("a")), (2, Some("a")), (3, Some("b"))], &[], &[], [&["b"], &["a"]]);
        // Another one claims or has it.
        check(&[(1, Some("a"))], &[], &["a"], [&[], &["a"]]);
        // It is not new: its row is not inserted. What it claimed before may go to another.
        check(&[(1, Some("a"))], &[(1, None)], &[], [&[], &["a"]]);
        check(&[(1, Some("a"))], &[(1, Some("b"))], &["b"], [&[], &["a", "b"]]);
        check(&[(1, None), (2, Some("b"))], &[(1, Some("b"))], &["b"], [&[], &["b"]]);
    }
}
