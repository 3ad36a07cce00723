//! How fresh the tables are: small batches, sent all the time, and looked for until they are
//! there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use common::record::events::{Replay, User};
use common::time::Timestamp;
use reqwest::StatusCode;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::world::World;
use crate::ledger::{Ledger, Outcome};
use crate::recordings::envelope::{Envelope, Event};

/// How often a probe is sent.
const SEND_INTERVAL: Duration = Duration::from_millis(250);
/// How often the tables are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long one request may take before the other gateway is asked: a probe that hangs at a frozen
/// gateway would measure the client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an answer other than 200.
const PAUSE: Duration = Duration::from_millis(200);
/// Probes that may be under way at once: minutes of an outage.
const UNDER_WAY_MAX: usize = 2_000;

/// What is known of the probes.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// Not seen in the tables yet, with the time of their first request.
    missing: Mutex<BTreeMap<Uuid, Instant>>,
}

impl Freshness {
    /// How long the oldest probe that is not in the tables has been under way.
    pub(super) fn staleness(&self) -> Duration {
        self.lock().values().min().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// How many probes are not in the tables.
    pub(super) fn missing(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Instant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends probes until `stop`; then waits for those under way.
///
/// # Errors
/// When the ledger cannot be written.
pub(super) async fn probe(
    world: Arc<World>,
    ledger: Arc<Ledger>,
    freshness: Arc<Freshness>,
    stop: CancellationToken,
) -> Result<()> {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build()?;
    let mut sending = JoinSet::new();
    for number in 0.. {
        let next = Instant::now() + SEND_INTERVAL;
        let permit = Arc::clone(&under_way).acquire_owned().await?;
        let probe =
            Probe { number, http: http.clone(), world: world.clone(), ledger: ledger.clone() };
        let freshness = Arc::clone(&freshness);
        sending.spawn(async move {
            let _permit = permit;
            probe.send(&freshness).await
        });
        while let Some(sent) = sending.try_join_next() {
            sent??;
        }
        if stop.run_until_cancelled(tokio::time::sleep_until(next)).await.is_none() {
            break;
        }
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(())
}

struct Probe {
    number: usize,
    http: reqwest::Client,
    world: Arc<World>,
    ledger: Arc<Ledger>,
}

impl Probe {
    /// Sends one batch of one event until it is acknowledged.
    async fn send(&self, freshness: &Freshness) -> Result<()> {
        let envelope = envelope()?;
        let body = serde_json::to_vec(&envelope)?;
        let (event_id, _) = envelope.identified_events().next().context("no event")?;
        let batch = self.ledger.sent(&envelope)?;
        freshness.lock().insert(event_id, Instant::now());
        let urls = self.world.gateway_urls();
        let mut attempts = 0;
        for url in urls.iter().cycle().skip(self.number) {
            attempts += 1;
            let request = self
                .http
                .post(format!("{url}/v1/batches"))
                .bearer_auth(self.world.environment.key())
                .header("content-type", "application/json")
                .body(body.clone());
            match request.send().await {
                Ok(answer) if answer.status() == StatusCode::OK => break,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        self.ledger.settled(batch, Outcome::Acknowledged, Some(200), attempts)?;
        Ok(())
    }
}

fn envelope() -> Result<Envelope> {
    let now = Timestamp::from_micros(Timestamp::now().millis() * 1_000);
    let data = RawValue::from_string("{\"probe\":true}".to_owned())?;
    let event = Event {
        seq: Some(0),
        timestamp: now,
        event_type: "probe",
        event_data: data.into(),
        webstate_hash: None,
    };
    let user = User { user_id: Uuid::new_v4(), email: None, name: None, created_at: None };
    let replay = Replay {
        replay_id: Uuid::new_v4(),
        initial_url: "https://probe.example/".into(),
        start_time: now,
        end_time: None,
        user,
    };
    Ok(Envelope { replay, events: vec![event], webstates: vec![] })
}

/// Looks for the missing probes until `stop`.
pub(super) async fn look(world: &World, freshness: &Freshness, stop: &CancellationToken) {
    let mut sql: Option<Client> = None;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        let missing: Vec<Uuid> = freshness.lock().keys().copied().collect();
        if missing.is_empty() {
            continue;
        }
        // A session may be of a server that is no more.
        let client = match sql.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => match world.environment.sql().await {
                Ok(client) => client,
                Err(_) => continue,
            },
        };
        let find = "SELECT event_id FROM events WHERE event_id = ANY ($1)";
        let found = tokio::time::timeout(REQUEST_TIMEOUT, client.query(find, &[&missing])).await;
        if let Ok(Ok(rows)) = found {
            let mut missing = freshness.lock();
            for row in rows {
                missing.remove(&row.get::<_, Uuid>(0));
            }
            sql = Some(client);
        }
    }
}
