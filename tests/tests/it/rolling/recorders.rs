//! Recorders that send all the time, and send again what they are told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Response;
use tests::stack::eventually;
use tokio_util::sync::CancellationToken;

use super::balancer::LoadBalancer;
use crate::gateway::support::envelope;

/// Events of a batch.
pub(super) const EVENTS: usize = 5;

/// Batches that are acknowledged between two restarts.
const BETWEEN: usize = 100;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a batch may be put off until somebody takes it.
const MOST_ATTEMPTS: usize = 60;

/// What recorders were answered, in batches.
#[derive(Debug, Default)]
pub(super) struct Answers {
    acknowledged: AtomicUsize,
    put_off: AtomicUsize,
}

impl Answers {
    /// Batches acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How often a recorder was told to send a batch again.
    pub(super) fn put_off(&self) -> usize {
        self.put_off.load(Ordering::Relaxed)
    }

    /// Waits until some more are acknowledged.
    pub(super) async fn go_on(&self) -> Result<()> {
        let begun = self.acknowledged();
        eventually("recorders are answered", PATIENCE, async || {
            let now = self.acknowledged();
            if now >= begun + BETWEEN { Ok(()) } else { Err(now) }
        })
        .await
    }
}

/// One recorder.
pub(super) struct Recorder {
    balancer: LoadBalancer,
    key: String,
    answers: Arc<Answers>,
    client: reqwest::Client,
}

impl Recorder {
    pub(super) fn new(balancer: LoadBalancer, key: &str, answers: Arc<Answers>) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
        Ok(Self { balancer, key: key.to_owned(), answers, client })
    }

    /// Sends batches until told to stop, each until it is acknowledged. Nobody is left without an
    /// answer, and every answer is one that a recorder knows what to do with.
    pub(super) async fn send(self, stop: CancellationToken) -> Result<()> {
        let mut turns = 0..;
        while !stop.is_cancelled() {
            let batch = envelope(EVENTS).to_string();
            let mut attempts = turns.by_ref().take(MOST_ATTEMPTS);
            loop {
                let turn = attempts.next().context("a batch is put off for ever")?;
                let url = self.balancer.pick(turn).await?;
                let request = self.client.post(&url).bearer_auth(&self.key).body(batch.clone());
                let Some(pause) = put_off(&request.send().await?)? else { break };
                self.answers.put_off.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pause).await;
            }
            self.answers.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How long to wait before the same batch is sent again; none where it is acknowledged.
fn put_off(answer: &Response) -> Result<Option<Duration>> {
    let status = answer.status().as_u16();
    if status == 200 {
        return Ok(None);
    }
    ensure!([429, 503].contains(&status), "{answer:?}");
    let seconds = answer.headers().get("retry-after").context("no Retry-After")?;
    Ok(Some(Duration::from_secs(seconds.to_str()?.parse()?)))
}
