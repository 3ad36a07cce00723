//! What people ask the tables: each query of `docs/queries.md` runs, finds something, and is
//! answered the way the page says.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::stack::{Environment, Role, Stack, postgres};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{queries_data, schema_document};

/// The page of queries.
const QUERIES_PAGE: &str = "docs/queries.md";

/// A client of the filled database, as whom people ask. All tests here share it: they only read.
async fn filled() -> Result<Client> {
    static FILLED: OnceCell<Environment> = OnceCell::const_new();
    let environment = FILLED
        .get_or_try_init(|| async {
            let environment = Environment::new(Stack::shared().await?).await?;
            queries_data::fill(&environment.sql().await?).await?;
            anyhow::Ok(environment)
        })
        .await?;
    postgres::connect(&environment.database_url_for(Role::Reader)?).await
}

/// The last query before a place of the page.
fn last_query(before: &str) -> Result<&str> {
    let (_, query) = before.rsplit_once("```sql\n").context("no query stands before the plan")?;
    Ok(query.split_once("```").context("a query has no end")?.0)
}

/// The first query under a heading of the page.
fn query_under<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, section) = page
        .split_once(&format!("\n## {heading}\n"))
        .with_context(|| format!("{QUERIES_PAGE} has no section {heading:?}"))?;
    let (_, query) = section.split_once("```sql\n").context("the section has no query")?;
    Ok(query.split_once("```").context("a query has no end")?.0)
}

/// What a plan as text reads: the tables and indexes that stand after "on" and "using".
fn accesses(plan: &str) -> BTreeSet<&str> {
    let words: Vec<&str> = plan.split_whitespace().collect();
    words.windows(2).filter(|pair| matches!(pair[0], "on" | "using")).map(|pair| pair[1]).collect()
}

#[tokio::test]
async fn the_page_shows_how_its_queries_are_answered() -> Result<()> {
    let client = filled().await?;
    let make = async |before: &str, subject: &str| {
        ensure!(subject == "plan", "{QUERIES_PAGE} asks for {subject:?}, which is not a plan");
        let query = last_query(before)?;
        let rows = client.query(query, &[]).await.with_context(|| query.to_owned())?;
        ensure!(!rows.is_empty(), "finds nothing: {query}");
        let plan = client.query(&format!("EXPLAIN (COSTS OFF) {query}"), &[]).await?;
        let lines: Vec<&str> = plan.iter().map(|row| row.get(0)).collect();
        Ok(format!("```text\n{}\n```\n", lines.join("\n")))
    };
    // Versions of Postgres differ in how they join and sort; what they read is what counts.
    let same = |written: &str, made: &str| accesses(written) == accesses(made);
    schema_document::check(QUERIES_PAGE, make, same).await
}

/// How a plan reads the tables: every scan's node type, table and index.
#[derive(Debug)]
struct Scan {
    kind: String,
    table: Option<String>,
    index: Option<String>,
}

async fn scans(client: &Client, query: &str) -> Result<Vec<Scan>> {
    fn collect(node: &Value, scans: &mut Vec<Scan>) {
        let text = |field: &str| node[field].as_str().map(str::to_owned);
        let kind = text("Node Type").unwrap_or_default();
        if kind.contains("Scan") {
            scans.push(Scan { kind, table: text("Relation Name"), index: text("Index Name") });
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            collect(child, scans);
        }
    }
    // By the simple protocol, which gives JSON as text.
    let answer = client.simple_query(&format!("EXPLAIN (FORMAT JSON) {query}")).await?;
    let plan = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = serde_json::from_str(plan.context("no plan")?)?;
    let mut found = Vec::new();
    collect(&plan[0]["Plan"], &mut found);
    Ok(found)
}

/// The query under the heading reads its tables through these indexes and not otherwise.
async fn check_indexes(client: &Client, heading: &str, expected: &[&str]) -> Result<()> {
    let page = schema_document::read(QUERIES_PAGE)?;
    let scans = scans(client, query_under(&page, heading)?).await?;
    let indexes: BTreeSet<&str> = scans.iter().filter_map(|scan| scan.index.as_deref()).collect();
    assert_eq!(indexes, expected.iter().copied().collect(), "{heading}: {scans:?}");
    for scan in &scans {
        // Empty, as it is as a rule: reading nothing needs no index.
        let default = scan.table.as_deref() == Some("events_default");
        assert!(scan.kind != "Seq Scan" || default, "{heading}: {scan:?}");
    }
    Ok(())
}

#[tokio::test]
async fn common_queries_use_their_indexes() -> Result<()> {
    let client = filled().await?;
    check_indexes(
        &client,
        "A replay in order, with its pages",
        &[
            "events_2026_08_replay_id_timestamp_idx",
            "events_2026_09_replay_id_timestamp_idx",
            "events_2026_10_replay_id_timestamp_idx",
            "webstates_pkey",
        ],
    )
    .await?;
    check_indexes(&client, "Recent replays", &["replays_start_time_idx", "users_pkey"]).await?;
    check_indexes(&client, "A user's replays", &["replays_user_id_idx"]).await?;
    check_indexes(&client, "A user by email", &["users_email_key"]).await
}

#[tokio::test]
async fn a_replay_comes_in_the_order_in_which_it_happened() -> Result<()> {
    let client = filled().await?;
    let page = schema_document::read(QUERIES_PAGE)?;
    let query = query_under(&page, "A replay in order, with its pages")?;
    let steps = format!(
        "SELECT (event_data ->> 'step')::integer FROM ({}) AS replay",
        query.trim().trim_end_matches(';')
    );
    let rows = client.query(&steps, &[]).await?;
    let steps: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(steps, (0..30).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn an_event_is_looked_up_in_its_months_partition_alone() -> Result<()> {
    let client = filled().await?;
    let check = async |query: &str, expected: &[&str]| -> Result<()> {
        let scans = scans(&client, query).await?;
        let tables: Vec<&str> = scans.iter().filter_map(|scan| scan.table.as_deref()).collect();
        assert_eq!(tables, expected, "{query}: {scans:?}");
        Ok(())
    };
    let id = "SELECT * FROM events WHERE event_id = (least_event_id('2026-09-30T23:59:59.999Z'))";
    check(id, &["events_2026_09"]).await?;
    let range = |from: &str, to: &str| {
        format!(
            "SELECT * FROM events WHERE event_id >= least_event_id('{from}') \
             AND event_id < least_event_id('{to}')"
        )
    };
    check(&range("2026-09-01T00:00Z", "2026-10-01T00:00Z"), &["events_2026_09"]).await?;
    check(
        &range("2026-08-31T23:59:59.999Z", "2026-09-01T00:00:00.001Z"),
        &["events_2026_08", "events_2026_09"],
    )
    .await?;
    check(&range("2026-11-01T00:00Z", "2026-12-01T00:00Z"), &["events_default"]).await
}
