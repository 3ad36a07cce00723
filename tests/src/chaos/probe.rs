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
use crate::fleet::without_answer;
use crate::ledger::{Ledger, Outcome};
use crate::recordings::envelope::{Envelope, Event};

/// How often a probe is sent.
const SEND_INTERVAL: Duration = Duration::from_millis(250);
/// How often the tables are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long one request may take before the other gateway is asked: a probe that hangs at a frozen
/// gateway would measure the client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a probe is sent until it is given up, so that a run whose gateways never answer ends.
/// Longer than any fault keeps both from answering.
const GIVE_UP_AFTER: Duration = Duration::from_secs(180);
/// Pause after an answer other than 200.
const PAUSE: Duration = Duration::from_millis(200);
/// Probes that may be under way at once: minutes of an outage.
const UNDER_WAY_MAX: usize = 2_000;

/// What is known of the probes.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    probes: Mutex<Probes>,
    /// What they were answered: statuses, or why there was no answer.
    answers: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug, Default)]
struct Probes {
    /// Not seen in the tables yet.
    missing: BTreeMap<Uuid, UnderWay>,
    /// How many were seen there.
    stored: u64,
    /// The worst so far of those that were seen there.
    worst: Worst,
}

/// The worst that probes met on their way, each for itself. While nothing gets through at all,
/// time passes and nobody is overtaken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Worst {
    /// The longest that one took from its acknowledgement to the tables.
    pub took: Duration,
    /// The most that were sent after one and acknowledged before it, or before it was given up.
    pub overtaken_to_kafka: u64,
    /// The most that were acknowledged after one and in the tables before it.
    pub overtaken_to_tables: u64,
}

impl Worst {
    /// The most that overtook one on either part of its way.
    pub(super) fn overtaken(self) -> u64 {
        self.overtaken_to_kafka.max(self.overtaken_to_tables)
    }

    fn max(self, other: Self) -> Self {
        Self {
            took: self.took.max(other.took),
            overtaken_to_kafka: self.overtaken_to_kafka.max(other.overtaken_to_kafka),
            overtaken_to_tables: self.overtaken_to_tables.max(other.overtaken_to_tables),
        }
    }
}

/// A probe on its way to the tables.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    since: Instant,
    acknowledged_at: Option<Instant>,
    overtaken_to_kafka: u64,
    overtaken_to_tables: u64,
}

impl Probes {
    fn sent(&mut self, event_id: Uuid, now: Instant) {
        let probe = UnderWay {
            since: now,
            acknowledged_at: None,
            overtaken_to_kafka: 0,
            overtaken_to_tables: 0,
        };
        self.missing.insert(event_id, probe);
    }

    fn acknowledged(&mut self, event_id: Uuid, now: Instant) {
        // It may have been found already.
        let Some(probe) = self.missing.get_mut(&event_id) else { return };
        probe.acknowledged_at = Some(now);
        let since = probe.since;
        for waiting in self.missing.values_mut() {
            if waiting.acknowledged_at.is_none() && waiting.since < since {
                waiting.overtaken_to_kafka += 1;
            }
        }
    }

    /// Where it has got to by now is not known, but what it met until then is.
    fn given_up(&mut self, event_id: Uuid, now: Instant) {
        if let Some(probe) = self.missing.remove(&event_id) {
            self.worst = self.worst.max(probe.way(now));
        }
    }

    fn found(&mut self, event_id: Uuid, now: Instant) {
        let Some(probe) = self.missing.remove(&event_id) else { return };
        self.stored += 1;
        self.worst = self.worst.max(probe.way(now));
        // One whose answer is not there yet is acknowledged after it was found.
        let at = probe.acknowledged_at.unwrap_or(now);
        for waiting in self.missing.values_mut() {
            if waiting.acknowledged_at.is_some_and(|it| it < at) {
                waiting.overtaken_to_tables += 1;
            }
        }
    }

    /// The worst that one has met, or met so far.
    fn worst(&self, now: Instant) -> Worst {
        self.missing.values().map(|probe| probe.way(now)).fold(self.worst, Worst::max)
    }
}

impl UnderWay {
    /// Its way to the tables so far.
    fn way(self, now: Instant) -> Worst {
        let took =
            self.acknowledged_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let Self { overtaken_to_kafka, overtaken_to_tables, .. } = self;
        Worst { took, overtaken_to_kafka, overtaken_to_tables }
    }
}

impl Freshness {
    /// How long the oldest probe that is not in the tables has been under way.
    pub(super) fn staleness(&self) -> Duration {
        let oldest = self.lock().missing.values().map(|probe| probe.since).min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How many probes are not in the tables.
    pub(super) fn missing(&self) -> usize {
        self.lock().missing.len()
    }

    /// How many probes were seen in the tables.
    pub(super) fn stored(&self) -> u64 {
        self.lock().stored
    }

    /// The worst that a probe has met on its way to the tables.
    pub(super) fn worst(&self) -> Worst {
        self.lock().worst(Instant::now())
    }

    /// What they were answered, and how often: statuses, or why there was no answer.
    pub(super) fn answers(&self) -> BTreeMap<String, u64> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, answer: String) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(answer).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut sending = JoinSet::new();
    let probe =
        Probe::new(world.gateway_urls(), world.environment.key().to_owned(), GIVE_UP_AFTER)?;
    let probe = Arc::new(Probe { freshness, ..probe });
    for number in 0.. {
        let next = Instant::now() + SEND_INTERVAL;
        let permit = Arc::clone(&under_way).acquire_owned().await?;
        let (probe, ledger) = (Arc::clone(&probe), Arc::clone(&ledger));
        sending.spawn(async move {
            let _permit = permit;
            probe.send(number, &ledger).await
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

/// Where small batches are sent, and how long each.
pub(super) struct Probe {
    urls: Vec<String>,
    key: String,
    give_up_after: Duration,
    http: reqwest::Client,
    freshness: Arc<Freshness>,
}

impl Probe {
    /// Probes for the gateways at `urls`, each sent for so long until it is given up.
    ///
    /// # Errors
    /// When there can be no client.
    pub(super) fn new(urls: Vec<String>, key: String, give_up_after: Duration) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { urls, key, give_up_after, http, freshness: Arc::default() })
    }

    /// Sends one batch of one event, first to gateway `number` (counted round), until it is
    /// acknowledged or given up; gives which.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(super) async fn send(&self, number: usize, ledger: &Ledger) -> Result<Outcome> {
        self.send_envelope(&envelope()?, number, ledger).await
    }

    /// The same with a batch of one's own; its first event is what is looked for.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(super) async fn send_envelope(
        &self,
        envelope: &Envelope,
        number: usize,
        ledger: &Ledger,
    ) -> Result<Outcome> {
        let body = serde_json::to_vec(envelope)?;
        let (event_id, _) = envelope.identified_events().next().context("no event")?;
        let batch = ledger.sent(envelope)?;
        let begun = Instant::now();
        self.freshness.lock().sent(event_id, begun);
        let mut attempts = 0;
        let mut outcome = Outcome::Unknown;
        for url in self.urls.iter().cycle().skip(number % self.urls.len()) {
            attempts += 1;
            if self.post(url, &body).await == Some(StatusCode::OK) {
                outcome = Outcome::Acknowledged;
                self.freshness.lock().acknowledged(event_id, Instant::now());
                break;
            }
            if begun.elapsed() >= self.give_up_after {
                // Those sent since then tell as well that nothing arrives.
                self.freshness.lock().given_up(event_id, Instant::now());
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let status = (outcome == Outcome::Acknowledged).then_some(200);
        ledger.settled(batch, outcome, status, attempts)?;
        Ok(outcome)
    }

    /// One request; the status of its answer, if there is one.
    async fn post(&self, url: &str, body: &[u8]) -> Option<StatusCode> {
        let request = self
            .http
            .post(format!("{url}/v1/batches"))
            .bearer_auth(&self.key)
            .header("content-type", "application/json")
            .body(body.to_owned());
        let answer = request.send().await.map(|answer| answer.status());
        let name = match &answer {
            Ok(status) => status.as_u16().to_string(),
            Err(error) => without_answer(error).to_owned(),
        };
        self.freshness.count(name);
        answer.ok()
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
pub(super) async fn look(world: Arc<World>, freshness: Arc<Freshness>, stop: CancellationToken) {
    let mut sql: Option<Client> = None;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        let missing: Vec<Uuid> = freshness.lock().missing.keys().copied().collect();
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
            let mut probes = freshness.lock();
            for row in rows {
                probes.found(row.get(0), Instant::now());
            }
            sql = Some(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{self, Line};
    use crate::stack::ports::free_port;

    #[test]
    fn the_slowest_probe_counts_from_its_acknowledgement_also_when_it_never_arrives() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let [stored, early, stuck, unanswered] = [1, 2, 3, 4].map(Uuid::from_u128);
        let mut probes = Probes::default();
        for probe in [stored, early, stuck, unanswered] {
            probes.sent(probe, begun);
        }
        assert_eq!(probes.worst(at(100)), Worst::default());
        probes.acknowledged(stored, at(10));
        probes.found(stored, at(13));
        // Its row was there before its answer.
        probes.found(early, at(20));
        probes.acknowledged(early, at(21));
        assert_eq!((probes.worst(at(100)).took, probes.stored), (Duration::from_secs(3), 2));
        probes.acknowledged(stuck, at(30));
        assert_eq!(probes.worst(at(100)).took, Duration::from_secs(70));
    }

    #[test]
    fn a_probe_is_overtaken_by_those_acknowledged_later_and_stored_before() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let [earlier, stuck, later, answered_last, unanswered] =
            [1, 2, 3, 4, 5].map(Uuid::from_u128);
        let mut probes = Probes::default();
        for probe in [earlier, stuck, later, answered_last, unanswered] {
            probes.sent(probe, begun);
        }
        probes.acknowledged(earlier, at(1));
        probes.acknowledged(stuck, at(2));
        probes.acknowledged(later, at(3));
        let mut check = |stored: Uuid, expected: u64| {
            probes.found(stored, at(5));
            assert_eq!(probes.worst(at(5)).overtaken_to_tables, expected, "{stored}");
        };
        check(earlier, 0);
        check(later, 1);
        check(answered_last, 2);
        check(stuck, 2);
        check(unanswered, 2);
    }

    #[test]
    fn a_probe_is_overtaken_by_those_sent_later_and_acknowledged_before_also_when_given_up() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let [earlier, stuck, later, last] = [1, 2, 3, 4].map(Uuid::from_u128);
        let mut probes = Probes::default();
        for (probe, seconds) in [(earlier, 0), (stuck, 1), (later, 2), (last, 3)] {
            probes.sent(probe, at(seconds));
        }
        let mut check = |acknowledged: Uuid, expected: u64| {
            probes.acknowledged(acknowledged, at(5));
            assert_eq!(probes.worst(at(5)).overtaken_to_kafka, expected, "{acknowledged}");
        };
        check(earlier, 0);
        check(later, 1);
        check(last, 2);
        probes.given_up(stuck, at(200));
        let worst = probes.worst(at(200));
        assert_eq!((worst.overtaken_to_kafka, worst.overtaken()), (2, 2));
        assert!(!probes.missing.contains_key(&stuck));
    }

    #[tokio::test]
    async fn a_probe_that_nobody_answers_is_given_up_as_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.jsonl");
        let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
        let probe = Probe::new(vec![nobody], "key".to_owned(), Duration::ZERO).unwrap();
        let outcome = probe.send(7, &Ledger::create(&file).unwrap()).await.unwrap();
        assert_eq!(outcome, Outcome::Unknown);
        assert_eq!(probe.freshness.missing(), 0);
        assert_eq!(probe.freshness.answers(), BTreeMap::from([("connect".to_owned(), 1)]));
        let mut settled = Vec::new();
        ledger::read(&file, |line| {
            if let Line::Settled(it) = line {
                settled.push((it.outcome, it.status));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(settled, [(Outcome::Unknown, None)]);
    }
}
