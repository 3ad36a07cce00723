//! Writers that join and leave, and months that get their partition, while data flow.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::stack::ports::free_port;
use tests::stack::{Environment, Kafka, Service, Stack, Tuning, eventually};
use tokio_util::sync::CancellationToken;

use super::support::{
    NOON_MS, PATIENCE, Session, check_accounts, feed, figure, reaches, share_out, wait_stored,
};

use crate::time_bounds::relay::Relay;

/// Partitions of both topics, three of each; and those of one of two writers, one of three at least
/// of either.
const ALL: f64 = 6.0;
const LEAST: f64 = 2.0;

#[tokio::test]
async fn writers_join_and_leave_and_every_event_lands_once() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start = || environment.writer().variable("TAPEDECK_BATCH_ROWS", "200").start();
    let first = start().await?;
    first.wait_ready().await?;
    let sessions: Vec<_> = (0..12).map(|_| Session::new()).collect();
    let round = |number: u64| -> Vec<_> {
        sessions.iter().map(|it| it.batch(number * 10, &[("scroll", "[0,1]"); 10])).collect()
    };
    let moved = CancellationToken::new();
    let feeding = async {
        let mut rounds = 0;
        while !moved.is_cancelled() {
            feed(&environment, &round(rounds)).await?;
            rounds += 1;
        }
        anyhow::Ok(rounds)
    };
    let moving = async {
        let feeds = moved.clone().drop_guard();
        let second = start().await?;
        reaches(&second, "tapedeck_writer_events_written_total", |it| it > 0.0).await?;
        let third = start().await?;
        third.wait_ready().await?;
        ensure!(second.terminate().await?.success(), "{}", second.log());
        third.kill()?;
        drop(feeds);
        anyhow::Ok(())
    };
    let (rounds, moved) = tokio::join!(feeding, moving);
    moved?;
    let events = usize::try_from(rounds?)? * 10;
    let sql = environment.sql().await?;
    for session in &sessions {
        wait_stored(&sql, session, events).await.with_context(|| first.log())?;
    }
    environment.wait_committed(PATIENCE).await?;
    check_accounts(&first).await?;
    let total: i64 = sql.query_one("SELECT count(*) FROM events", &[]).await?.get(0);
    assert_eq!(usize::try_from(total)?, sessions.len() * events);
    Ok(())
}

/// Feeds events to all partitions, and sees that both writers had some of them.
async fn both_consume(environment: &Environment, writers: [&Service; 2]) -> Result<()> {
    let sessions: Vec<_> = (0..24).map(|_| Session::new()).collect();
    let records: Vec<_> = sessions.iter().map(|it| it.batch(0, &[("click", "1")])).collect();
    feed(environment, &records).await?;
    let sql = environment.sql().await?;
    for session in &sessions {
        wait_stored(&sql, session, 1).await?;
    }
    for writer in writers {
        let consumed = figure(writer, "tapedeck_writer_events_consumed_total", &[]).await?;
        ensure!(consumed > 0.0, "one of them had no partition of events");
    }
    Ok(())
}

#[tokio::test]
async fn a_writer_that_comes_back_under_its_name_moves_no_partition() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start = async |name: &str| {
        let writer = environment.writer().variable("TAPEDECK_LANES", "1");
        // Time enough to come back on a busy machine.
        let patient = ("TAPEDECK_KAFKA_PROPERTIES", "session.timeout.ms=45000");
        let named = [("TAPEDECK_GROUP_INSTANCE_ID", name), patient];
        writer.variables(named).start().await
    };
    let stays = start("stays").await?;
    stays.wait_ready().await?;
    let goes = start("goes").await?;
    goes.wait_ready().await?;
    share_out(&[&stays, &goes], ALL, LEAST).await?;
    let moved = "tapedeck_writer_rebalanced_partitions_total";
    let before = figure(&stays, moved, &[]).await?;
    ensure!(goes.terminate().await?.success(), "{}", goes.log());
    let back = start("goes").await?;
    share_out(&[&stays, &back], ALL, LEAST).await?;
    both_consume(&environment, [&stays, &back]).await?;
    assert_eq!(figure(&stays, moved, &[]).await?, before, "the other noticed");
    Ok(())
}

#[tokio::test]
async fn a_writer_that_joins_gets_its_share_of_either_topic() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start = || environment.writer().variable("TAPEDECK_LANES", "1").start();
    let first = start().await?;
    first.wait_ready().await?;
    let second = start().await?;
    share_out(&[&first, &second], ALL, LEAST).await?;
    both_consume(&environment, [&first, &second]).await
}

#[tokio::test]
async fn a_partition_that_goes_and_comes_back_is_consumed() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start = || environment.writer().variable("TAPEDECK_LANES", "1").start();
    let sql = environment.sql().await?;
    let first = start().await?;
    first.wait_ready().await?;
    let second = start().await?;
    let assigned = "tapedeck_writer_partitions_assigned";
    reaches(&second, assigned, |it| it > 0.0).await?;
    ensure!(second.terminate().await?.success(), "{}", second.log());
    // Three partitions of each topic, all with the first writer again.
    reaches(&first, assigned, |it| it == ALL).await?;
    let sessions: Vec<_> = (0..24).map(|_| Session::new()).collect();
    let records: Vec<_> = sessions.iter().map(|it| it.batch(0, &[("click", "1")])).collect();
    feed(&environment, &records).await?;
    for session in &sessions {
        wait_stored(&sql, session, 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_writer_that_was_taken_for_dead_commits_nothing_and_every_event_lands_once() -> Result<()>
{
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    let frozen = environment.writer().variable("TAPEDECK_LANES", "1").start().await?;
    frozen.wait_ready().await?;
    let assigned = "tapedeck_writer_partitions_assigned";
    reaches(&frozen, assigned, |it| it == ALL).await?;
    frozen.set_failpoint("writer::before-offset-commit", "1*return(freeze)").await?;
    let sessions: Vec<_> = (0..24).map(|_| Session::new()).collect();
    let records: Vec<_> = sessions.iter().map(|it| it.batch(0, &[("click", "1"); 10])).collect();
    feed(&environment, &records).await?;
    frozen.wait_frozen(PATIENCE).await?;
    // Once its session has timed out, all are the other's.
    let other = environment.writer().start().await?;
    reaches(&other, assigned, |it| it == ALL).await?;
    for session in &sessions {
        wait_stored(&sql, session, 10).await?;
    }
    environment.wait_committed(PATIENCE).await?;
    let repeated = figure(&other, "tapedeck_writer_events_duplicate_total", &[]).await?;
    ensure!(repeated > 0.0, "it had written nothing");

    frozen.thaw()?;
    let (lost, labels) = ("tapedeck_writer_rebalanced_partitions_total", [("change", "lost")]);
    frozen.wait_for_metric(lost, &labels, PATIENCE, |it| it == ALL).await?;
    check_accounts(&frozen).await?;
    let labels = [("outcome", "committed")];
    assert_eq!(figure(&frozen, "tapedeck_writer_offset_commits_total", &labels).await?, 0.0);
    // And it goes on as a member.
    ensure!(other.terminate().await?.success(), "{}", other.log());
    reaches(&frozen, assigned, |it| it == ALL).await?;
    let next = Session::new();
    feed(&environment, &[next.batch(0, &[("click", "1")])]).await?;
    wait_stored(&sql, &next, 1).await
}

#[tokio::test]
async fn a_writer_stopped_in_the_middle_of_a_rebalance_leaves_promptly() -> Result<()> {
    // By default: two for events, one for page states.
    const STAYING_LANES: usize = 3;
    let environment = Environment::new(Stack::shared().await?).await?;
    let staying = environment.writer().start().await?;
    staying.wait_ready().await?;
    // Stopped sooner or later after its lanes began to join.
    for pause_ms in [0, 20, 50, 100, 200, 400] {
        let passing = environment.writer().start().await?;
        passing.wait_logged("\"consuming\"", PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let stopped = tokio::time::timeout(Duration::from_secs(20), passing.terminate()).await;
        ensure!(stopped.is_ok_and(|it| it.is_ok_and(|it| it.success())), "{}", passing.log());
        wait_members(&environment, STAYING_LANES).await.with_context(|| passing.log())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_writer_stopped_while_it_asks_to_join_keeps_nobody_waiting() -> Result<()> {
    /// Time enough to stop between the first question and its answer.
    const LATENCY: Duration = Duration::from_millis(400);
    let stack = Stack::shared().await?;
    let port = free_port()?;
    let relay = Relay::to((Ipv4Addr::LOCALHOST, port).into()).await?;
    let (folder, advertised) = (stack.folder(), relay.address().to_string());
    let kafka = Kafka::start_behind(folder.path(), port, &advertised, Tuning::Tests).await?;
    let environment = Environment::on(folder, &kafka, stack.postgres()).await?;
    let staying = environment.writer().start().await?;
    let going = environment.writer().start().await?;
    share_out(&[&staying, &going], ALL, LEAST).await?;

    relay.move_away(LATENCY);
    let what_the_client_does =
        [("TAPEDECK_KAFKA_PROPERTIES", "debug=cgrp"), ("TAPEDECK_LOG", "debug")];
    let passing = environment.writer().variables(what_the_client_does).start().await?;
    passing.wait_logged("init -> wait-join", PATIENCE).await?;
    ensure!(passing.terminate().await?.success(), "{}", passing.log());

    // Whom the group still expects, the others wait for.
    ensure!(going.terminate().await?.success(), "{}", going.log());
    let assigned = "tapedeck_writer_partitions_assigned";
    let with_all = staying.wait_for_metric(assigned, &[], AT_ONCE, |it| it == ALL).await;
    with_all.map(drop).with_context(|| passing.log())
}

#[tokio::test]
async fn a_lane_without_partitions_leaves_its_group_when_it_stops() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    // Three partitions of each topic: five lanes get none.
    let writer = environment.writer().variable("TAPEDECK_LANES", "8").start().await?;
    writer.wait_ready().await?;
    ensure!(writer.terminate().await?.success(), "{}", writer.log());
    wait_members(&environment, 0).await.with_context(|| writer.log())
}

/// Half of the session time-out, after which the group forgets whoever is silent.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Waits until the group has so many members.
async fn wait_members(environment: &Environment, expected: usize) -> Result<()> {
    let group = environment.consumer_group();
    eventually("the group has as many members as it should", AT_ONCE, async || {
        match environment.records().members(group).await {
            Ok(members) if members == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_late_month_gets_its_partition_while_writers_run() -> Result<()> {
    const HALF_A_YEAR_MS: i64 = 183 * 24 * 3_600_000;
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    let writers = [environment.writer().start().await?, environment.writer().start().await?];
    for writer in &writers {
        writer.wait_ready().await?;
    }
    let current: Vec<_> = (0..6).map(|_| Session::new()).collect();
    let late: Vec<_> = (0..6).map(|_| Session::beginning(NOON_MS - HALF_A_YEAR_MS)).collect();
    // Rows of that month lie in the default partition already.
    let stray = Session::beginning(NOON_MS - HALF_A_YEAR_MS);
    let user = "INSERT INTO users (user_id, created_at) VALUES ($1, now())";
    sql.execute(user, &[&stray.user_id]).await?;
    sql.execute(
        "INSERT INTO replays (replay_id, user_id, start_time, initial_url, user_as_of) \
         VALUES ($1, $2, now(), '/', now())",
        &[&stray.replay_id, &stray.user_id],
    )
    .await?;
    sql.execute(
        "INSERT INTO events (event_id, replay_id, timestamp, event_type, event_data) \
         VALUES (least_event_id('2026-04-15T12:00:00Z'), $1, '2026-04-15T12:00:00Z', 'click', '1')",
        &[&stray.replay_id],
    )
    .await?;
    for number in 0..10 {
        let sessions = current.iter().chain(&late);
        let records: Vec<_> =
            sessions.map(|it| it.batch(number * 10, &[("scroll", "[0,1]"); 10])).collect();
        feed(&environment, &records).await?;
    }
    for session in current.iter().chain(&late) {
        wait_stored(&sql, session, 100).await?;
    }
    eventually("the month has its partition", PATIENCE, async || {
        let placed = "SELECT count(*) FROM events_2026_04";
        match sql.query_one(placed, &[]).await.map(|row| row.get::<_, i64>(0)) {
            Ok(601) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let strays: i64 = sql.query_one("SELECT count(*) FROM events_default", &[]).await?.get(0);
    assert_eq!(strays, 0);
    let letters = environment.topic("replay-dead-letters");
    assert!(environment.records().read_all(&letters).await?.is_empty());
    Ok(())
}
