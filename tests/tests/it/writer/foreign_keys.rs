//! `--foreign-keys=set-based`: as sound as the checks of Postgres, and refused where it is not.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use common::page_hash::PageHash;
use tests::stack::postgres::wait_blocked;
use tests::stack::service::ServiceBuilder;
use tests::stack::{Environment, Service, Stack, eventually};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::support::{PATIENCE, Session, feed, wait_stored};

/// A writer that checks by itself, as the superuser: the right to it is the whole server's, and
/// writers of other tests are to be without.
fn set_based(environment: &Environment) -> ServiceBuilder<'_> {
    let writer = environment.writer().variable("TAPEDECK_FOREIGN_KEYS", "set-based");
    writer.variable("TAPEDECK_DATABASE_URL", environment.database_url())
}

async fn started(environment: &Environment) -> Result<Service> {
    let writer = set_based(environment).start().await?;
    writer.wait_ready().await?;
    Ok(writer)
}

/// Checks that every event has its replay and its page state.
async fn check_parents(sql: &Client) -> Result<()> {
    let select = "SELECT count(*) FROM events LEFT JOIN replays USING (replay_id) \
                  LEFT JOIN webstates ON html_hash = webstate_hash \
                  WHERE replays.replay_id IS NULL \
                  OR webstate_hash IS NOT NULL AND html_hash IS NULL";
    let dangling: i64 = sql.query_one(select, &[]).await?.get(0);
    assert_eq!(dangling, 0);
    Ok(())
}

/// Waits until the writer has found a parent gone that it remembered.
async fn wait_parent_gone(writer: &Service) -> Result<()> {
    let (name, cause) = ("tapedeck_writer_retries_total", [("cause", "parent_gone")]);
    writer.wait_for_metric(name, &cause, PATIENCE, |it| it >= 1.0).await.map(drop)
}

#[tokio::test]
async fn a_parent_that_is_being_deleted_is_waited_for_and_made_again() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let (sql, deleter) = (environment.sql().await?, environment.sql().await?);
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "0"); 3])]).await?;
    wait_stored(&sql, &session, 3).await?;

    deleter.batch_execute("BEGIN; DELETE FROM events; DELETE FROM replays").await?;
    // The writer remembers the replay, so it does not write it.
    feed(&environment, &[session.batch(3, &[("click", "1"); 5])]).await?;
    wait_blocked(&sql, "tapedeck-writer", PATIENCE).await?;
    deleter.batch_execute("COMMIT").await?;
    wait_stored(&sql, &session, 5).await?;
    check_parents(&sql).await?;
    wait_parent_gone(&writer).await
}

#[tokio::test]
async fn whoever_deletes_a_parent_of_a_batch_under_way_is_refused() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let (sql, deleter) = (environment.sql().await?, environment.sql().await?);
    let (session, hash) = (Session::new(), PageHash::of(b"a page"));
    let batch = |seq| session.batch_with_pages(seq, &[("full_snapshot", "1"); 2], &[hash]);
    feed(&environment, &[batch(0)]).await?;
    wait_stored(&sql, &session, 2).await?;
    // The parents stay, known to the writer and without events.
    sql.batch_execute("DELETE FROM events").await?;

    for (number, table) in [(1_u8, "replays"), (2, "webstates")] {
        writer.set_failpoint("writer::before-database-commit", "1*return(freeze)").await?;
        feed(&environment, &[batch(u64::from(number) * 10)]).await?;
        writer.wait_frozen(PATIENCE).await.context("the writer is about to commit")?;
        let delete = format!("SET application_name = 'deleter'; DELETE FROM {table}");
        let (deleted, thawed) = tokio::join!(deleter.batch_execute(&delete), async {
            wait_blocked(&sql, "deleter", PATIENCE).await?;
            writer.thaw()
        });
        thawed?;
        let refusal = deleted.err().context("the parent was deleted")?;
        assert_eq!(refusal.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION), "{table}");
        wait_stored(&sql, &session, 2 * usize::from(number)).await?;
    }
    check_parents(&sql).await
}

#[tokio::test]
async fn no_event_dangles_whatever_is_deleted_meanwhile() -> Result<()> {
    /// Records fed while others delete.
    const RECORDS: u64 = 300;
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = started(&environment).await?;
    let sessions: Vec<_> = (0..5).map(|_| Session::new()).collect();
    let pages = ["a", "b", "c"].map(|page| PageHash::of(page.as_bytes()));
    let done = AtomicBool::new(false);
    let deleting = async |number: usize| {
        let sql = environment.sql().await?;
        let replay = sessions[number % sessions.len()].replay_id;
        let page = pages[number % pages.len()];
        let (mut deleted, mut refused) = (0, 0);
        while !done.load(Ordering::Acquire) {
            let delete = format!(
                "BEGIN; DELETE FROM events WHERE replay_id = '{replay}' \
                 OR webstate_hash = '{page}'; \
                 DELETE FROM replays WHERE replay_id = '{replay}'; \
                 DELETE FROM webstates WHERE html_hash = '{page}'; COMMIT"
            );
            match sql.batch_execute(&delete).await {
                Ok(()) => deleted += 1,
                Err(_) => {
                    refused += 1;
                    sql.batch_execute("ROLLBACK").await?;
                }
            }
        }
        ensure!(deleted > 0, "nothing was deleted, {refused} times");
        anyhow::Ok(())
    };
    let feeding = async {
        for seq in 0..RECORDS {
            let records: Vec<_> = sessions
                .iter()
                .map(|it| it.batch_with_pages(seq * 4, &[("full_snapshot", "1"); 4], &pages))
                .collect();
            feed(&environment, &records).await?;
        }
        environment.wait_committed(PATIENCE).await?;
        done.store(true, Ordering::Release);
        anyhow::Ok(())
    };
    let (fed, first, second) = tokio::join!(feeding, deleting(0), deleting(1));
    fed?;
    first?;
    second?;
    let sql = environment.sql().await?;
    check_parents(&sql).await?;
    wait_parent_gone(&writer).await
}

#[tokio::test]
async fn postgres_checks_no_row_itself() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let _writer = started(&environment).await?;
    let sql = environment.sql().await?;
    // Put there after the writer has looked, to see whether triggers fire.
    sql.batch_execute(REFUSING_TRIGGER).await?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "1"); 3])]).await?;
    wait_stored(&sql, &session, 3).await
}

const REFUSING_TRIGGER: &str = "\
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN RAISE insufficient_privilege; END $$; \
    CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()";

#[tokio::test]
async fn it_is_refused_where_it_would_switch_off_more_than_the_two_foreign_keys() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    sql.batch_execute(REFUSING_TRIGGER).await?;
    sql.batch_execute(
        "CREATE TABLE types (name VARCHAR(64) PRIMARY KEY); \
         ALTER TABLE events ADD CONSTRAINT known FOREIGN KEY (event_type) REFERENCES types",
    )
    .await?;
    let writer = set_based(&environment).start().await?;
    waits_because(&writer, &["trigger refuse of events", "foreign key known of events"]).await
}

#[tokio::test]
async fn it_is_refused_without_the_right_to_it() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    let role = format!("role_{}", uuid::Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'secret' IN ROLE tapedeck_writer");
    sql.batch_execute(&create).await?;
    let (_, server) = environment.database_url().split_once('@').context("no role is named")?;
    let url = format!("postgres://{role}:secret@{server}");
    let writer = set_based(&environment).variable("TAPEDECK_DATABASE_URL", url).start().await?;
    let grant = format!("GRANT SET ON PARAMETER session_replication_role TO {role}");
    waits_because(&writer, &[&grant]).await?;

    sql.batch_execute(&grant).await?;
    writer.wait_ready().await?;
    let session = Session::new();
    feed(&environment, &[session.batch(0, &[("click", "1"); 3])]).await?;
    wait_stored(&sql, &session, 3).await
}

/// Waits until the writer is not ready and says all of this.
async fn waits_because(writer: &Service, reasons: &[&str]) -> Result<()> {
    eventually("the writer says why it waits", PATIENCE, async || match writer.readiness().await {
        Ok(Err(text)) if reasons.iter().all(|reason| text.contains(reason)) => Ok(()),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}
