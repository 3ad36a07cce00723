//! The stack itself: what survives a restart, what does not survive its owner, and what it says
//! when it cannot start.

use std::time::Duration;

use anyhow::Result;
use tests::stack::records::Record;
use tests::stack::{Stack, postgres};

#[tokio::test]
async fn a_broker_keeps_its_records_through_stop_kill_and_restart() -> Result<()> {
    let mut kafka = Stack::shared().await?.private_kafka().await?;
    let records = tests::stack::records::Records::new(&kafka.brokers());
    records.create_topic("kept", 2).await?;
    let record = |number: u8| Record {
        key: vec![number],
        value: Some(vec![number; 1000]),
        headers: vec![("schema".to_owned(), b"1".to_vec())],
        ..Record::default()
    };
    records.produce("kept", &[record(1), record(2)]).await?;
    kafka.stop().await?;
    kafka.restart().await?;
    records.produce("kept", &[record(3)]).await?;
    kafka.kill()?;
    kafka.restart().await?;
    let mut found: Vec<Record> = records
        .read_all("kept")
        .await?
        .into_iter()
        .map(|found| Record { partition: 0, offset: 0, ..found })
        .collect();
    found.sort_by_key(|found| found.key.clone());
    assert_eq!(found, [record(1), record(2), record(3)]);
    Ok(())
}

#[tokio::test]
async fn a_database_keeps_its_rows_through_stop_kill_and_restart() -> Result<()> {
    let mut server = Stack::shared().await?.private_postgres().await?;
    let url = server.create_database("kept").await?;
    let execute = async |statement: &str| {
        postgres::connect(&url).await?.batch_execute(statement).await.map_err(anyhow::Error::from)
    };
    execute("CREATE TABLE kept (number INT); INSERT INTO kept VALUES (1)").await?;
    server.stop().await?;
    assert!(postgres::connect(&url).await.is_err());
    server.restart().await?;
    execute("INSERT INTO kept VALUES (2)").await?;
    server.kill().await?;
    server.restart().await?;
    let rows = postgres::connect(&url).await?.query("SELECT number FROM kept", &[]).await?;
    assert_eq!(rows.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_frozen_database_answers_nobody_until_it_is_thawed() -> Result<()> {
    let server = Stack::shared().await?.private_postgres().await?;
    let url = server.create_database("frozen").await?;
    let client = postgres::connect(&url).await?;
    server.freeze()?;
    let question = client.query_one("SELECT 1", &[]);
    tokio::pin!(question);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut question).await;
    assert!(early.is_err(), "a frozen server answered");
    server.thaw()?;
    tokio::time::timeout(Duration::from_secs(10), question).await??;
    Ok(())
}
