//! All services restarted one after the other while recorders send, as an orchestrator does it: the
//! new one is ready before the old one is told to go, and a load balancer sends to what is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tests::stack::{Environment, Service, Stack, eventually};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use crate::gateway::support::envelope;

/// Recorders, each of which sends as fast as it is answered.
const RECORDERS: usize = 16;
/// Events of a batch.
const EVENTS: usize = 5;
/// Gateways and writers at a time.
const REPLICAS: usize = 2;

/// How long a gateway goes on serving when it is told to go: the load balancer asks more often.
const DRAIN_DELAY: (&str, &str) = ("TAPEDECK_DRAIN_DELAY_SECONDS", "2");
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// Batches that are acknowledged between two restarts.
const BETWEEN: usize = 100;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the writers may take for what is left at the end.
const COMMITTED_WITHIN: Duration = Duration::from_secs(60);

/// Where a load balancer sends: the addresses of the gateways that were ready when it last asked.
#[derive(Clone, Default)]
struct LoadBalancer(Arc<RwLock<Vec<String>>>);

impl LoadBalancer {
    /// Asks the gateways whether they are ready.
    async fn probe(&self, gateways: &[Service]) -> Result<()> {
        let mut ready = Vec::new();
        for gateway in gateways {
            if gateway.readiness().await?.is_ok() {
                ready.push(format!("{}/v1/batches", gateway.url()));
            }
        }
        *self.0.write().await = ready;
        Ok(())
    }

    async fn pick(&self, turn: usize) -> Result<String> {
        let ready = self.0.read().await;
        ready.get(turn % ready.len().max(1)).cloned().context("no gateway is ready")
    }
}

/// What recorders were answered, in batches.
#[derive(Default)]
struct Answers {
    acknowledged: AtomicUsize,
    /// To be sent again.
    put_off: AtomicUsize,
}

impl Answers {
    /// Waits until some more are acknowledged.
    async fn go_on(&self) -> Result<()> {
        let begun = self.acknowledged.load(Ordering::Relaxed);
        eventually("recorders are answered", PATIENCE, async || {
            let now = self.acknowledged.load(Ordering::Relaxed);
            if now >= begun + BETWEEN { Ok(()) } else { Err(now) }
        })
        .await
    }
}

/// Sends batches until told to stop. Nobody is left without an answer, and no answer is an error of
/// the service.
async fn send(
    balancer: LoadBalancer,
    key: String,
    answers: Arc<Answers>,
    stop: CancellationToken,
) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
    for turn in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let url = balancer.pick(turn).await?;
        let batch = envelope(EVENTS).to_string();
        let answer = client.post(&url).bearer_auth(&key).body(batch).send().await?;
        let counted = match answer.status().as_u16() {
            200 => &answers.acknowledged,
            429 | 503 if answer.headers().contains_key("retry-after") => &answers.put_off,
            _ => anyhow::bail!("{answer:?}"),
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_one_after_the_other_refuses_nobody_and_loses_nothing() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let start_gateway =
        async || environment.gateway().variable(DRAIN_DELAY.0, DRAIN_DELAY.1).start().await;
    let ready = async |service: Service| {
        service.wait_ready().await?;
        anyhow::Ok(service)
    };
    let mut gateways = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..REPLICAS {
        gateways.push(ready(start_gateway().await?).await?);
        writers.push(ready(environment.writer().start().await?).await?);
    }
    let mut reporter = ready(environment.reporter().start().await?).await?;
    let balancer = LoadBalancer::default();
    balancer.probe(&gateways).await?;

    let (stop, answers) = (CancellationToken::new(), Arc::new(Answers::default()));
    let recorders = (0..RECORDERS).map(|_| {
        let key = environment.key().to_owned();
        let sending = send(balancer.clone(), key, Arc::clone(&answers), stop.clone());
        async { tokio::spawn(sending).await? }
    });
    let restarts = async {
        let stops = stop.clone().drop_guard();
        for writer in &mut writers {
            answers.go_on().await?;
            let old = std::mem::replace(writer, ready(environment.writer().start().await?).await?);
            ensure!(old.terminate().await?.success(), "{}", old.log());
        }
        for _ in 0..REPLICAS {
            answers.go_on().await?;
            gateways.push(ready(start_gateway().await?).await?);
            balancer.probe(&gateways).await?;
            let old = gateways.remove(0);
            let gone = old.terminate();
            tokio::pin!(gone);
            let status = loop {
                tokio::select! {
                    status = &mut gone => break status?,
                    () = tokio::time::sleep(PROBE_INTERVAL) => balancer.probe(&gateways).await?,
                }
            };
            ensure!(status.success(), "{}", old.log());
        }
        let old =
            std::mem::replace(&mut reporter, ready(environment.reporter().start().await?).await?);
        ensure!(old.terminate().await?.success(), "{}", old.log());
        drop(stops);
        Ok(())
    };
    tokio::try_join!(try_join_all(recorders), restarts)?;
    environment.wait_committed(COMMITTED_WITHIN).await?;
    let sql = environment.sql().await?;
    let count = "SELECT count(*), count(DISTINCT event_id) FROM events";
    let row = sql.query_one(count, &[]).await?;
    let (stored, distinct): (i64, i64) = (row.get(0), row.get(1));
    let events = |batches: &AtomicUsize| batches.load(Ordering::Relaxed) * EVENTS;
    let (acknowledged, put_off) = (events(&answers.acknowledged), events(&answers.put_off));
    println!("{acknowledged} events acknowledged, {put_off} put off, {stored} stored");
    // Nobody is sent to a gateway that is about to go, so nobody is put off.
    ensure!(put_off == 0 && usize::try_from(stored)? == acknowledged);
    ensure!(distinct == stored, "{distinct} of {stored} are distinct");
    Ok(())
}
