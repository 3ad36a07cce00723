//! Keeping the reports up to date.
//!
//! Every replica runs this loop. Whoever finds the lock free rolls up; the others note that they
//! stand by, and try again an interval later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use common::database::{ConnectError, Session};
use common::repeats::Repeats;
use common::traces::Traces;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::APPLICATION_NAME;
use crate::health::LoopHealth;
use crate::lock::{self, Attempt, LockError};
use crate::metrics::{Outcome, ReporterMetrics};
use crate::options::ServeOptions;
use crate::plan::{Kind, Scope};
use crate::rollup::{self, Rollup, RollupError};
use crate::rollup_span;
use crate::schedule::Schedule;

/// What the service is called.
const SERVICE: &str = "reporter";

/// How long the last spans may keep a reporter that stops.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(2);

/// How much longer than its own time-outs the loop may take before it counts as stuck.
const LIVENESS_MARGIN: Duration = Duration::from_secs(30);

/// Serves the admin port and rolls up, until `stop`.
///
/// # Errors
/// When the admin port cannot be served. Postgres being away is no error: it is waited out.
pub async fn run(options: &ServeOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let registry = common::metrics::service_registry(SERVICE)?;
    let metrics = ReporterMetrics::register(&registry)?;
    metrics.create_series();
    let traces = Traces::start(&options.traces, SERVICE, &registry)?;
    let health = Arc::new(LoopHealth::new(LIVENESS_MARGIN));

    let listener = common::listen::bind("admin", options.admin_listen).await?;
    let admin = common::admin::serve(listener, registry, health.clone(), stop.clone());
    let rolling_up = RollupLoop {
        options,
        metrics,
        health,
        schedule: Schedule::new(
            Duration::from_secs(options.interval_seconds.into()),
            Duration::from_secs(options.full_interval_seconds.into()),
        ),
        session: None,
        connected_before: false,
        failures: Repeats::default(),
        traces: traces.clone(),
    };
    tokio::try_join!(async { admin.await.context("the admin port failed") }, async {
        // Dropping the loop closes its session, and Postgres rolls back what was under way.
        stop.run_until_cancelled(rolling_up.run()).await;
        Ok(())
    })?;
    traces.finish(LAST_SPANS_TIMEOUT).await;
    tracing::info!("stopped");
    Ok(())
}

/// Why a turn of the loop failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    /// Postgres cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The lock could be neither had nor seen with another, nor given back.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The roll-up failed.
    #[error(transparent)]
    Rollup(#[from] RollupError),
}

struct RollupLoop<'a> {
    options: &'a ServeOptions,
    metrics: ReporterMetrics,
    health: Arc<LoopHealth>,
    schedule: Schedule,
    /// Kept from one roll-up to the next; given up at any error.
    session: Option<Session>,
    connected_before: bool,
    failures: Repeats,
    traces: Traces,
}

impl RollupLoop<'_> {
    async fn run(mut self) {
        loop {
            let wait = match self.turn().await {
                Ok(()) => {
                    self.health.last_attempt(Ok(()));
                    if let Some(over) = self.failures.over() {
                        let (failures, seconds) = (over.failures, over.seconds());
                        tracing::info!(failures, seconds, "reports are kept up to date again");
                    }
                    self.schedule.after_success(rand::random_range(0.0..1.0))
                }
                Err(error) => {
                    let wait = self.schedule.after_failure();
                    if let Some(left_out) = self.failures.failed(&error) {
                        let retry_seconds = wait.as_secs_f64();
                        tracing::error!(%error, retry_seconds, left_out, "roll-up failed");
                    }
                    self.health.last_attempt(Err(error.to_string()));
                    wait
                }
            };
            self.health.alive_and_back_within(wait + LIVENESS_MARGIN);
            tokio::time::sleep(wait).await;
        }
    }

    /// Rolls up the window and, when that is due, everything.
    async fn turn(&mut self) -> Result<(), TurnError> {
        let window = Scope::Window { months_before: self.options.window_months };
        let Some(done) = self.roll_up(window, Kind::Window).await? else {
            return Ok(());
        };
        if !self.schedule.full_is_due(done.generated_at, done.all_counted_since) {
            return Ok(());
        }
        let full = self.roll_up(Scope::All, Kind::Full).await;
        match full {
            Ok(_) => self.schedule.full_succeeded(),
            Err(_) => self.schedule.full_failed(done.generated_at),
        }
        full.map(drop)
    }

    /// Rolls up unless another reporter is at work. `kind` is what it is meant to be: a window
    /// may turn out to need everything.
    async fn roll_up(&mut self, scope: Scope, kind: Kind) -> Result<Option<Rollup>, TurnError> {
        let database = &self.options.database;
        let within = self.options.limits.rollup_timeout();
        // Connecting, taking the lock and giving it back.
        let connect = Duration::from_millis(database.database_connect_timeout_ms.into());
        let around = connect + 2 * database.answer_timeout();
        self.health.alive_and_back_within(within + around + LIVENESS_MARGIN);

        let started = Instant::now();
        let mut span = rollup_span::begin(&self.traces, kind);
        let log_span = span.log_span();
        let result = self.roll_up_locked(scope, within).instrument(log_span).await;
        rollup_span::end(&mut span, &result);
        let seconds = started.elapsed().as_secs_f64();
        match &result {
            Ok(Some(done)) => self.note_success(done, seconds),
            Ok(None) => tracing::debug!("another reporter is at work; standing by"),
            Err(_) => self.metrics.ended(kind, Outcome::Failure, seconds),
        }
        self.metrics.standby.set(matches!(result, Ok(None)).into());
        result
    }

    async fn roll_up_locked(
        &mut self,
        scope: Scope,
        within: Duration,
    ) -> Result<Option<Rollup>, TurnError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.connect().await?,
        };
        let answer_timeout = self.options.database.answer_timeout();
        match lock::try_acquire(session, answer_timeout).await? {
            Attempt::AnotherAtWork(session) => {
                self.session = Some(session);
                Ok(None)
            }
            Attempt::Locked(mut locked) => {
                let done = rollup::run(&mut locked, scope, within).await?;
                self.session = Some(locked.release(answer_timeout).await?);
                Ok(Some(done))
            }
        }
    }

    async fn connect(&mut self) -> Result<Session, ConnectError> {
        let again = std::mem::replace(&mut self.connected_before, true);
        let session = self.options.database.connect(APPLICATION_NAME).await?;
        if again {
            self.metrics.reconnects.inc();
        }
        Ok(session)
    }

    fn note_success(&self, done: &Rollup, seconds: f64) {
        self.metrics.ended(done.kind, Outcome::Success, seconds);
        self.metrics.months_written.inc_by(done.reports.len().try_into().unwrap_or(u64::MAX));
        self.metrics.up_to_date(Kind::Window, done.generated_at);
        if let Some(since) = done.all_counted_since {
            self.metrics.up_to_date(Kind::Full, since);
        }
        tracing::info!(
            kind = %done.kind,
            months = done.reports.len(),
            generated_at = %done.generated_at,
            seconds,
            "rolled up"
        );
    }
}
