//! The commands for people, and migrations that meet.

use anyhow::Result;
use common::page_hash::PageHash;
use serde_json::Value;
use tests::stack::{Environment, Program, Stack};

use super::support::{PATIENCE, Session, events_record, feed, page_record, reaches, wait_stored};

#[tokio::test]
async fn a_page_and_a_replay_are_printed_as_they_were() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    let (session, html) = (Session::new(), "<!DOCTYPE html>\n<p>näive</p>\n");
    let hash = PageHash::of(html.as_bytes());
    let pages = environment.topic("replay-webstates");
    environment.records().produce(&pages, &[page_record(html)]).await?;
    let events = [("full_snapshot", r#"{ "node": 1.0 }"#), ("click", "null")];
    feed(&environment, &[session.batch_with_pages(7, &events, &[hash])]).await?;
    wait_stored(&environment.sql().await?, &session, 2).await?;
    reaches(&writer, "tapedeck_writer_pages_written_total", |it| it == 1.0).await?;

    let command =
        |arguments: [String; 2]| environment.command(Program::Writer).arguments(arguments).run();
    let printed = command(["page".into(), hash.to_hex().to_uppercase()]).await?.success()?;
    assert_eq!(printed, html);
    let printed = command(["replay".into(), session.replay_id.to_string()]).await?.success()?;
    let lines: Vec<Value> = printed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 2);
    assert!(printed.lines().next().unwrap().contains(r#""event_data":{ "node": 1.0 }"#));
    assert_eq!(lines[0]["timestamp"], "2026-10-15T12:00:00.007000Z");
    assert_eq!(lines[0]["webstate_hash"], hash.to_hex());
    assert_eq!(lines[1]["event_type"], "click");

    assert!(command(["page".into(), "0".repeat(64)]).await?.success().is_err());
    assert!(command(["replay".into(), uuid::Uuid::nil().to_string()]).await?.success().is_err());
    Ok(())
}

#[tokio::test]
async fn dead_letters_are_listed_by_class_without_their_content() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().start().await?;
    writer.wait_ready().await?;
    let (id, secret) = (uuid::Uuid::new_v4().to_string(), "a-visitor's-secret");
    let records = [
        events_record(&id, format!("{{\"{secret}\"")),
        events_record(secret, format!("{{\"{secret}\":1}}")),
    ];
    feed(&environment, &records).await?;
    environment.wait_committed(PATIENCE).await?;
    let list = |class: &'static str| async {
        let arguments = ["dead-letters", "list", "--format", "json", "--class", class];
        environment.command(Program::Writer).arguments(arguments).run().await?.success()
    };
    let listed = list("not_json").await?;
    let entry: Value = serde_json::from_str(listed.trim())?;
    assert_eq!(entry["key"], id);
    assert_eq!(entry["class"], "not_json");
    assert_eq!(entry["original_offset"], 0);
    assert!(!listed.contains(secret));
    assert_eq!(list("check_violation").await?, "");
    let table = environment.command(Program::Writer).arguments(["dead-letters", "list"]);
    let table = table.run().await?.success()?;
    assert!(table.contains("wrong_shape") && !table.contains(secret), "{table}");
    assert!(!writer.log().contains(secret));
    Ok(())
}

#[tokio::test]
async fn migrations_that_meet_take_turns() -> Result<()> {
    let stack = Stack::shared().await?;
    let environment = Environment::new(stack).await?;
    let name = format!("migrated-{}", uuid::Uuid::new_v4().simple());
    let url = stack.postgres().create_database(&name).await?;
    let migrate = || {
        environment
            .command(Program::Writer)
            .arguments(["migrate"])
            .variable("TAPEDECK_DATABASE_URL", &url)
            .run()
    };
    let (first, second, third) = tokio::join!(migrate(), migrate(), migrate());
    for output in [first, second, third] {
        output?.success()?;
    }
    Ok(())
}
