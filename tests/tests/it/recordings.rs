//! Real recordings through gateway, Kafka and writers: every event is stored once, byte for byte,
//! in the order of the recording, and every page under its hash.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::page_hash::PageHash;
use common::time::Timestamp;
use indicatif::ProgressBar;
use serde::Deserialize;
use tests::fleet::{self, FleetOptions, Report, Speed};
use tests::model::{Model, Tables, dump};
use tests::recordings::{self, Cast, CloneOptions, Session};
use tests::stack::{Environment, Service, Stack};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long the writers may take for what has been acknowledged.
const STORED_WITHIN: Duration = Duration::from_secs(120);

/// How many differences a failure shows.
const DIFFERENCES_SHOWN: usize = 10;

/// A gateway, two writers, and the environment they run in.
struct Tapedeck {
    gateway: Service,
    _writers: [Service; 2],
    environment: Environment,
}

impl Tapedeck {
    async fn start() -> Result<Self> {
        let environment = Environment::new(Stack::shared().await?).await?;
        let (gateway, first, second) = tokio::try_join!(
            environment.gateway().start(),
            environment.writer().start(),
            environment.writer().start(),
        )?;
        tokio::try_join!(gateway.wait_ready(), first.wait_ready(), second.wait_ready())?;
        Ok(Self { gateway, _writers: [first, second], environment })
    }

    async fn play(&self, cast: &Cast, seed: u64, ledger: Option<&Path>) -> Result<Report> {
        let options = FleetOptions {
            gateway_url: self.gateway.url(),
            key: Some(self.environment.key().into()),
            concurrency: NonZeroUsize::new(8).context("0")?,
            speed: Speed::Max,
            patience: fleet::options::DEFAULT_PATIENCE,
            ledger: ledger.map(Path::to_owned),
            seed,
        };
        let stop = CancellationToken::new();
        let report = fleet::run(cast, &options, ProgressBar::hidden(), stop).await?;
        ensure!(report.is_complete(), "not everything was acknowledged:\n{report}");
        Ok(report)
    }

    async fn must_hold(&self, expected: &Tables) -> Result<()> {
        let actual = dump::all(&self.environment.sql().await?).await?;
        let differences = expected.differences(&actual, DIFFERENCES_SHOWN);
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    }
}

/// All recordings at hand, as though each had just ended: gateways refuse what lies far ahead of
/// their clock, and nobody knows what it shows where this runs.
fn sessions() -> Result<Vec<Session>> {
    let now = Timestamp::now();
    let sessions = recordings::own()?.into_iter().chain(recordings::shared()?);
    let ending_now = |session: Session| {
        let millis = now.millis() - session.end().millis();
        session.shifted(millis * 1_000)
    };
    Ok(sessions.map(ending_now).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_and_page_is_stored_once_as_it_was_recorded() -> Result<()> {
    let tapedeck = Tapedeck::start().await?;
    let sessions = sessions()?;
    let envelopes: Vec<_> = sessions.iter().map(Session::envelope).collect();
    let expected = Model::of(&envelopes).tables();
    let cast = Cast::as_recorded(sessions.clone());

    tapedeck.play(&cast, 1, None).await?;
    tapedeck.environment.wait_committed(STORED_WITHIN).await?;
    tapedeck.must_hold(&expected).await?;
    every_replay_is_in_order(&tapedeck, &sessions).await?;

    // Once more, cut otherwise and with other pages late: nothing changes.
    tapedeck.play(&cast, 2, None).await?;
    tapedeck.environment.wait_committed(STORED_WITHIN).await?;
    tapedeck.must_hold(&expected).await
}

async fn every_replay_is_in_order(tapedeck: &Tapedeck, sessions: &[Session]) -> Result<()> {
    let database = tapedeck.environment.sql().await?;
    for session in sessions {
        let rows = database
            .query(
                "SELECT event_data::text FROM events WHERE replay_id = $1
                 ORDER BY timestamp, event_id",
                &[&session.replay.replay_id],
            )
            .await?;
        let stored = rows.iter().map(|row| row.get::<_, &str>(0));
        let recorded = session.events().map(|event| event.event_data.get());
        let place = stored.zip(recorded).position(|(stored, recorded)| stored != recorded);
        let name = &session.name;
        ensure!(place.is_none(), "{name}: event {place:?} is not the one recorded there");
        ensure!(rows.len() == session.events().count(), "{name}: {} events", rows.len());
    }
    Ok(())
}

/// A line of the fleet's ledger.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum LedgerLine {
    Sent { batch: u64, events: Vec<LedgerEvent>, pages: Vec<LedgerPage> },
    Settled { batch: u64, outcome: String },
}

#[derive(Deserialize)]
struct LedgerEvent {
    event_id: Uuid,
    sha256: String,
}

#[derive(Deserialize)]
struct LedgerPage {
    html_hash: PageHash,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_hold_what_the_ledger_calls_acknowledged_and_nothing_else() -> Result<()> {
    let tapedeck = Tapedeck::start().await?;
    let options =
        CloneOptions { seed: 11, ending_at: Timestamp::now(), duplicate_page_states: 0.5 };
    let cast = Cast::copies(recordings::own()?, 40, options);
    let ledger = tapedeck.environment.folder().join("ledger.jsonl");
    let report = tapedeck.play(&cast, 11, Some(&ledger)).await?;
    ensure!(report.acknowledged.events == cast.events(), "{report}");
    tapedeck.environment.wait_committed(STORED_WITHIN).await?;

    let (events, pages) = acknowledged(&ledger)?;
    let database = tapedeck.environment.sql().await?;
    let stored: BTreeMap<Uuid, String> = database
        .query(
            "SELECT event_id, encode(sha256(convert_to(event_data::text, 'UTF8')), 'hex')
             FROM events",
            &[],
        )
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    ensure!(stored.len() as u64 == cast.events(), "{} events are stored", stored.len());
    ensure!(stored == events, "the events stored are not those acknowledged");
    let query = "SELECT html_hash FROM webstates WHERE html_content IS NOT NULL ORDER BY 1";
    let stored = database.query(query, &[]).await?;
    let stored: Vec<String> = stored.iter().map(|row| row.get(0)).collect();
    ensure!(stored == pages, "the pages stored are not those acknowledged");
    Ok(())
}

/// Events with the hash of their data, and pages in order, of all acknowledged batches.
fn acknowledged(ledger: &Path) -> Result<(BTreeMap<Uuid, String>, Vec<String>)> {
    let mut sent = BTreeMap::new();
    let (mut events, mut pages) = (BTreeMap::new(), Vec::new());
    for line in std::fs::read_to_string(ledger)?.lines() {
        match serde_json::from_str(line).with_context(|| line.to_owned())? {
            LedgerLine::Sent { batch, events, pages } => {
                sent.insert(batch, (events, pages));
            }
            LedgerLine::Settled { batch, outcome } if outcome == "acknowledged" => {
                let (its_events, its_pages) = sent.remove(&batch).context("settled before sent")?;
                events.extend(its_events.into_iter().map(|event| (event.event_id, event.sha256)));
                pages.extend(its_pages.into_iter().map(|page| page.html_hash.to_hex()));
            }
            LedgerLine::Settled { .. } => {}
        }
    }
    pages.sort();
    pages.dedup();
    Ok((events, pages))
}
