//! Real recordings through gateway, Kafka and writers: every event is stored once, byte for byte,
//! in the order of the recording, and every page under its hash.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::time::Timestamp;
use indicatif::ProgressBar;
use tests::fleet::{self, FleetOptions, Report, Speed, Unruliness};
use tests::ledger::Ledger;
use tests::model::{Model, Tables, dump};
use tests::oracle::{self, Subject};
use tests::recordings::{self, Cast, CloneOptions, Session};
use tests::stack::{Environment, Service, Stack};
use tokio_util::sync::CancellationToken;

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
            gateway_urls: vec![self.gateway.url()],
            key: Some(self.environment.key().into()),
            concurrency: NonZeroUsize::new(8).context("0")?,
            speed: Speed::Max,
            patience: fleet::options::DEFAULT_PATIENCE,
            request_timeout: fleet::options::DEFAULT_REQUEST_TIMEOUT,
            unruliness: Unruliness::default(),
            seed,
        };
        let stop = CancellationToken::new();
        let ledger = ledger.map(Ledger::create).transpose()?.map(Arc::new);
        let report = fleet::run(cast, &options, ledger, ProgressBar::hidden(), stop).await?;
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
    let sessions = recordings::all()?.into_iter();
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

    let subject = Subject::of(&tapedeck.environment).await?;
    let verdict = oracle::examine(&ledger, &subject).await?;
    ensure!(verdict.is_clean(), "{verdict}");
    ensure!(verdict.counts.events.acknowledged == cast.events(), "{verdict}");
    ensure!(verdict.counts.event_rows == cast.events(), "{verdict}");
    Ok(())
}
