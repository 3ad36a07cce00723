//! Every event once, with its bytes; every page once; and a stop that loses and repeats nothing.

use anyhow::{Result, ensure};
use common::page_hash::PageHash;
use tests::stack::{Environment, Stack, eventually};
use tokio_util::sync::CancellationToken;

use super::support::{
    PATIENCE, Session, check_accounts, feed, figure, page_record, reaches, wait_copying,
    wait_stored,
};

#[tokio::test]
async fn events_land_once_with_their_bytes_however_often_they_come() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    let sql = environment.sql().await?;
    let session = Session::new();
    let data = [r#"{ "b":1,  "a":1.0, "b":2 }"#, "null", r#""ü\u00fc\ud83d\ude00""#, "[[],1e400]"];
    let events: Vec<_> = data.iter().map(|data| ("click", *data)).collect();
    let batch = session.batch(0, &events);
    feed(&environment, &[batch.clone(), batch.clone()]).await?;
    environment.wait_committed(PATIENCE).await?;
    feed(&environment, &[batch]).await?;
    environment.wait_committed(PATIENCE).await?;

    let stored: Vec<_> = session.stored(&sql).await?.into_iter().map(|(_, data)| data).collect();
    assert_eq!(stored, data);
    eventually("the counts are taken", PATIENCE, async || {
        let consumed = check_accounts(&writer).await.map_err(|error| format!("{error:#}"))?;
        if consumed == 12.0 { Ok(()) } else { Err(format!("{consumed} consumed")) }
    })
    .await?;
    reaches(&writer, "tapedeck_writer_events_written_total", |it| it == 4.0).await?;
    reaches(&writer, "tapedeck_writer_events_duplicate_total", |it| it == 8.0).await?;
    Ok(())
}

#[tokio::test]
async fn a_page_that_comes_after_its_events_fills_the_row_they_made() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    let sql = environment.sql().await?;
    let (session, html) = (Session::new(), "<!DOCTYPE html><p>näive</p>");
    let hash = PageHash::of(html.as_bytes());
    feed(&environment, &[session.batch_with_pages(0, &[("full_snapshot", "1")], &[hash])]).await?;
    wait_stored(&sql, &session, 1).await?;
    let select = "SELECT html_content IS NULL, captured_at IS NOT NULL FROM webstates \
                  WHERE html_hash = $1";
    let row = sql.query_one(select, &[&hash.to_hex()]).await?;
    assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1)), (true, true));

    let pages = environment.topic("replay-webstates");
    for _ in 0..2 {
        environment.records().produce(&pages, &[page_record(html)]).await?;
    }
    reaches(&writer, "tapedeck_writer_page_repeats_total", |it| it == 1.0).await?;
    let row = sql
        .query_one("SELECT html_content FROM webstates WHERE html_hash = $1", &[&hash.to_hex()])
        .await?;
    assert_eq!(zstd::decode_all(row.get::<_, &[u8]>(0))?, html.as_bytes());
    assert_eq!(figure(&writer, "tapedeck_writer_pages_written_total", &[]).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn the_accounts_add_up_at_every_scrape_under_load() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().variable("TAPEDECK_BATCH_AGE_MS", "5").start().await?;
    writer.wait_ready().await?;
    let sessions: Vec<_> = (0..200).map(|_| Session::new()).collect();
    let events = [("click", "{}"); 50];
    let records: Vec<_> = sessions.iter().map(|session| session.batch(0, &events)).collect();
    let feeding = feed(&environment, &records);
    let watching = async {
        while check_accounts(&writer).await? < 10_000.0 {}
        anyhow::Ok(())
    };
    let (fed, watched) = tokio::join!(feeding, tokio::time::timeout(PATIENCE, watching));
    fed?;
    watched??;
    reaches(&writer, "tapedeck_writer_events_written_total", |it| it == 10_000.0).await?;
    check_accounts(&writer).await?;
    Ok(())
}

#[tokio::test]
async fn sigterm_under_load_exits_0_and_the_next_writer_finds_no_duplicate() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    // Small batches, so that several are held and under way at any time.
    let writer = environment.writer().variable("TAPEDECK_BATCH_ROWS", "200").start().await?;
    writer.wait_ready().await?;
    let session = Session::new();
    let stopped = CancellationToken::new();
    let feeding = async {
        let mut fed = 0;
        while !stopped.is_cancelled() {
            let record = |number: u64| session.batch(fed + number * 20, &[("scroll", "[1,2]"); 20]);
            feed(&environment, &(0..50).map(record).collect::<Vec<_>>()).await?;
            fed += 1_000;
        }
        anyhow::Ok(fed)
    };
    let stopping = async {
        let _feeding = stopped.clone().drop_guard();
        reaches(&writer, "tapedeck_writer_events_written_total", |it| it > 2_000.0).await?;
        writer.terminate().await
    };
    let (fed, end) = tokio::join!(feeding, stopping);
    ensure!(end?.success(), "{}", writer.log());
    let fed = usize::try_from(fed?)?;
    let sql = environment.sql().await?;
    let stored = session.stored(&sql).await?.len();
    ensure!(stored < fed, "all {fed} events were stored: there was no load");

    let next = environment.writer().start().await?;
    wait_stored(&sql, &session, fed).await?;
    environment.wait_committed(PATIENCE).await?;
    let rest = (fed - stored) as f64;
    reaches(&next, "tapedeck_writer_events_written_total", |it| it == rest).await?;
    assert_eq!(figure(&next, "tapedeck_writer_events_duplicate_total", &[]).await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_and_doubles_nothing() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let session = Session::new();
    let record = |number: u64| session.batch(number * 20, &[("scroll", "[1,2,3]"); 20]);
    let records: Vec<_> = (0..300).map(record).collect();
    let topic_maker = environment.writer().start().await?;
    topic_maker.wait_ready().await?;
    topic_maker.terminate().await?;
    feed(&environment, &records).await?;
    for _ in 0..3 {
        // Small batches, so that the kill falls into the middle of the work.
        let writer = environment.writer().variable("TAPEDECK_BATCH_ROWS", "100").start().await?;
        reaches(&writer, "tapedeck_writer_events_consumed_total", |it| it > 0.0).await?;
        writer.kill()?;
    }
    let _writer = environment.writer().start().await?;
    let sql = environment.sql().await?;
    wait_stored(&sql, &session, 6_000).await?;
    environment.wait_committed(PATIENCE).await?;
    assert_eq!(session.stored(&sql).await?.len(), 6_000);
    Ok(())
}

#[tokio::test]
async fn a_batch_of_thousands_of_new_users_fits_postgres_lock_table() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let sessions: Vec<_> = (0..4_000).map(|_| Session::new()).collect();
    let records: Vec<_> =
        sessions.iter().map(|session| session.batch(0, &[("click", "1")])).collect();
    // Fed first, and gathered for long: one lane takes them all in one batch.
    let topic_maker = environment.writer().start().await?;
    topic_maker.wait_ready().await?;
    topic_maker.terminate().await?;
    feed(&environment, &records).await?;
    let writer = environment
        .writer()
        .variable("TAPEDECK_LANES", "1")
        .variable("TAPEDECK_BATCH_AGE_MS", "3000")
        .start()
        .await?;
    reaches(&writer, "tapedeck_writer_events_written_total", |it| it == 4_000.0).await?;
    assert_eq!(figure(&writer, "tapedeck_writer_retries_total", &[]).await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_copy_that_meets_a_stored_event_leaves_it_and_takes_the_others() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    let session = Session::new();
    let next = wait_copying(&environment, &writer, &session).await?;
    // One record: its old and its new events are in one transaction.
    let half_old = session.batch(next - 1, &[("click", "{}"), ("click", "1")]);
    feed(&environment, &[half_old]).await?;
    let stored = usize::try_from(next)? + 1;
    wait_stored(&environment.sql().await?, &session, stored).await?;
    let (name, cause) = ("tapedeck_writer_retries_total", [("cause", "repeated")]);
    writer.wait_for_metric(name, &cause, PATIENCE, |it| it == 1.0).await?;
    reaches(&writer, "tapedeck_writer_events_duplicate_total", |it| it == 1.0).await?;
    check_accounts(&writer).await?;
    Ok(())
}
