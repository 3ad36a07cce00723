//! Writers that are added and taken away while they have a backlog: only what must move stops, and
//! nothing is lost or doubled. What it brings, and how long what stood still, is printed.

mod load;
mod movements;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::oracle::accounts::WriterAccounts;
use tests::stack::service::ServiceBuilder;
use tests::stack::{Environment, Service, Stack, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::writer::support::{PATIENCE, check_accounts, share_out};
use load::{Load, Written};
use movements::{held, movements, stopped_in_vain};

/// Of each topic. One, two, three, four and six lanes have equal shares of them.
const PARTITIONS: i32 = 12;
/// Partitions of both topics.
const ALL: f64 = 24.0;

/// Rows by which throughput is measured.
const MEASURED_ROWS: f64 = 10_000.0;

fn writer<'a>(environment: &'a Environment, lanes: &str) -> ServiceBuilder<'a> {
    let partitions = PARTITIONS.to_string();
    environment.writer().variables([
        ("TAPEDECK_TOPIC_PARTITIONS", partitions.as_str()),
        ("TAPEDECK_LANES", lanes),
        // Small, so that batches are under way whenever a writer goes, and writing them is what
        // takes long.
        ("TAPEDECK_BATCH_ROWS", "100"),
    ])
}

/// Prints how many rows a second the writers write, each of which must write some, and how many
/// events wait for them; and checks their accounts.
async fn measure(when: &str, load: &Load<'_>, writers: &[&Service]) -> Result<()> {
    let written = async || {
        let mut written = Vec::new();
        for writer in writers {
            let accounts = WriterAccounts::of(&writer.metrics().await?)?;
            accounts.check()?;
            written.push(accounts.written);
        }
        anyhow::Ok(written)
    };
    let (begun, before) = (Instant::now(), written().await?);
    let rows = eventually("rows are written by every writer", PATIENCE, async || {
        let now = written().await.map_err(|error| format!("{error:#}"))?;
        let more: Vec<_> = now.iter().zip(&before).map(|(now, before)| now - before).collect();
        let rows: f64 = more.iter().sum();
        let enough = rows >= MEASURED_ROWS && more.iter().all(|it| *it > 0.0);
        if enough { Ok(rows) } else { Err(format!("{more:?}")) }
    })
    .await?;
    let rate = rows / begun.elapsed().as_secs_f64();
    let waiting = load.waiting().await?;
    println!("{when}: {rate:.0} rows/s, and {waiting} events wait");
    Ok(())
}

/// Checks that the tables hold every event of the load once, `events` of each replay.
async fn check_stored(environment: &Environment, load: &Load<'_>, events: i64) -> Result<()> {
    environment.wait_committed(PATIENCE).await?;
    let sql = environment.sql().await?;
    let count =
        "SELECT replay_id, count(*), count(DISTINCT event_id) FROM events GROUP BY replay_id";
    let rows = sql.query(count, &[]).await?;
    let stored: BTreeSet<(Uuid, i64, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = load.sessions().iter().map(|it| (it.replay_id, events, events)).collect();
    ensure!(stored == expected, "not {events} of each replay: {stored:?}");
    println!("{} events, each stored once", events * i64::try_from(stored.len())?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_come_and_go_under_a_backlog_and_only_what_moves_stops() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start = async || writer(&environment, "1").start().await;
    let first = start().await?;
    first.wait_ready().await?;
    let load = Load::begin(&environment).await?;
    let topic = environment.topic("replay-events");
    let stop = CancellationToken::new();
    let scaling = async {
        let _stops = stop.clone().drop_guard();
        let alone_at = Instant::now();
        measure("one writer", &load, &[&first]).await?;
        let added_at = Instant::now();
        let usual = load.standstill(0..PARTITIONS, &(alone_at..added_at));
        println!("its partitions stood still for {usual:?} at most");
        let (second, third) = tokio::try_join!(start(), start())?;
        let writers = [&first, &second, &third];
        share_out(&writers, ALL, ALL / 3.0).await?;
        measure("three writers", &load, &writers).await?;
        let adding = added_at..Instant::now();
        let shared_out = movements(&writers)?;
        let kept = held(&shared_out, 0, &topic);
        let moved = (0..PARTITIONS).filter(|it| !kept.contains(it));
        println!(
            "while two were added, partitions that stayed stood still for {:?} at most, those that \
             moved for {:?}",
            load.standstill(kept.iter().copied(), &adding),
            load.standstill(moved, &adding),
        );

        let let_go = held(&shared_out, 1, &topic);
        let terminated_at = Instant::now();
        ensure!(second.terminate().await?.success(), "{}", second.log());
        share_out(&[&first, &third], ALL, ALL / 2.0).await?;
        measure("two writers", &load, &[&first, &third]).await?;
        let terminating = terminated_at..Instant::now();
        println!(
            "while one was told to go, partitions that stayed stood still for {:?} at most, its own \
             for {:?}",
            load.standstill((0..PARTITIONS).filter(|it| !let_go.contains(it)), &terminating),
            load.standstill(let_go.iter().copied(), &terminating),
        );

        let orphaned = held(&movements(&writers)?, 2, &topic);
        third.kill()?;
        let killed_at = Instant::now();
        let at_death = load.look().await?;
        let stood_still =
            |now: &Written, partition: &i32| now.get(partition) <= at_death.get(partition);
        let others_stood_still =
            eventually("the dead one's partitions get on", PATIENCE, async || {
                let now = load.look().await.map_err(|error| format!("{error:#}"))?;
                let (orphaned, others): (Vec<_>, Vec<_>) = (0..PARTITIONS)
                    .filter(|it| stood_still(&now, it))
                    .partition(|it| orphaned.contains(it));
                if orphaned.is_empty() {
                    Ok(others)
                } else {
                    Err(format!("{orphaned:?} stand still"))
                }
            })
            .await?;
        println!("partitions of the one that was killed stood still for {:?}", killed_at.elapsed());
        // Nobody else waited for the dead.
        ensure!(others_stood_still.is_empty(), "{others_stood_still:?} stood still");
        share_out(&[&first], ALL, ALL).await?;
        measure("one writer again", &load, &[&first]).await?;
        anyhow::Ok([second, third])
    };
    let (events, gone) = tokio::try_join!(load.keep_up(&stop), scaling)?;
    check_stored(&environment, &load, events).await.with_context(|| first.log())?;
    check_accounts(&first).await?;
    let moves = movements(&[&first, &gone[0], &gone[1]])?;
    let in_vain = stopped_in_vain(&moves);
    ensure!(in_vain.is_empty(), "let go of for nothing: {in_vain:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_several_lanes_share_partitions_as_so_many_writers_do() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start = async || writer(&environment, "3").start().await;
    let first = start().await?;
    first.wait_ready().await?;
    let load = Load::begin(&environment).await?;
    let stop = CancellationToken::new();
    let scaling = async {
        let _stops = stop.clone().drop_guard();
        measure("three lanes of one writer", &load, &[&first]).await?;
        let second = start().await?;
        // Six lanes have two partitions of events each; those of pages have six each.
        share_out(&[&first, &second], ALL, ALL / 2.0).await?;
        measure("six lanes of two writers", &load, &[&first, &second]).await?;
        ensure!(first.terminate().await?.success(), "{}", first.log());
        share_out(&[&second], ALL, ALL).await?;
        measure("three lanes of the other", &load, &[&second]).await?;
        anyhow::Ok(second)
    };
    let (events, second) = tokio::try_join!(load.keep_up(&stop), scaling)?;
    check_stored(&environment, &load, events).await.with_context(|| second.log())?;
    check_accounts(&second).await?;
    let moves = movements(&[&first, &second])?;
    let in_vain = stopped_in_vain(&moves);
    ensure!(in_vain.is_empty(), "let go of for nothing: {in_vain:?}");
    Ok(())
}
