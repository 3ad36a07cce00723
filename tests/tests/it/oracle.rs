//! The oracle finds nothing where nothing is wrong, and every defect that was put in on purpose.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::time::Timestamp;
use indicatif::ProgressBar;
use tests::fleet::{self, FleetOptions, Report, Speed, Unruliness};
use tests::ledger::{Ledger, REFUSE_UNWRITABLE};
use tests::model::records;
use tests::oracle::accounts::{Audit, GatewayAccounts};
use tests::oracle::{self, Clause, Subject, Verdict};
use tests::recordings::{self, Cast, CloneOptions};
use tests::stack::records::Record;
use tests::stack::{Environment, Service, Stack, eventually};
use tokio_util::sync::CancellationToken;

/// How long anything may take that is waited for: far beyond what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a record may hold by default.
const RECORD_LIMIT_BYTES: usize = 10 << 20;

/// An environment whose database refuses unwritable events, and a ledger.
struct Trial {
    environment: Environment,
    ledger: Arc<Ledger>,
    ledger_path: PathBuf,
}

impl Trial {
    async fn begin() -> Result<Self> {
        let environment = Environment::new(Stack::shared().await?).await?;
        environment.sql().await?.batch_execute(REFUSE_UNWRITABLE).await?;
        let ledger_path = environment.folder().join("ledger.jsonl");
        let ledger = Arc::new(Ledger::create(&ledger_path)?);
        Ok(Self { environment, ledger, ledger_path })
    }

    /// A writer with one lane, and so with one batch in Postgres and one being gathered.
    async fn writer(&self) -> Result<Service> {
        let writer = self.environment.writer().variable("TAPEDECK_LANES", "1").start().await?;
        writer.wait_ready().await?;
        Ok(writer)
    }

    async fn gateway(&self, kafka_properties: &str) -> Result<Service> {
        let gateway = self.environment.gateway();
        let gateway =
            gateway.variable("TAPEDECK_KAFKA_PROPERTIES", kafka_properties).start().await?;
        gateway.wait_ready().await?;
        Ok(gateway)
    }

    /// Plays so many sessions, others for each `seed`.
    async fn play(
        &self,
        seed: u64,
        recorders: usize,
        gateways: &[&Service],
        unruliness: Unruliness,
    ) -> Result<Report> {
        let ending_at = Timestamp::now();
        let clones = CloneOptions { seed, ending_at, duplicate_page_states: 0.5 };
        let cast = Cast::copies(recordings::own()?, recorders, clones);
        let options = FleetOptions {
            gateway_urls: gateways.iter().map(|gateway| gateway.url()).collect(),
            key: Some(self.environment.key().into()),
            concurrency: NonZeroUsize::new(8).context("0")?,
            speed: Speed::Max,
            patience: PATIENCE,
            request_timeout: fleet::options::DEFAULT_REQUEST_TIMEOUT,
            unruliness,
            seed,
        };
        let ledger = Some(Arc::clone(&self.ledger));
        let (hidden, stop) = (ProgressBar::hidden(), CancellationToken::new());
        Ok(fleet::run(&cast, &options, ledger, hidden, stop).await?)
    }

    /// Puts a record on a topic that no writer can read.
    async fn litter(&self, topic: &str) -> Result<()> {
        let key = format!("litter of {topic}");
        self.ledger.garbage(&key)?;
        let litter = Record {
            key: key.clone().into_bytes(),
            value: Some(b"not to be read".to_vec()),
            ..Record::default()
        };
        self.environment.records().produce(&self.environment.topic(topic), &[litter]).await?;
        Ok(self.ledger.garbage_acknowledged(&key)?)
    }

    /// Holds up what writes events; until the session is dropped.
    async fn lock_events(&self) -> Result<tokio_postgres::Client> {
        let session = self.environment.sql().await?;
        session.batch_execute("BEGIN; LOCK TABLE events IN SHARE MODE").await?;
        Ok(session)
    }

    /// Waits until a writer waits for the lock.
    async fn someone_is_held_up(&self) -> Result<()> {
        let sql = self.environment.sql().await?;
        let query = "SELECT count(*) FROM pg_locks \
                     WHERE NOT granted AND relation = 'events'::regclass";
        eventually("a writer waits for the lock", PATIENCE, async || {
            let waiting: i64 = sql.query_one(query, &[]).await?.get(0);
            ensure!(waiting > 0, "nobody waits");
            Ok(())
        })
        .await
    }

    async fn verdict(&self) -> Result<Verdict> {
        self.environment.wait_committed(PATIENCE).await?;
        oracle::examine(&self.ledger_path, &Subject::of(&self.environment).await?).await
    }

    /// The verdict must hold these clauses broken, whatever else it finds.
    async fn must_find(&self, clause: Clause) -> Result<()> {
        let verdict = self.verdict().await?;
        ensure!(verdict.count(clause) > 0, "{clause:?} was not found:\n{verdict}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unruly_fleet_leaves_nothing_to_find() -> Result<()> {
    let trial = Trial::begin().await?;
    let (gateway, other_gateway, closed_gateway) =
        tokio::try_join!(trial.gateway(""), trial.gateway(""), trial.gateway(""))?;
    let (writer, other_writer) = tokio::try_join!(trial.writer(), trial.writer())?;
    // Whoever begins here finds nobody, and goes on to the next or gives up.
    ensure!(closed_gateway.terminate().await?.success(), "{}", closed_gateway.log());
    let unruliness = Unruliness {
        duplicated: 0.2,
        delayed: 0.2,
        reordered: 0.2,
        abandoned: 0.3,
        unwritable: 0.2,
    };
    let gateways = [&gateway, &closed_gateway, &other_gateway];
    let report = trial.play(1, 40, &gateways, unruliness).await?;
    trial.litter("replay-events").await?;
    trial.litter("replay-webstates").await?;

    let verdict = trial.verdict().await?;
    ensure!(verdict.is_clean(), "{verdict}\n{report}");
    let counts = verdict.counts;
    ensure!(counts.events.acknowledged == report.acknowledged.events, "{verdict}\n{report}");
    ensure!(counts.events.unknown == report.unknown.events, "{verdict}\n{report}");
    ensure!(report.duplicated > 0 && report.abandoned > 0, "{report}");
    ensure!(counts.unwritable > 0 && counts.letters > 2, "{verdict}");
    ensure!(counts.repeated_letters == 0, "{verdict}");
    for writer in [&writer, &other_writer] {
        Audit::of_writer().check(&writer.metrics().await?)?;
    }
    for gateway in [&gateway, &other_gateway] {
        GatewayAccounts::of(&gateway.metrics().await?)?.check_idle()?;
    }
    every_wound_is_found(&trial).await?;
    what_kafka_holds_otherwise_is_found(&trial).await
}

/// Does to the tables what no writer would.
async fn every_wound_is_found(trial: &Trial) -> Result<()> {
    let event =
        |place: u32| format!("(SELECT event_id FROM events ORDER BY 1 LIMIT 1 OFFSET {place})");
    let wounds = [
        (
            format!("UPDATE events SET event_data = '0' WHERE event_id = {}", event(1)),
            Clause::Changed,
        ),
        (format!("DELETE FROM events WHERE event_id = {}", event(9)), Clause::LostAfterKafka),
        ("UPDATE users SET name = 'another'".to_owned(), Clause::User),
        ("UPDATE replays SET end_time = null".to_owned(), Clause::Replay),
        ("UPDATE webstates SET captured_at = now()".to_owned(), Clause::Webstate),
        ("UPDATE webstates SET html_content = null".to_owned(), Clause::PageMissing),
    ];
    let sql = trial.environment.sql().await?;
    for (wound, _) in &wounds {
        sql.batch_execute(wound).await?;
    }
    let verdict = trial.verdict().await?;
    let missed = wounds.iter().find(|(_, clause)| verdict.count(*clause) == 0);
    ensure!(missed.is_none(), "{missed:?} was not found:\n{verdict}");
    Ok(())
}

/// Does to Kafka what no gateway would, and what no broker should.
async fn what_kafka_holds_otherwise_is_found(trial: &Trial) -> Result<()> {
    let kafka = trial.environment.records();
    let topics = ["replay-events", "replay-webstates"].map(|name| trial.environment.topic(name));
    let sessions = recordings::own()?;
    let never_sent = sessions.first().context("no recording")?.envelope();
    kafka.produce(&topics[0], &records::of_events(&never_sent, RECORD_LIMIT_BYTES)?).await?;
    trial.must_find(Clause::InventedInKafka).await?;
    trial.must_find(Clause::StatementUnexpected).await?;
    for topic in &topics {
        kafka.lose_all(topic).await?;
    }
    trial.must_find(Clause::StoredNotInKafka).await?;
    trial.must_find(Clause::StatementMissing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_before_the_delivery_report_is_found() -> Result<()> {
    let trial = Trial::begin().await?;
    // Whatever is produced waits for company that does not come.
    let gateway = trial.gateway("linger.ms=600000\nmessage.timeout.ms=900000").await?;
    gateway.set_failpoint("gateway::acknowledge-early", "return").await?;
    trial.play(1, 4, &[&gateway], Unruliness::default()).await?;
    gateway.kill()?;
    trial.must_find(Clause::LostBeforeKafka).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_depend_on_the_clock_are_found() -> Result<()> {
    let trial = Trial::begin().await?;
    let _writer = trial.writer().await?;
    let gateway = trial.gateway("").await?;
    gateway.set_failpoint("gateway::ids-from-clock", "return").await?;
    trial.play(1, 4, &[&gateway], Unruliness::default()).await?;
    // No writer takes an id that is not of its event's time, so nothing is there under its own.
    trial.must_find(Clause::Unreadable).await?;
    trial.must_find(Clause::LostBeforeKafka).await
}

#[tokio::test(flavor = "multi_thread")]
async fn committing_offsets_before_the_transaction_is_found() -> Result<()> {
    let trial = Trial::begin().await?;
    let writer = trial.writer().await?;
    writer.set_failpoint("writer::commit-early", "return").await?;
    let gateway = trial.gateway("").await?;
    let held_up = trial.lock_events().await?;
    trial.play(1, 4, &[&gateway], Unruliness::default()).await?;
    eventually("an offset is committed", PATIENCE, async || {
        let topic = trial.environment.topic("replay-events");
        let group = trial.environment.consumer_group();
        let committed = trial.environment.records().committed(group, &topic).await?;
        ensure!(committed.values().any(|offset| *offset > 0), "{committed:?}");
        Ok(())
    })
    .await?;
    writer.kill()?;
    drop(held_up);
    let _successor = trial.writer().await?;
    trial.must_find(Clause::LostAfterKafka).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_batch_on_revoke_is_found() -> Result<()> {
    let trial = Trial::begin().await?;
    let writer = trial.writer().await?;
    writer.set_failpoint("writer::drop-on-revoke", "return").await?;
    let gateway = trial.gateway("").await?;
    let held_up = trial.lock_events().await?;
    trial.play(1, 2, &[&gateway], Unruliness::default()).await?;
    trial.someone_is_held_up().await?;
    // While that batch waits, the next one is gathered.
    let report = trial.play(2, 4, &[&gateway], Unruliness::default()).await?;
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let gathered = report.acknowledged.events as f64;
    let in_flight = "tapedeck_writer_events_in_flight";
    writer.wait_for_metric(in_flight, &[], PATIENCE, |it| it > gathered).await?;
    // Once it is told that partitions go, nothing is held up any more.
    writer.set_failpoint("writer::on-revoke", "1*return(freeze)").await?;
    let _second = trial.environment.writer().start().await?;
    writer.wait_frozen(PATIENCE).await.context("partitions are to go")?;
    drop(held_up);
    writer.thaw()?;
    trial.must_find(Clause::LostAfterKafka).await
}
