//! What every process says of itself all the while, and how much memory it takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::oracle::accounts::Audit;
use crate::stack::Service;

/// How often each process is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long an answer may take; a frozen process has none.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Complaints that are kept word for word.
const KEPT_COMPLAINTS: usize = 20;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Scrapes, by the name of the service.
    pub scrapes: BTreeMap<String, u64>,
    /// How often they did not add up.
    pub complaint_count: u64,
    /// The first complaints.
    pub complaints: Vec<String>,
    /// The most resident memory of any process of that name, in bytes.
    pub memory_high_water_bytes: BTreeMap<String, u64>,
}

/// Watches all processes until `stop`.
pub(super) async fn watch(world: Arc<World>, stop: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    let mut audits: BTreeMap<i32, Audit> = BTreeMap::new();
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let running = world.roster.all();
        audits.retain(|pid, _| running.iter().any(|(_, service)| service.pid() == *pid));
        for (name, service) in running {
            // Before it is asked: one that cannot answer may be swollen.
            seen.note_memory(&name, &service);
            let scrape = tokio::time::timeout(ANSWER_TIMEOUT, service.metrics()).await;
            let Ok(Ok(metrics)) = scrape else { continue };
            *seen.scrapes.entry(name.clone()).or_default() += 1;
            if !audits.contains_key(&service.pid())
                && let Some(audit) = audit_of(&name)
            {
                audits.insert(service.pid(), audit);
            }
            if let Some(audit) = audits.get_mut(&service.pid())
                && let Err(complaint) = audit.check(&metrics)
            {
                seen.complain(format!("{name}: {complaint}"));
            }
        }
        for broker in world.cluster.all() {
            if let Ok(bytes) = broker.process().memory_high_water_bytes() {
                seen.raise_memory(&format!("broker-{}", broker.id), bytes);
            }
        }
    }
    seen
}

/// What a service's accounts are checked by; the reporter keeps none.
fn audit_of(name: &str) -> Option<Audit> {
    match name {
        _ if name.starts_with("gateway") => Some(Audit::of_gateway()),
        _ if name.starts_with("writer") => Some(Audit::of_writer()),
        _ => None,
    }
}

impl Seen {
    fn note_memory(&mut self, name: &str, service: &Service) {
        // It may have ended just now.
        if let Ok(bytes) = service.process().memory_high_water_bytes() {
            self.raise_memory(name, bytes);
        }
    }

    fn raise_memory(&mut self, name: &str, bytes: u64) {
        let high_water = self.memory_high_water_bytes.entry(name.to_owned()).or_default();
        *high_water = bytes.max(*high_water);
    }

    fn complain(&mut self, complaint: String) {
        self.complaint_count += 1;
        if self.complaints.len() < KEPT_COMPLAINTS {
            self.complaints.push(complaint);
        }
    }
}
