//! `writer run`: the admin port, the checks at start, the lanes, and their end.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use backon::{ExponentialBuilder, Retryable};
use common::admin;
use common::heap;
use common::listen::bind;
use common::metrics::service_registry;
use common::repeats::Repeats;
use common::shutdown::EXIT_NOT_DRAINED;
use common::topics::{self, TopicError};
use common::traces::Traces;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::batch_span::BatchSpan;
use crate::dead_letters::DeadLetters;
use crate::health::{LaneHealth, WriterHealth};
use crate::lane::{Ended, Lane, LaneError, LaneParts, settle_batches};
use crate::metrics::WriterMetrics;
use crate::migrate;
use crate::options::RunOptions;
use crate::poison_gauge::PoisonGauge;
use crate::settle::Settler;
use crate::store::Store;

/// What the service is called.
const SERVICE: &str = "writer";

/// The pauses before the database's tables are looked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much longer than its deadline for draining a lane may take to leave its group, so that
/// others have its partitions at once. It takes far less, unless Kafka does not answer.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit code of a service that stopped as told.
const EXIT_DRAINED: i32 = 0;

/// Consumes until `stop`; returns the exit code.
///
/// # Errors
/// When the options don't fit the topics, the admin port is taken, or a lane cannot go on.
pub async fn run(options: RunOptions, stop: CancellationToken) -> anyhow::Result<i32> {
    let registry = service_registry(SERVICE)?;
    heap::register(&registry)?;
    let metrics = WriterMetrics::new(&registry)?;
    let accounts = Accounts::register(&registry)?;
    let limit = options.lane_topics().count() * 2 * options.batch_bytes;
    metrics.batch_bytes_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    let health = WriterHealth::default();
    let traces = Traces::start(&options.traces, SERVICE, &registry)?;
    let deadline = tokio::spawn(deadline(stop.clone(), options.drain_timeout() + LEAVE_TIMEOUT));

    let listener = bind("admin", options.admin_listen).await?;
    let admin_stop = CancellationToken::new();
    let probes = Arc::new(health.clone());
    let admin = tokio::spawn(admin::serve(listener, registry, probes, admin_stop.clone()));

    let result = tokio::select! {
        ready = wait_until_usable(&options, &health) => match ready {
            Ok(()) => run_lanes(&options, &health, &metrics, &accounts, &traces, &stop).await,
            Err(error) => Err(error),
        },
        () = stop.cancelled() => Ok(EXIT_DRAINED),
    };
    let left = match stop.is_cancelled() {
        true => deadline.await?.saturating_duration_since(Instant::now()),
        false => options.drain_timeout(),
    };
    traces.finish(left).await;
    admin_stop.cancel();
    admin.await?.context("the admin port failed")?;
    result
}

/// When a service that is told to `stop` must have ended.
async fn deadline(stop: CancellationToken, within: Duration) -> Instant {
    stop.cancelled().await;
    Instant::now() + within
}

/// Waits for Kafka and Postgres; topics that don't fit the settings are an error.
async fn wait_until_usable(options: &RunOptions, health: &WriterHealth) -> anyhow::Result<()> {
    let failures = Repeats::default();
    let waiting = |error: &dyn Display| {
        if let Some(left_out) = failures.failed(error) {
            tracing::warn!(%error, left_out, "waiting until Kafka and Postgres can be used");
        }
        health.waiting_for(error);
    };
    let told = |error: &TopicError, _| waiting(error);
    topics::ensure_once_reachable(&options.kafka, &options.topics, options.limits, told).await?;
    let pauses = ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    let check = async || {
        migrate::check(&options.database).await?;
        options.foreign_keys.check(&options.database).await
    };
    check
        .retry(pauses)
        .sleep(tokio::time::sleep)
        .notify(|error: &anyhow::Error, _| waiting(&format!("{error:#}")))
        .await?;
    if let Some(over) = failures.over() {
        let (failures, seconds) = (over.failures, over.seconds());
        tracing::info!(failures, seconds, "Kafka and Postgres can be used");
    }
    Ok(())
}

async fn run_lanes(
    options: &RunOptions,
    health: &WriterHealth,
    metrics: &WriterMetrics,
    accounts: &Accounts,
    traces: &Traces,
    stop: &CancellationToken,
) -> anyhow::Result<i32> {
    // Cancelled by the signal, or when one lane fails: then all stop, and the process ends for
    // its supervisor to start anew.
    let stop = stop.child_token();
    let unfinished = Arc::new(AtomicUsize::new(options.lane_topics().count()));
    let mut healths = Vec::new();
    let mut running = Vec::new();
    for (number, topic) in options.lane_topics().enumerate() {
        let lane_health = LaneHealth::new(number);
        healths.push(lane_health.clone());
        let settler = Settler {
            store: Store::new(
                options.database.clone(),
                options.transaction_timeout(),
                options.known_rows,
                options.foreign_keys,
                metrics.clone(),
            ),
            dead_letters: DeadLetters::new(
                &options.kafka,
                options.limits,
                options.topics.dead_letters(),
                number,
            )
            .map_err(anyhow::Error::msg)?,
            poison_gauge: PoisonGauge::default(),
            health: lane_health.clone(),
            buried: Repeats::default(),
            traces: traces.clone(),
            span: BatchSpan::default(),
            metrics: metrics.clone(),
        };
        let parts = LaneParts {
            topic,
            options: options.clone(),
            accounts: accounts.clone(),
            metrics: metrics.clone(),
            health: lane_health,
            unfinished: unfinished.clone(),
        };
        running.push(start_lane(number, parts, settler, stop.clone())?);
    }
    health.begin(healths);
    let (lanes, page_lanes) = (options.lanes, options.page_lanes);
    tracing::info!(lanes, page_lanes, group = options.consumer_group, "consuming");

    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(options.drain_timeout() + LEAVE_TIMEOUT).await;
    };
    tokio::select! {
        code = all_ended(running) => code,
        // Whatever a lane waits for then (a rebalance under way, Kafka's client, which has
        // time-outs of its own), it waits in vain: nothing more would be committed.
        () = overdue => {
            let deadline_ms = options.drain_timeout_ms;
            let unfinished = unfinished.load(Ordering::Acquire);
            tracing::error!(deadline_ms, unfinished, "deadline passed before all lanes had ended");
            Ok(EXIT_NOT_DRAINED.into())
        }
    }
}

/// Waits for the lanes; returns the exit code.
async fn all_ended(running: Vec<LaneEnd>) -> anyhow::Result<i32> {
    let mut code = EXIT_DRAINED;
    for (number, ended) in running.into_iter().enumerate() {
        match ended.await.with_context(|| format!("lane {number} panicked"))? {
            Ok(Ended::Drained) => {}
            Ok(Ended::GivenUp) => {
                tracing::error!(lane = number, "deadline passed before all was written");
                code = EXIT_NOT_DRAINED.into();
            }
            // The lane has logged why.
            Err(_) => bail!("lane {number} could not go on"),
        }
    }
    if code == EXIT_DRAINED {
        tracing::info!("drained");
    }
    Ok(code)
}

type LaneEnd = oneshot::Receiver<Result<Ended, LaneError>>;

/// Starts a lane's thread and its settler's task.
fn start_lane(
    number: usize,
    parts: LaneParts,
    settler: Settler,
    stop: CancellationToken,
) -> anyhow::Result<LaneEnd> {
    let (lane, handovers, outcomes) = Lane::new(number, parts)?;
    tokio::spawn(settle_batches(settler, handovers, outcomes));
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
        // Whichever way a lane ends, the others must not go on without it.
        let stop_all = stop.clone().drop_guard();
        // Whatever is logged on this thread says which lane it is about.
        let _lane = tracing::error_span!("lane", lane = number).entered();
        let ended = lane.run(&stop);
        if let Err(error) = &ended {
            // Here: the process may end by its deadline before anybody asks for this.
            tracing::error!(%error, "a lane cannot go on");
        }
        drop(stop_all);
        // The receiver waits for every lane, unless another one failed first.
        let _ = sender.send(ended);
    })?;
    Ok(receiver)
}
