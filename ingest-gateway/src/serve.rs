//! The service as a whole: what it is made of, how it starts and how it stops.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use common::admin::{self, Health};
use common::heap;
use common::listen::bind;
use common::metrics::service_registry;
use common::repeats::Repeats;
use common::topics::{TopicError, ensure_once_reachable};
use common::traces::Traces;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;
use crate::budget::Budget;
use crate::gateway::Gateway;
use crate::health::GatewayHealth;
use crate::keys::store::{KeyStore, KeysWatch, reload_on_change};
use crate::metrics::{GatewayMetrics, gauge_value};
use crate::options::{DrainOptions, ServeOptions};
use crate::pages::PageMemory;
use crate::processor::Processor;
use crate::publish::Publisher;
use crate::rate_limit::RateLimits;
use crate::server::PublicListener;
use crate::tls::Tls;
use crate::{routes, server, tls};

/// What the service is called.
const SERVICE: &str = "ingest-gateway";

/// The ports that the service listens on.
#[derive(Debug)]
pub struct Listeners {
    public: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    /// Takes the ports, and logs which.
    ///
    /// # Errors
    /// Names the address that cannot be had.
    pub async fn bind(options: &ServeOptions) -> anyhow::Result<Self> {
        Ok(Self {
            public: bind("public", options.listen).await?,
            admin: bind("admin", options.admin_listen).await?,
        })
    }
}

/// How the service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every request in flight was answered and every record delivered or failed.
    Drained,
    /// The time for that was up before.
    NotDrained,
}

/// Serves until `stop`, then drains.
///
/// # Errors
/// What keeps the gateway from starting: no keys, settings that librdkafka does not take, topics
/// that are not as they must be.
pub async fn run(
    options: ServeOptions,
    listeners: Listeners,
    stop: CancellationToken,
) -> anyhow::Result<Ended> {
    let registry = service_registry(SERVICE)?;
    heap::register(&registry)?;
    let (gateway, keys_watch) = assemble(&options, &registry)?;
    let health = Arc::new(GatewayHealth::new(Arc::clone(&gateway.breaker), stop.clone()));
    let ended = CancellationToken::new();
    let _end_admin = ended.clone().drop_guard();

    let admin_health: Arc<dyn Health> = Arc::clone(&health) as _;
    let admin = admin::serve(listeners.admin, registry, admin_health, ended.clone());
    let mut admin = tokio::spawn(admin);
    let mut background = spawn_background(&gateway, keys_watch, Arc::clone(&health));
    let tls = Tls::open(&options.tls, &gateway.metrics)?.map(|(tls, contents)| {
        let every = Duration::from_secs(options.tls.tls_reload_seconds);
        let (watched, metrics) = (Arc::clone(&tls), gateway.metrics.clone());
        background.spawn(tls::reload_on_change(watched, contents, every, metrics));
        tls
    });
    let serving = Arc::clone(&gateway);
    let mut server = tokio::spawn(async move {
        let (router, close) = (routes::router(Arc::clone(&serving)), serving.draining.clone());
        let (connections, gap) = (options.connections, options.body.gap());
        let listener = PublicListener { listener: listeners.public, tls };
        server::serve(listener, router, connections, gap, &serving.metrics, close).await;
    });

    let until_stopped = async {
        let checked = check_topics(&options, &health, &gateway.breaker);
        if let Some(result) = stop.run_until_cancelled(checked).await {
            result.context("the topics cannot be used")?;
            stop.cancelled().await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        result = until_stopped => result?,
        _ = background.join_next() => bail!("a background task ended before its time"),
        _ = &mut admin => bail!("the admin port ended before its time"),
        _ = &mut server => bail!("the public port ended before its time"),
    }
    let result = drain(&gateway, options.drain, server).await?;
    ended.cancel();
    admin.await.context("the admin port failed")?.context("the admin port failed")?;
    Ok(result)
}

/// What goes on beside the requests, for ever.
fn spawn_background(
    gateway: &Arc<Gateway>,
    keys_watch: Option<KeysWatch>,
    health: Arc<GatewayHealth>,
) -> JoinSet<()> {
    let mut background = JoinSet::new();
    if let Some(watch) = keys_watch {
        let (keys, metrics) = (Arc::clone(&gateway.keys), gateway.metrics.clone());
        background.spawn(reload_on_change(watch, keys, metrics));
    }
    let gateway = Arc::clone(gateway);
    background.spawn(async move {
        let tidy = || {
            let entries = i64::try_from(gateway.memory.tidy()).unwrap_or(i64::MAX);
            gateway.metrics.page_memory_entries.set(entries);
        };
        health.beat(tidy).await;
    });
    background
}

/// What requests share, made from the settings.
fn assemble(
    options: &ServeOptions,
    registry: &Registry,
) -> anyhow::Result<(Arc<Gateway>, Option<KeysWatch>)> {
    let metrics = GatewayMetrics::with_series(registry)?;
    let rate_limits = RateLimits::new(options.rate_limit, options.body.wire_limit_bytes, &metrics);
    let (keys, keys_watch) = KeyStore::open(&options.keys, rate_limits, &metrics)?;
    let breaker = Arc::new(Breaker::new(metrics.kafka_available.clone()));
    let publisher = Publisher::new(
        &options.kafka,
        options.producer,
        options.limits,
        Arc::clone(&breaker),
        &metrics,
    )
    .map_err(anyhow::Error::msg)?;
    let in_flight_limit = options.requests.in_flight_limit_bytes;
    metrics.in_flight_limit_bytes.set(gauge_value(in_flight_limit));
    let entries = i64::try_from(options.page_memory.page_memory_entries).unwrap_or(i64::MAX);
    metrics.page_memory_limit_entries.set(entries);
    let gateway = Gateway {
        requests: options.requests,
        body: options.body,
        rules: options.rules.clone(),
        limits: options.limits,
        keys,
        budget: Budget::new(in_flight_limit, metrics.in_flight_bytes.clone()),
        processor: Processor::of_all_cores(),
        breaker,
        publisher,
        events_topic: options.topics.events(),
        webstates_topic: options.topics.webstates(),
        memory: PageMemory::new(options.page_memory),
        traces: Traces::start(&options.traces, SERVICE, registry)?,
        scheme: if options.tls.tls_certificate_file.is_some() { "https" } else { "http" },
        metrics,
        draining: CancellationToken::new(),
    };
    Ok((Arc::new(gateway), keys_watch))
}

/// Checks the topics, for as long as it takes to reach Kafka; from then on requests are let
/// through.
async fn check_topics(
    options: &ServeOptions,
    health: &GatewayHealth,
    breaker: &Breaker,
) -> Result<(), TopicError> {
    let failures = Repeats::default();
    let told = |error: &TopicError, _pause: Duration| {
        if let Some(left_out) = failures.failed(error) {
            tracing::warn!(%error, left_out, "topics not checked yet; trying again");
        }
        health.not_checked(error);
    };
    ensure_once_reachable(&options.kafka, &options.topics, options.limits, told).await?;
    breaker.checked();
    match failures.over() {
        None => tracing::info!("topics checked"),
        Some(over) => {
            let (failures, seconds) = (over.failures, over.seconds());
            tracing::info!(failures, seconds, "topics checked");
        }
    }
    Ok(())
}

/// Stops to take requests, and waits for those in flight and for the producer; in what is left of
/// the time, for the last spans.
async fn drain(
    gateway: &Arc<Gateway>,
    options: DrainOptions,
    server: JoinHandle<()>,
) -> anyhow::Result<Ended> {
    // Load balancers learn from the probe that this gateway is unready and go on to others.
    tokio::time::sleep(options.delay()).await;
    gateway.draining.cancel();
    let deadline = Instant::now() + options.timeout();
    let ended = drain_until(deadline, gateway, options, server).await?;
    gateway.traces.finish(deadline.saturating_duration_since(Instant::now())).await;
    Ok(ended)
}

async fn drain_until(
    deadline: Instant,
    gateway: &Arc<Gateway>,
    options: DrainOptions,
    server: JoinHandle<()>,
) -> anyhow::Result<Ended> {
    if let Ok(served) = tokio::time::timeout_at(deadline, server).await {
        served.context("the public port failed")?;
    } else {
        let deadline_seconds = options.timeout().as_secs();
        let in_flight_bytes = gateway.metrics.in_flight_bytes.get();
        tracing::warn!(
            deadline_seconds,
            in_flight_bytes,
            "not drained: requests are still in flight"
        );
        return Ok(Ended::NotDrained);
    }
    let producer = Arc::clone(gateway);
    let rest = deadline.saturating_duration_since(Instant::now());
    let flush = tokio::task::spawn_blocking(move || producer.publisher.flush(rest));
    match flush.await.context("flushing failed")? {
        Ok(()) => {
            tracing::info!("drained");
            Ok(Ended::Drained)
        }
        Err(error) => {
            let deadline_seconds = options.timeout().as_secs();
            tracing::warn!(%error, deadline_seconds, "not drained: records are still in the producer");
            Ok(Ended::NotDrained)
        }
    }
}
