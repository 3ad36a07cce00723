//! Addresses that go from user to user: in any order of delivery, repeated, with two writers at
//! once, every address ends where the rules say.

use anyhow::{Result, ensure};
use common::record::events::{Replay, User};
use common::time::Timestamp;
use proptest::prelude::*;
use tests::recordings::envelope::Envelope;
use tests::recordings::seed;
use uuid::Uuid;

use crate::deliveries::check_worlds;
use crate::deliveries::pipeline::{Delivery, Pipeline, UNSPLIT_BYTES};

/// 2026-03-01T12:00:00Z.
const NOON_MICROS: i64 = 1_772_366_400_000_000;

/// Cases that are tried, of several sets of claims each, which are delivered together.
const CASES: u32 = 12;

/// User `user` says at `time` that `email` is theirs, or says nothing of an address.
#[derive(Clone, Copy, Debug)]
struct Claim {
    user: u8,
    email: Option<u8>,
    time: u8,
    /// When the user came to be.
    created: u8,
}

impl Claim {
    /// In a replay of its own, so that claims about one user come through different partitions.
    fn envelope(self, case: u64, number: u64) -> Envelope {
        let at = |seconds: u8| Timestamp::from_micros(NOON_MICROS + i64::from(seconds) * 1_000_000);
        Envelope {
            replay: Replay {
                replay_id: seed::uuid(case, number, Uuid::from_u128(1)),
                initial_url: "https://shop.example/".into(),
                start_time: at(self.time),
                end_time: None,
                user: User {
                    user_id: user_id(case, self.user),
                    email: self.email.map(|number| address(case, number).into()),
                    name: None,
                    created_at: Some(at(self.created)),
                },
            },
            events: Vec::new(),
            webstates: Vec::new(),
        }
    }
}

/// Users with ids in the order of their numbers: ties of creation go to the least id.
fn user_id(case: u64, user: u8) -> Uuid {
    Uuid::from_u64_pair(case, u64::from(user) + 1)
}

fn address(case: u64, number: u8) -> String {
    format!("person{number}@{case}.example")
}

fn envelopes(case: u64, claims: &[Claim]) -> Vec<Envelope> {
    claims.iter().zip(0..).map(|(claim, number)| claim.envelope(case, number)).collect()
}

fn claim() -> impl Strategy<Value = Claim> {
    (0_u8..4, prop::option::weighted(0.8, 0_u8..3), 0_u8..20, 0_u8..4)
        .prop_map(|(user, email, time, created)| Claim { user, email, time, created })
}

/// Claims about the same few users, each with the places of its deliveries among all.
fn claims() -> impl Strategy<Value = Vec<(Claim, Vec<u16>)>> {
    prop::collection::vec((claim(), prop::collection::vec(any::<u16>(), 1..4)), 1..20)
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_in_any_order_and_repeated_end_as_the_model_has_them() -> Result<()> {
    let pipeline = Pipeline::start(2).await?;
    let groups = prop::collection::vec(claims(), 1..8);
    check_worlds(CASES, &groups, async |case, groups| {
        // Each group has users and addresses of its own.
        let said = groups.iter().zip(case * 1_000..).map(|(claims, case)| {
            let said: Vec<Claim> = claims.iter().map(|(claim, _)| *claim).collect();
            envelopes(case, &said)
        });
        let envelopes: Vec<Envelope> = said.flatten().collect();
        let mut deliveries: Vec<_> = groups
            .iter()
            .flatten()
            .zip(&envelopes)
            .flat_map(|((_, places), envelope)| places.iter().map(move |place| (*place, envelope)))
            .collect();
        deliveries.sort_by_key(|(place, _)| *place);
        let deliveries: Vec<_> =
            deliveries.into_iter().map(|(_, envelope)| unsplit(envelope)).collect();
        pipeline.deliver(&deliveries).await?;
        pipeline.differences(&envelopes).await
    })?;
    pipeline.nothing_was_put_aside().await
}

fn unsplit(envelope: &Envelope) -> Delivery<'_> {
    Delivery { envelope, limit_bytes: UNSPLIT_BYTES }
}

/// What the rules are about, in the plainest cases, each in every order of delivery and with every
/// envelope delivered twice; `expected` has the address of every user.
async fn check_all_orders(
    pipeline: &Pipeline,
    first_case: u64,
    claims: &[Claim],
    expected: &[(u8, Option<u8>)],
) -> Result<()> {
    let orders = permutations(claims.len());
    let cases: Vec<(u64, Vec<Envelope>)> =
        (first_case..).take(orders.len()).map(|case| (case, envelopes(case, claims))).collect();
    let mut deliveries = Vec::new();
    for (order, (_, envelopes)) in orders.iter().zip(&cases) {
        let in_order = order.iter().map(|number| unsplit(&envelopes[*number]));
        deliveries.extend(in_order.clone().chain(in_order));
    }
    pipeline.deliver(&deliveries).await?;
    for (order, (case, _)) in orders.iter().zip(&cases) {
        for (user, email) in expected {
            let row = pipeline
                .database()
                .query_one("SELECT email FROM users WHERE user_id = $1", &[&user_id(*case, *user)])
                .await?;
            let (found, expected) = (row.get(0), email.map(|number| address(*case, number)));
            ensure!(
                expected == found,
                "delivered as {order:?}, user {user} has {found:?}, not {expected:?}: {claims:?}"
            );
        }
    }
    Ok(())
}

/// All orders of so many things.
fn permutations(length: usize) -> Vec<Vec<usize>> {
    let Some(last) = length.checked_sub(1) else { return vec![Vec::new()] };
    let longer = |shorter: Vec<usize>| {
        (0..length).map(move |place| {
            let mut order = shorter.clone();
            order.insert(place, last);
            order
        })
    };
    permutations(last).into_iter().flat_map(longer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_overs_swaps_and_shared_addresses_end_alike_in_every_order() -> Result<()> {
    let pipeline = Pipeline::start(2).await?;
    // User 0 is the eldest.
    let says =
        |user: u8, email: u8, time: u8| Claim { user, email: Some(email), time, created: user };
    let silent = |user: u8, time: u8| Claim { user, email: None, time, created: user };

    // One address, three claimants: the eldest has it.
    let shared = [says(0, 0, 3), says(1, 0, 5), says(2, 0, 1)];
    check_all_orders(&pipeline, 1_000, &shared, &[(0, Some(0)), (1, None), (2, None)]).await?;
    // The eldest takes another: the next in age comes into the first.
    let handed_over = [says(0, 0, 1), says(1, 0, 2), says(2, 0, 3), says(0, 1, 9)];
    let expected = [(0, Some(1)), (1, Some(0)), (2, None)];
    check_all_orders(&pipeline, 2_000, &handed_over, &expected).await?;
    // Two users swap.
    let swapped = [says(0, 0, 1), says(1, 1, 1), says(0, 1, 5), says(1, 0, 5)];
    check_all_orders(&pipeline, 3_000, &swapped, &[(0, Some(1)), (1, Some(0))]).await?;
    // Three go round, and to say nothing gives nothing up.
    let round = [says(0, 1, 5), says(1, 2, 5), says(2, 0, 5), silent(0, 9)];
    let expected = [(0, Some(1)), (1, Some(2)), (2, Some(0))];
    check_all_orders(&pipeline, 4_000, &round, &expected).await?;
    // An older user turns up for an address that has been given.
    let turned_up = [
        says(1, 0, 1),
        Claim { created: 7, ..says(0, 0, 2) },
        Claim { created: 0, ..silent(0, 3) },
    ];
    check_all_orders(&pipeline, 5_000, &turned_up, &[(0, Some(0)), (1, None)]).await?;
    pipeline.nothing_was_put_aside().await
}
