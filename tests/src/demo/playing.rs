//! One playing of all recordings, from the first request until everything is in Postgres.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::comparison::{Comparison, compare};
use super::freshness::Freshness;
use super::screen::{done, step};
use super::target::writer_metrics;
use crate::fleet::{self, FleetOptions, Report, Speed, Unruliness};
use crate::model::{Model, Tables, dump};
use crate::recordings::{Cast, Session};
use crate::stack::{Addresses, Metrics, eventually};

/// How long the writer may take for what the gateway has acknowledged.
const STORED_WITHIN: Duration = Duration::from_secs(60);

/// What the demo's recorders choose by.
const SEED: u64 = 1;

/// What one playing came to.
pub(super) struct Playing {
    pub(super) report: Report,
    pub(super) comparison: Comparison,
    pub(super) freshness: Freshness,
    pub(super) pages: Pages,
}

/// Page states, as seen by recorders and as stored.
pub(super) struct Pages {
    pub(super) seen: u64,
    pub(super) seen_bytes: u64,
    pub(super) stored: u64,
    /// Of the stored pages' content as it was.
    pub(super) stored_plain_bytes: u64,
    /// Of the same, compressed, in the table.
    pub(super) stored_bytes: u64,
}

impl Playing {
    /// Plays the sessions and waits until they are stored.
    ///
    /// # Errors
    /// When Tapedeck or its database cannot be reached, or the writer takes too long.
    pub(super) async fn run(
        addresses: &Addresses,
        database: &Client,
        sessions: &[Session],
        speed: Speed,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let envelopes: Vec<_> = sessions.iter().map(Session::envelope).collect();
        let expected = Model::of(&envelopes).tables();
        let before = dump::like(database, &expected).await?;
        let writer_before = writer_metrics(addresses).await?;

        let report = play(addresses, sessions, speed, stop).await?;
        let handled = handled_events(&writer_before)? + report.acknowledged.events;
        let writer_after = step("The writer has handled them", async {
            eventually("the writer handles what was acknowledged", STORED_WITHIN, async || {
                let metrics = writer_metrics(addresses).await?;
                let now = handled_events(&metrics)?;
                ensure!(now >= handled, "{now} of {handled} events");
                anyhow::Ok(metrics)
            })
            .await
        })
        .await?;
        let after = stored(database, &expected).await?;
        Ok(Self {
            report,
            comparison: compare(sessions, &expected, &before, &after),
            freshness: Freshness::of(&writer_after).since(&Freshness::of(&writer_before)),
            pages: Pages::of(sessions, &after, database).await?,
        })
    }

    /// Whether everything was acknowledged and is stored as it was sent.
    pub(super) fn agrees(&self) -> bool {
        self.report.is_complete() && self.comparison.agrees()
    }

    /// Rows that this playing has added.
    pub(super) fn new_rows(&self) -> u64 {
        let counted = self.comparison.lines.iter().filter(|line| !line.what.starts_with(' '));
        counted.filter_map(|line| line.new).sum()
    }
}

async fn play(
    addresses: &Addresses,
    sessions: &[Session],
    speed: Speed,
    stop: &CancellationToken,
) -> anyhow::Result<Report> {
    let cast = Cast::as_recorded(sessions.to_vec());
    let options = FleetOptions {
        gateway_urls: vec![addresses.gateway_url.clone()],
        key: Some(addresses.key.as_str().into()),
        concurrency: NonZeroUsize::new(sessions.len()).unwrap_or(NonZeroUsize::MIN),
        speed,
        patience: fleet::options::DEFAULT_PATIENCE,
        request_timeout: fleet::options::DEFAULT_REQUEST_TIMEOUT,
        unruliness: Unruliness::default(),
        seed: SEED,
    };
    let begun = Instant::now();
    let progress = fleet::progress_bar(cast.events());
    let report = fleet::run(&cast, &options, None, progress.clone(), stop.clone()).await?;
    progress.finish_and_clear();
    let how = match speed {
        Speed::Times(factor) => format!("at {factor} times real speed"),
        Speed::Max => "as fast as it goes".to_owned(),
    };
    done(&format!("{} recorders have played {how}", sessions.len()), begun.elapsed());
    Ok(report)
}

/// Waits until the tables hold what they must; then, or after a while, reads them. Page states
/// have a topic of their own, so they may come after the events that name them.
async fn stored(database: &Client, expected: &Tables) -> anyhow::Result<Tables> {
    let arrived = eventually("the tables hold what was sent", STORED_WITHIN, async || {
        let tables = dump::like(database, expected).await?;
        match expected.differences(&tables, 1).pop() {
            None => Ok(tables),
            Some(difference) => Err(anyhow::Error::msg(difference)),
        }
    });
    match step("Everything is in Postgres", arrived).await {
        Ok(tables) => Ok(tables),
        // The comparison shows what is missing.
        Err(_) => dump::like(database, expected).await,
    }
}

/// Events that the writer has done with, one way or the other.
fn handled_events(metrics: &Metrics) -> anyhow::Result<u64> {
    let value = |name: &str| {
        metrics.sum(name, &[]).with_context(|| format!("the writer has no metric {name}"))
    };
    let consumed = value("tapedeck_writer_events_consumed_total")?;
    let in_flight = value("tapedeck_writer_events_in_flight")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, which Prometheus writes as a float"
    )]
    Ok((consumed - in_flight).max(0.0) as u64)
}

impl Pages {
    async fn of(sessions: &[Session], after: &Tables, database: &Client) -> anyhow::Result<Self> {
        let seen = || sessions.iter().flat_map(Session::pages);
        let sizes: std::collections::BTreeMap<_, _> =
            seen().map(|page| (page.html_hash, page.content_bytes() as u64)).collect();
        let hashes: Vec<String> = after.webstates.keys().map(|hash| hash.to_hex()).collect();
        let compressed: i64 = database
            .query_one(
                "SELECT coalesce(sum(length(html_content)), 0)::bigint FROM webstates
                 WHERE html_hash = ANY ($1)",
                &[&hashes],
            )
            .await?
            .try_get(0)?;
        Ok(Self {
            seen: seen().count() as u64,
            seen_bytes: seen().map(|page| page.content_bytes() as u64).sum(),
            stored: after.webstates.len() as u64,
            stored_plain_bytes: after.webstates.keys().filter_map(|hash| sizes.get(hash)).sum(),
            stored_bytes: u64::try_from(compressed)?,
        })
    }

    /// Bytes that need not be stored because a page is stored once.
    pub(super) fn saved_bytes(&self) -> u64 {
        self.seen_bytes.saturating_sub(self.stored_plain_bytes)
    }
}
