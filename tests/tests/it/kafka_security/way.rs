//! A record's whole way with encrypted connections, and permissions for nothing else.

use anyhow::{Context, Result, ensure};
use common::page_hash::PageHash;
use serde_json::Value;
use tests::stack::secure_kafka::{Listener, User};
use tests::stack::{CommandOutput, Environment, Program, SecureKafka, Stack, eventually};

use super::{PATIENCE, permitted, with_a_page};
use crate::gateway::support::Gateway;
use crate::writer::support::{events_record, feed, reaches};

/// Waits until an envelope's event and page are in Postgres.
async fn wait_stored(environment: &Environment, envelope: &Value) -> Result<()> {
    const STORED: &str = "SELECT EXISTS (SELECT FROM events WHERE replay_id::text = $1) AND EXISTS \
                          (SELECT FROM webstates WHERE html_hash = $2 AND html_content IS NOT NULL)";
    let sql = environment.sql().await?;
    let replay_id = envelope["replay"]["replay_id"].as_str().context("no replay")?;
    let page = envelope["webstates"][0]["html_content"].as_str().context("no page")?;
    let hash = PageHash::of(page.as_bytes()).to_hex();
    eventually("the event and the page are stored", PATIENCE, async || {
        match sql.query_one(STORED, &[&replay_id, &hash]).await {
            Ok(row) if row.get(0) => Ok(()),
            Ok(_) => Err("not yet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Runs a command of the writer as a user.
async fn command(
    kafka: &SecureKafka,
    environment: &Environment,
    (user, listener): (User, Listener),
    arguments: &[&str],
) -> Result<CommandOutput> {
    let settings = kafka.settings(environment.folder(), user, listener)?;
    let command = environment.command(Program::Writer).arguments(arguments.iter().copied());
    command.variables(settings).run().await
}

/// Sends an event and a page the whole way, and a record that cannot be read to the dead letters,
/// each service as a user of its own.
async fn goes_the_whole_way(
    kafka: &SecureKafka,
    environment: Environment,
    listener: Listener,
) -> Result<Environment> {
    let settings = |user| kafka.settings(environment.folder(), user, listener);
    let writer = environment.writer().variables(settings(User::Writer)?).start().await?;
    let settings = settings(User::Gateway)?;
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let gateway = Gateway::start_in(environment, &settings).await?;
    tokio::try_join!(gateway.service.wait_ready(), writer.wait_ready())?;
    let batch = with_a_page();
    let answer = gateway.send(&batch).await?;
    ensure!(answer.status == 200, "{answer:?}");
    wait_stored(&gateway.environment, &batch).await?;
    feed(&gateway.environment, &[events_record("key", "not JSON")]).await?;
    let letters = "tapedeck_writer_records_dead_lettered_total";
    reaches(&writer, letters, |count| count == 1.0).await?;

    let as_redrive = (User::Redrive, listener);
    let list = ["dead-letters", "list"];
    let listed = command(kafka, &gateway.environment, as_redrive, &list).await?.success()?;
    ensure!(listed.contains("not_json"), "{listed}");
    let redriven = command(kafka, &gateway.environment, as_redrive, &["redrive"]).await?;
    ensure!(redriven.success()?.contains("sent through again"));
    reaches(&writer, letters, |count| count > 1.0).await?;
    gateway.environment.wait_committed(PATIENCE).await?;
    ensure!(writer.terminate().await?.success(), "{}", writer.log());
    ensure!(gateway.service.terminate().await?.success(), "{}", gateway.service.log());
    Ok(gateway.environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_does_its_work_over_tls_with_no_more_permissions_than_it_needs() -> Result<()>
{
    let kafka = Stack::shared().await?.secure_kafka().await?;
    let environment = permitted(&kafka).await?;
    let environment = goes_the_whole_way(&kafka, environment, Listener::SaslSsl).await?;
    let environment = goes_the_whole_way(&kafka, environment, Listener::MutualTls).await?;

    let refused = async |user, arguments: &[&str], lacking: String| {
        let output = command(&kafka, &environment, (user, Listener::SaslSsl), arguments).await?;
        ensure!(!output.status.success(), "{user:?} may {arguments:?}");
        let lacking = format!("allow this user Read on {lacking}");
        ensure!(output.stderr.contains(&lacking), "not {lacking:?}: {}", output.stderr);
        Ok(())
    };
    let letters = format!("topic {}", environment.topic("replay-dead-letters"));
    refused(User::Gateway, &["dead-letters", "list"], letters).await?;
    let group = format!("group {}tapedeck-redrive-", environment.topic_prefix());
    refused(User::Writer, &["redrive"], group).await
}
