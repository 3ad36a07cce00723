//! What Postgres refuses for good, and what cannot be read, goes to the dead letters alone.

use std::time::Duration;

use anyhow::Result;
use common::page_hash::PageHash;
use tests::stack::records::Record;
use tests::stack::{Environment, Program, Service, Stack, eventually};
use tokio_postgres::types::ToSql;

use super::support::{
    PATIENCE, Session, check_accounts, events_record, feed, figure, reaches, wait_copying,
    wait_stored,
};

async fn dead_letters(environment: &Environment) -> Result<Vec<Record>> {
    environment.records().read_all(&environment.topic("replay-dead-letters")).await
}

async fn started(environment: &Environment) -> Result<Service> {
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    Ok(writer)
}

#[tokio::test]
async fn unreadable_records_go_alone_with_their_class_and_origin() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let (before, after) = (Session::new(), Session::new());
    let not_json = events_record("key-1", b"not JSON at all".to_vec());
    let wrong_shape = events_record("key-2", br#"{"replay":{"replay_id":7}}"#.to_vec());
    let bare = Record { headers: vec![], ..events_record("key-3", b"{}".to_vec()) };
    let records = [
        before.batch(0, &[("click", "1")]),
        not_json.clone(),
        wrong_shape.clone(),
        bare.clone(),
        after.batch(0, &[("click", "2")]),
    ];
    feed(&environment, &records).await?;
    let sql = environment.sql().await?;
    wait_stored(&sql, &before, 1).await?;
    wait_stored(&sql, &after, 1).await?;
    environment.wait_committed(PATIENCE).await?;

    let fed = environment.records().read_all(&environment.topic("replay-events")).await?;
    let mut letters = dead_letters(&environment).await?;
    letters.sort_by_key(|letter| letter.key.clone());
    let classes: Vec<_> = letters.iter().map(|it| it.header("error.class").unwrap()).collect();
    assert_eq!(classes, ["not_json", "wrong_shape", "bad_header"]);
    for (letter, original) in letters.iter().zip([not_json, wrong_shape, bare]) {
        assert_eq!((&letter.key, &letter.value), (&original.key, &original.value));
        let origin = fed.iter().find(|record| record.key == original.key).unwrap();
        assert_eq!(letter.header("original.topic"), Some(&*environment.topic("replay-events")));
        let place = (origin.partition.to_string(), origin.offset.to_string());
        assert_eq!(letter.header("original.partition"), Some(&*place.0));
        assert_eq!(letter.header("original.offset"), Some(&*place.1));
        let message = letter.header("error.message").unwrap();
        assert!(!message.is_empty() && !message.contains("not JSON at all"));
    }
    let counted = "tapedeck_writer_records_dead_lettered_total";
    assert_eq!(figure(&writer, counted, &[("class", "not_json")]).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_refused_row_goes_alone_also_when_its_neighbours_are_copied() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let sql = environment.sql().await?;
    let session = Session::new();
    let next = wait_copying(&environment, &writer, &session).await?;
    // Longer than its column: Postgres finds it while it reads the rows.
    let too_long = "x".repeat(65);
    let mut events = [("click", "{}"); 20];
    events[7].0 = &too_long;
    feed(&environment, &[session.batch(next, &events)]).await?;
    wait_stored(&sql, &session, usize::try_from(next)? + 19).await?;
    environment.wait_committed(PATIENCE).await?;
    let letters = dead_letters(&environment).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("error.class"), Some("data_exception"));
    assert_eq!(letters[0].header("error.events"), Some("7"));
    assert_eq!(figure(&writer, "tapedeck_writer_retries_total", &[]).await?, 0.0);
    check_accounts(&writer).await?;
    Ok(())
}

#[tokio::test]
async fn a_refused_row_goes_alone_and_comes_back_once_the_cause_is_gone() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let sql = environment.sql().await?;
    sql.batch_execute("ALTER TABLE events ADD CONSTRAINT odd CHECK (event_type <> 'odd')").await?;
    let (mixed, neighbour) = (Session::new(), Session::new());
    let mut events = [("even", "{}"); 20];
    for place in [3, 4, 17] {
        events[place].0 = "odd";
    }
    feed(&environment, &[mixed.batch(0, &events), neighbour.batch(0, &[("even", "{}"); 5])])
        .await?;
    wait_stored(&sql, &mixed, 17).await?;
    wait_stored(&sql, &neighbour, 5).await?;
    environment.wait_committed(PATIENCE).await?;
    let letters = dead_letters(&environment).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("error.class"), Some("check_violation"));
    assert_eq!(letters[0].header("error.events"), Some("3-4,17"));
    check_accounts(&writer).await?;
    let dead_lettered = "tapedeck_writer_events_dead_lettered_total";
    assert_eq!(figure(&writer, dead_lettered, &[]).await?, 3.0);

    sql.batch_execute("ALTER TABLE events DROP CONSTRAINT odd").await?;
    let redrive = ["redrive", "--class", "check_violation"];
    let told = environment.command(Program::Writer).arguments(redrive).run().await?.success()?;
    assert_eq!(told, "1 of 1 dead letters sent through again\n");
    wait_stored(&sql, &mixed, 20).await?;
    environment.wait_committed(PATIENCE).await?;
    let told = environment.command(Program::Writer).arguments(redrive).run().await?.success()?;
    assert_eq!(told, "0 of 0 dead letters sent through again\n", "progress is kept");
    Ok(())
}

#[tokio::test]
async fn a_refused_event_alone_in_its_record_leaves_its_replay_user_and_pages() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let _writer = started(&environment).await?;
    let sql = environment.sql().await?;
    sql.batch_execute("ALTER TABLE events ADD CONSTRAINT odd CHECK (event_type <> 'odd')").await?;
    let (session, page) = (Session::new(), PageHash::of(b"<p>"));
    feed(&environment, &[session.batch_with_pages(0, &[("odd", "{}")], &[page])]).await?;
    environment.wait_committed(PATIENCE).await?;
    let letters = dead_letters(&environment).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("error.events"), Some("0"));
    let written: (bool, bool) = {
        let query = "SELECT EXISTS (SELECT FROM replays WHERE replay_id = $1 AND user_id = $2), \
                     EXISTS (SELECT FROM webstates WHERE html_hash = $3)";
        let keys: [&(dyn ToSql + Sync); 3] = [&session.replay_id, &session.user_id, &page.to_hex()];
        let row = sql.query_one(query, &keys).await?;
        (row.get(0), row.get(1))
    };
    assert_eq!(written, (true, true));
    Ok(())
}

#[tokio::test]
async fn rows_that_no_column_takes_are_poison() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let _writer = started(&environment).await?;
    let sql = environment.sql().await?;
    let long_type = "x".repeat(65);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let long = Session::new();
    let nested = Session::new();
    let records = [
        long.batch(0, &[("click", "1"), (&long_type, "2")]),
        nested.batch(0, &[("click", &deep), ("click", "2")]),
    ];
    feed(&environment, &records).await?;
    wait_stored(&sql, &long, 1).await?;
    wait_stored(&sql, &nested, 1).await?;
    environment.wait_committed(PATIENCE).await?;
    let mut found: Vec<_> = dead_letters(&environment)
        .await?
        .iter()
        .map(|it| {
            (
                it.header("error.class").unwrap().to_owned(),
                it.header("error.events").unwrap().to_owned(),
            )
        })
        .collect();
    found.sort();
    let expected = [("data_exception", "1"), ("too_complex", "0")];
    assert_eq!(found, expected.map(|(class, events)| (class.to_owned(), events.to_owned())));
    Ok(())
}

#[tokio::test]
async fn a_stream_of_poison_stops_the_lane_instead_of_filling_the_dead_letters() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().variable("TAPEDECK_LANES", "1").start().await?;
    writer.wait_ready().await?;
    let poison: Vec<_> =
        (0..1_200).map(|number| events_record(&number.to_string(), b"{".to_vec())).collect();
    feed(&environment, &poison).await?;
    reaches(&writer, "tapedeck_writer_lanes_halted", |it| it == 1.0).await?;
    let reason =
        eventually("the writer is unready", PATIENCE, async || match writer.readiness().await {
            Ok(Err(reason)) => Ok(reason),
            other => Err(format!("{other:?}")),
        })
        .await?;
    assert!(reason.contains("poison"), "{reason}");
    assert!(dead_letters(&environment).await?.len() <= 500);
    assert!(writer.terminate().await?.success(), "a halted writer still stops as told");
    Ok(())
}

#[tokio::test]
async fn a_newer_record_format_stops_its_partition_and_no_other() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let mut newer = Session::new().batch(0, &[("click", "1")]);
    newer.headers[0].1 = b"2".to_vec();
    let newer_session_key = newer.key.clone();
    feed(&environment, &[newer]).await?;
    reaches(&writer, "tapedeck_writer_partitions_stopped", |it| it == 1.0).await?;
    let readiness = writer.readiness().await?;
    assert!(readiness.is_err_and(|reason| reason.contains("newer writer")));

    let others: Vec<_> = (0..12).map(|_| Session::new()).collect();
    let records: Vec<_> = others.iter().map(|it| it.batch(0, &[("click", "1")])).collect();
    feed(&environment, &records).await?;
    let topic = environment.topic("replay-events");
    let fed = environment.records().read_all(&topic).await?;
    let stopped = fed.iter().find(|record| record.key == newer_session_key).unwrap().partition;
    let sql = environment.sql().await?;
    for session in &others {
        let key = session.replay_id.to_string().into_bytes();
        let partition = fed.iter().find(|record| record.key == key).unwrap().partition;
        if partition != stopped {
            wait_stored(&sql, session, 1).await?;
        }
    }
    tokio::time::timeout(Duration::from_secs(30), writer.terminate()).await??;
    let committed = environment.records().committed(environment.consumer_group(), &topic).await?;
    assert_eq!(committed.get(&stopped).copied().unwrap_or(0), 0, "nothing is skipped");
    assert!(dead_letters(&environment).await?.is_empty());
    Ok(())
}
