//! One recorder's session, from its first batch to its last.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::Shared;
use super::delivery::{Acknowledged, Delivery};
use super::plan::{self, Batch};
use super::unruly::Conduct;
use crate::ledger::UNWRITABLE_EVENT_TYPE;
use crate::recordings::envelope::{Capture, Envelope};
use crate::recordings::{Session, seed};

/// One recorder.
pub(super) struct Recorder {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    /// Its number in the fleet, from which its choices follow.
    pub(super) number: u64,
    /// The gateway that it sends to.
    pub(super) gateway: AtomicUsize,
}

impl Recorder {
    /// Plays the session, which begins at `start`.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(super) async fn play(self, start: Instant) -> io::Result<()> {
        let mut choices = seed::generator(self.shared.seed, "recorder", self.number);
        let batches = plan::batches(&self.session, &mut choices);
        let unruliness = self.shared.unruliness;
        let order = unruliness.order(batches.len(), &mut choices);
        let last = batches.len() - 1;
        let mut waiting: Vec<_> = batches
            .into_iter()
            .map(|batch| {
                let conduct = unruliness.conduct(batch.events.len(), &mut choices);
                Some((batch, conduct))
            })
            .collect();
        let mut acknowledged = Vec::new();
        for group in order {
            let mut deliveries = Vec::with_capacity(group.len());
            for number in group {
                let Some((batch, conduct)) = waiting[number].take() else { continue };
                if !self.wait_until(start + self.shared.speed.wall_time(batch.due)).await {
                    return Ok(());
                }
                deliveries.push(self.deliver(batch, number == last, conduct, number));
            }
            // What is sent once more is so while others go.
            let again = std::mem::take(&mut acknowledged);
            let (delivered, ()) = tokio::join!(try_join_all(deliveries), self.send_again(again));
            acknowledged.extend(delivered?.into_iter().flatten());
        }
        self.send_again(acknowledged).await;
        Ok(())
    }

    /// Delivers one batch; gives what must be sent once more.
    async fn deliver(
        &self,
        mut batch: Batch,
        is_last: bool,
        conduct: Conduct,
        number: usize,
    ) -> io::Result<Vec<Acknowledged>> {
        if let Some(event) = conduct.unwritable.and_then(|place| batch.events.get_mut(place)) {
            event.event_type = UNWRITABLE_EVENT_TYPE;
        }
        // Batches on their way at the same time must not take each other's choices.
        let purpose = format!("batch {number}");
        let choices = seed::generator(self.shared.seed, &purpose, self.number);
        let envelope = self.envelope(batch, is_last).await;
        let acknowledged = Delivery { recorder: self, conduct, choices }.deliver(envelope).await?;
        Ok(if conduct.duplicated { acknowledged } else { Vec::new() })
    }

    async fn send_again(&self, acknowledged: Vec<Acknowledged>) {
        for batch in acknowledged {
            if self.shared.stop.is_cancelled() {
                return;
            }
            batch.send_again(&self.shared).await;
        }
    }

    /// The batch as it will be sent: pages that the gateway has go without their content.
    async fn envelope(&self, batch: Batch, is_last: bool) -> Envelope {
        let mut replay = self.session.replay.clone();
        if !is_last {
            replay.end_time = None;
        }
        let hashes: BTreeSet<_> = batch.pages.iter().map(|page| page.html_hash).collect();
        let hashes: Vec<_> = hashes.into_iter().collect();
        let mut missing = match hashes.is_empty() {
            true => BTreeSet::new(),
            false => self.shared.client.missing(self.gateway(), &hashes).await,
        };
        let webstates: Vec<Capture> = batch
            .pages
            .iter()
            .map(|page| match missing.remove(&page.html_hash) {
                true => page.clone(),
                // Known, or sent with this very batch.
                false => page.without_content(),
            })
            .collect();
        self.shared.tally.pages(&batch.pages, &webstates);
        Envelope { replay, events: batch.events, webstates }
    }
}
