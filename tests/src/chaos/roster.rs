//! Which service processes run now, by name. No end of one of them goes unjudged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::ends::{Asked, End, Ended, Ends};
use super::kind::{Between, Need};
use super::tracks::Tracks;
use crate::stack::Service;
use crate::stack::service::ServiceBuilder;

/// How long a service may take from SIGTERM to its end: the longest deadline of any, the gateways'
/// 25 s, and what a machine on which everything runs may add.
const ENDED_WITHIN: Duration = Duration::from_secs(40);

/// The processes that run, or have ended and not been judged yet.
#[derive(Debug, Default)]
pub(super) struct Roster {
    services: Mutex<BTreeMap<String, Arc<Service>>>,
    ends: Ends,
}

impl Roster {
    /// Starts a service under a name. The one that had it before is killed if it still runs; if it
    /// does not, it has ended by itself.
    ///
    /// # Errors
    /// When it does not come up: that is noted as an end by itself.
    pub(super) async fn start(
        &self,
        name: &str,
        builder: ServiceBuilder<'_>,
    ) -> Result<Arc<Service>> {
        if self.get(name).is_ok() && self.ended(name, Asked::Nothing).is_none() {
            self.kill(name)?;
        }
        let started = builder.start().await.with_context(|| name.to_owned());
        let service = Arc::new(started.inspect_err(|error| {
            self.ends.note(format!("{name} could not be started: {error:#}"));
        })?);
        self.lock().insert(name.to_owned(), Arc::clone(&service));
        Ok(service)
    }

    /// The process of that name.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Service>> {
        self.lock().get(name).cloned().with_context(|| format!("no {name} runs"))
    }

    /// All processes with their names.
    pub(super) fn all(&self) -> Vec<(String, Arc<Service>)> {
        self.lock().iter().map(|(name, service)| (name.clone(), Arc::clone(service))).collect()
    }

    /// Ends a process at once (SIGKILL).
    ///
    /// # Errors
    /// When there is none, or it had ended by itself.
    pub(super) fn kill(&self, name: &str) -> Result<()> {
        let status = self.get(name)?.kill()?;
        self.judge(name, status, Asked::Kill).map(drop)
    }

    /// Waits until a process has ended by SIGKILL.
    ///
    /// # Errors
    /// When it has not `within` that time, or ends by itself.
    pub(super) async fn wait_killed(&self, name: &str, within: Duration) -> Result<()> {
        let status = self.get(name)?.process().wait_for_exit(within).await?;
        self.judge(name, status, Asked::Kill).map(drop)
    }

    /// Asks a process to drain (SIGTERM) and waits until it has ended; gives how.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time: that is noted, too. It may end undrained where
    /// something that it depends on is out, but by its deadline even then.
    pub(super) async fn terminate(&self, name: &str, tracks: &Tracks) -> Result<End> {
        if let Some(judged) = self.ended(name, Asked::Nothing) {
            return judged;
        }
        let begun = Instant::now();
        let status = self.get(name)?.terminate().await.inspect_err(|error| {
            self.ends.note(format!("{name} did not end: {error:#}"));
        })?;
        let took = begun.elapsed();
        if took > ENDED_WITHIN {
            self.ends.note(format!("{name} ended only {took:?} after it was asked to drain"));
        }
        let outage = tracks.outage_since(begun, needs_of(name));
        self.judge(name, status, Asked::Drain { outage })
    }

    /// Judges a process that has ended; `None` while it runs.
    pub(super) fn ended(&self, name: &str, asked: Asked) -> Option<Result<End>> {
        let status = self.get(name).ok()?.process().exit_status().ok()??;
        Some(self.judge(name, status, asked))
    }

    /// The ends so far that matter.
    pub(super) fn ends(&self) -> Ended {
        self.ends.so_far()
    }

    /// Takes a process that has ended off the roster and judges its end.
    fn judge(&self, name: &str, status: std::process::ExitStatus, asked: Asked) -> Result<End> {
        let service = self.lock().remove(name).with_context(|| format!("no {name} runs"))?;
        self.ends.judge(name, &service, status, asked)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a service of that name cannot finish without.
fn needs_of(name: &str) -> &'static [Need] {
    match name {
        _ if name.starts_with("gateway") => &[
            Need::Kafka,
            Need::Connections(Between::GatewaysAndBroker),
            Need::Connections(Between::RecordersAndGateway),
        ],
        _ if name.starts_with("writer") => &[
            Need::Kafka,
            Need::Postgres,
            Need::Connections(Between::WritersAndBroker),
            Need::Connections(Between::WritersAndPostgres),
        ],
        _ => &[Need::Postgres, Need::Connections(Between::ReportersAndPostgres)],
    }
}
