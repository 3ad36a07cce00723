//! Erasing a person, by the statements of `docs/security.md`.

use anyhow::{Context, Result, ensure};
use tests::stack::{Environment, Role, Stack, postgres};
use tokio_postgres::Client;

use crate::schema_document;

const SECURITY_PAGE: &str = "docs/security.md";

/// What stands before the statements.
const MARK: &str = "<!-- tried by the test `erasure` -->\n\n```sql\n";

/// The person of the page's statements, another who claims the same address and has seen one of
/// the same pages, and a third with nothing in common.
const PEOPLE: &str = "
    SELECT ensure_events_partition('2026-10-01');

    INSERT INTO users (user_id, email, name, created_at, email_claim) VALUES
    ('6f0e2c9a-0000-4000-8000-00000000000a', 'ada@shop.example', 'Ada', '2026-10-01', 'ada@shop.example'),
    ('6f0e2c9a-0000-4000-8000-00000000000b', NULL, 'Ben', '2026-10-02', 'ada@shop.example'),
    ('6f0e2c9a-0000-4000-8000-00000000000c', NULL, 'Cem', '2026-10-03', 'ada@shop.example'),
    ('6f0e2c9a-0000-4000-8000-00000000000d', 'dee@shop.example', 'Dee', '2026-10-04', 'dee@shop.example');

    INSERT INTO replays (replay_id, user_id, start_time, initial_url, user_as_of)
    SELECT md5('replay ' || name)::uuid, user_id, created_at, '/', created_at FROM users;

    INSERT INTO webstates (html_hash, html_content, captured_at)
    SELECT repeat(digit, 64), '\\x00', '2026-10-01' FROM unnest(ARRAY['a', 'b', 'd']) AS digit;

    INSERT INTO events (event_id, replay_id, timestamp, event_type, event_data, webstate_hash)
    SELECT (left(least_event_id('2026-10-05')::text, 14) || '7000-8000-'
            || lpad(to_hex(row_number() OVER ()), 12, '0'))::uuid,
        md5('replay ' || name)::uuid, '2026-10-05', 'click', '{}', repeat(digit, 64)
    FROM (VALUES ('Ada', 'a'), ('Ada', 'b'), ('Ada', NULL), ('Ben', 'b'), ('Dee', 'd'))
        AS seen (name, digit);
";

/// The first column of all rows, joined by blanks.
async fn words(client: &Client, query: &str) -> Result<String> {
    let rows = client.query(query, &[]).await.with_context(|| query.to_owned())?;
    let words: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(words.join(" "))
}

#[tokio::test]
async fn erasing_a_person_leaves_the_others_what_is_theirs() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let client = environment.sql().await?;
    client.batch_execute(PEOPLE).await?;
    let owner = postgres::connect(&environment.database_url_for(Role::Migrate)?).await?;
    let page = schema_document::read(SECURITY_PAGE)?;
    let (_, statements) = page.split_once(MARK).context("the page has no statements")?;
    let (statements, _) = statements.split_once("```").context("the statements have no end")?;
    let state = async || {
        anyhow::Ok([
            words(&client, "SELECT name::text FROM users ORDER BY name").await?,
            words(
                &client,
                "SELECT email || '=' || name FROM users WHERE email IS NOT NULL ORDER BY 1",
            )
            .await?,
            words(&client, "SELECT name::text FROM replays JOIN users USING (user_id) ORDER BY 1")
                .await?,
            words(&client, "SELECT left(html_hash, 1) FROM webstates ORDER BY 1").await?,
            words(&client, "SELECT coalesce(left(webstate_hash, 1), '-') FROM events ORDER BY 1")
                .await?,
        ])
    };
    let check = async |expected: [&str; 5]| {
        let found = state().await?;
        ensure!(found == expected, "{found:?} is not {expected:?}");
        anyhow::Ok(())
    };
    check([
        "Ada Ben Cem Dee",
        "ada@shop.example=Ada dee@shop.example=Dee",
        "Ada Ben Cem Dee",
        "a b d",
        "- a b b d",
    ])
    .await?;
    owner.batch_execute(statements).await?;
    let without_ada =
        ["Ben Cem Dee", "ada@shop.example=Ben dee@shop.example=Dee", "Ben Cem Dee", "b d", "b d"];
    check(without_ada).await?;
    // Once more, as after the records' retention.
    owner.batch_execute(statements).await?;
    check(without_ada).await
}
