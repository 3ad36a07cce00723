//! A quarter of recordings, written straight into the tables, so that plans are those of a
//! database in use.

use anyhow::Result;
use tokio_postgres::Client;

/// 1,000 users, 4,000 replays and 120,000 events, evenly over August to October 2026, and 20,000
/// pages, of which every fiftieth is a stub. The ids are hashes of numbers, so `docs/queries.md`
/// can name them.
const QUARTER: &str = "
    SELECT ensure_events_partition(month)
    FROM unnest(ARRAY['2026-08-01', '2026-09-01', '2026-10-01']::date[]) AS month;

    INSERT INTO users (user_id, email, name, created_at, email_claim)
    SELECT md5('user ' || number)::uuid, format('visitor%s@example.com', number),
        'Visitor ' || number, TIMESTAMPTZ '2026-08-01T00:00Z' + number * INTERVAL '2 hours',
        format('visitor%s@example.com', number)
    FROM generate_series(1, 1000) AS number;

    INSERT INTO replays (replay_id, user_id, start_time, end_time, initial_url, user_as_of)
    SELECT md5('replay ' || number)::uuid, md5('user ' || number % 1000 + 1)::uuid,
        start_time, start_time + INTERVAL '5 minutes', 'https://example.com/', start_time
    FROM generate_series(1, 4000) AS number, LATERAL (
        SELECT TIMESTAMPTZ '2026-08-01T00:00Z' + number * INTERVAL '33 minutes' AS start_time
    ) AS start;

    INSERT INTO webstates (html_hash, html_content, captured_at)
    SELECT encode(sha256(convert_to('page ' || number, 'UTF8')), 'hex'),
        CASE WHEN number % 50 > 0 THEN decode(repeat('00', 200), 'hex') END,
        TIMESTAMPTZ '2026-08-01T00:00Z'
    FROM generate_series(0, 19999) AS number;

    INSERT INTO events (event_id, replay_id, timestamp, event_type, event_data, webstate_hash)
    SELECT (left(least_event_id(timestamp)::text, 14) || '7000-8000-'
            || lpad(to_hex(number), 12, '0'))::uuid,
        replay_id, timestamp,
        (ARRAY['click', 'scroll', 'keypress', 'dom_mutation'])[number % 4 + 1],
        json_build_object('step', step),
        CASE WHEN step % 10 = 0
            THEN encode(sha256(convert_to('page ' || number % 20000, 'UTF8')), 'hex') END
    FROM (
        SELECT replay_id, step, start_time + step * INTERVAL '10 seconds' AS timestamp,
            (row_number() OVER (ORDER BY start_time, step))::integer AS number
        FROM replays, generate_series(0, 29) AS step
    ) AS recorded;

    ANALYZE;
";

/// Fills a migrated database.
pub(crate) async fn fill(client: &Client) -> Result<()> {
    Ok(client.batch_execute(QUARTER).await?)
}
