//! What must hold of every service once the last fault is healed and nothing is under way.

use std::time::Duration;

use anyhow::{Result, ensure};
use common::time::Timestamp;

use super::ends::Asked;
use super::probe::Probe;
use super::standing::Standing;
use super::world::World;
use crate::ledger::{Ledger, Outcome};
use crate::oracle::accounts::{GatewayAccounts, WriterAccounts};
use crate::recordings::{self, Cast, CloneOptions};
use crate::stack::eventually;

/// How long a gateway may take to acknowledge a batch.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// How long accounts may take to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// Sees each gateway acknowledge a recorded session in one batch, with its pages, asked directly:
/// recorders go on to the next where one never comes back. Gives what is wrong.
///
/// # Errors
/// When the ledger cannot be written.
pub(super) async fn gateways_acknowledge(world: &World, ledger: &Ledger) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let seed = rand::random();
    let clones = CloneOptions { seed, ending_at: Timestamp::now(), duplicate_page_states: 0.0 };
    let sessions = Cast::copies(recordings::own()?, Standing::gateways().count(), clones);
    for (number, standing) in Standing::gateways().enumerate() {
        let name = standing.name();
        let outcome = match world.roster.get(&name) {
            Ok(gateway) => {
                let (urls, key) = (vec![gateway.url()], world.environment.key().to_owned());
                let probe = Probe::new(urls, key, ACKNOWLEDGED_WITHIN)?;
                probe.send_envelope(&sessions.session(number).envelope(), 0, ledger).await?
            }
            Err(_) => Outcome::Unknown,
        };
        if outcome != Outcome::Acknowledged {
            findings.push(format!("{name} acknowledges nothing any more"));
        }
    }
    Ok(findings)
}

/// Sees that every standing service runs, is ready, and has closed its accounts; gives what is
/// wrong.
pub(super) async fn all_at_rest(world: &World) -> Vec<String> {
    let mut findings = Vec::new();
    for standing in Standing::all() {
        let name = standing.name();
        // Nobody looks after it any more; the roster notes its end.
        let _ = world.roster.ended(&name, Asked::Nothing);
        if let Err(error) = at_rest(world, standing).await {
            findings.push(format!("{name}: {error:#}"));
        }
    }
    findings
}

async fn at_rest(world: &World, standing: Standing) -> Result<()> {
    let service = world.roster.get(&standing.name())?;
    service.wait_ready().await?;
    eventually("its accounts are closed", CLOSED_WITHIN, async || {
        let metrics = service.metrics().await?;
        match standing {
            Standing::Gateway(_) => GatewayAccounts::of(&metrics)?.check_idle()?,
            Standing::Writer(_) => {
                let accounts = WriterAccounts::of(&metrics)?;
                accounts.check()?;
                ensure!(accounts.in_flight == 0.0, "nothing is under way, and yet {accounts:?}");
            }
            Standing::Reporter => {}
        }
        Ok(())
    })
    .await
}
