//! Prometheus beside a running Tapedeck, with the project's rules hastened: what it finds, which
//! alerts fire, and when they end.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde_json::{Value, json};
use tests::stack::prometheus::PrometheusOptions;
use tests::stack::{Environment, Program, Prometheus, Service, Stack, eventually, paths, ports};
use tokio_util::task::AbortOnDropHandle;

use crate::gateway::support::{Gateway, envelope, now_millis};

/// Minutes of an alert are so many times shorter.
const PACE: u32 = 15;

/// How long nothing may fire under load: what stands for a quarter of an hour.
const QUIET_FOR: Duration = Duration::from_secs(60);
/// How long an alert may take to fire or to end: what stands for half an hour.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often alerts are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two batches.
const SEND_INTERVAL: Duration = Duration::from_millis(20);

/// What fires when there is no writer: each for a reason of its own.
const WITHOUT_WRITERS: [&str; 2] = ["TapedeckServiceAbsent", "TapedeckAcceptedNotStored"];

/// A Tapedeck under load, and a Prometheus that watches it.
struct Watched {
    gateway: Gateway,
    /// The writer's admin port: each writer of the test takes the one before's place.
    writer_admin: String,
    _reporter: Service,
    prometheus: Prometheus,
}

impl Watched {
    /// Starts it, with a first writer.
    async fn start() -> Result<(Self, Service)> {
        let environment = Environment::new(Stack::shared().await?).await?;
        let writer_admin = format!("127.0.0.1:{}", ports::free_port()?);
        let writer = start_writer(&environment, &writer_admin).await?;
        let reporter = environment.reporter().start().await?;
        let gateway = Gateway::start_in(environment, &[]).await?;
        gateway.service.wait_ready().await?;
        let targets = [
            (Program::Gateway, gateway.service.admin_address()),
            (Program::Writer, writer_admin.clone()),
            (Program::Reporter, reporter.admin_address()),
        ];
        let options =
            PrometheusOptions { with_prometheus: true, prometheus_port: 0, alert_pace: PACE };
        let folder = gateway.environment.folder();
        let prometheus = Prometheus::start(folder, options, &targets).await?;
        Ok((Self { gateway, writer_admin, _reporter: reporter, prometheus }, writer))
    }

    /// Sends batches, with a page each, until it is dropped.
    fn load(&self) -> AbortOnDropHandle<Result<()>> {
        let request = self.gateway.post("/v1/batches", "");
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let mut batch = envelope(5);
                let page = format!("<!DOCTYPE html>{}", batch["replay"]["replay_id"]);
                batch["webstates"] = json!([{"html_content": page, "captured_at": now_millis()}]);
                let request = request.try_clone().context("a body is a stream")?;
                request.body(batch.to_string()).send().await?.error_for_status()?;
                tokio::time::sleep(SEND_INTERVAL).await;
            }
        }))
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> Result<BTreeSet<String>> {
        let alerts = self.prometheus.alerts().await?;
        let firing = alerts.iter().filter(|alert| alert.is_firing());
        Ok(firing.map(|alert| alert.name().to_owned()).collect())
    }
}

async fn start_writer(environment: &Environment, admin: &str) -> Result<Service> {
    let writer = environment.writer().variable("TAPEDECK_ADMIN_LISTEN", admin).start().await?;
    writer.wait_ready().await?;
    Ok(writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fires_under_load_and_what_fires_without_writers_ends_with_the_next() -> Result<()>
{
    let (watched, writer) = Watched::start().await?;
    let load = watched.load();
    eventually("all targets are up", PATIENCE, async || {
        let up = watched.prometheus.query("count(up == 1)").await;
        match up.map_err(|error| format!("{error:#}"))?.as_slice() {
            [count] if count.value == 3.0 => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await?;
    let begun = Instant::now();
    while begun.elapsed() < QUIET_FOR {
        let firing = watched.firing().await?;
        ensure!(firing.is_empty(), "{firing:?} after {:?}", begun.elapsed());
        ensure!(!load.is_finished(), "a batch was not taken");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    every_panel_shows_something(&watched.prometheus).await?;
    every_metric_of_the_page_is_there(&watched.prometheus).await?;
    every_query_of_the_runbook_is_understood(&watched).await?;

    ensure!(writer.terminate().await?.success(), "{}", writer.log());
    eventually("it is told that there is no writer", PATIENCE, async || {
        let firing = watched.firing().await.map_err(|error| format!("{error:#}"))?;
        let told = WITHOUT_WRITERS.iter().all(|alert| firing.contains(*alert));
        if told { Ok(()) } else { Err(format!("{firing:?}")) }
    })
    .await?;
    let _writer = start_writer(&watched.gateway.environment, &watched.writer_admin).await?;
    eventually("the alerts end", PATIENCE, async || {
        let firing = watched.firing().await.map_err(|error| format!("{error:#}"))?;
        let told = WITHOUT_WRITERS.iter().any(|alert| firing.contains(*alert));
        if told { Err(format!("{firing:?}")) } else { Ok(()) }
    })
    .await
}

/// Runs the queries of all panels of all dashboards.
async fn every_panel_shows_something(prometheus: &Prometheus) -> Result<()> {
    let folder = paths::repository().join("deploy/grafana/dashboards");
    let (mut queries, mut empty) = (0, Vec::new());
    for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        for expression in expressions(&dashboard) {
            queries += 1;
            if prometheus.query(&filled_in(&expression)?).await?.is_empty() {
                empty.push(format!("{}: {expression}", path.display()));
            }
        }
    }
    ensure!(queries > 50, "only {queries} queries");
    ensure!(empty.is_empty(), "these show nothing: {empty:#?}");
    Ok(())
}

/// Every `expr` in the dashboard.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// A query as Grafana would send it, for all jobs and instances.
fn filled_in(expression: &str) -> Result<String> {
    let mut query = expression.to_owned();
    for (variable, value) in
        [("$__rate_interval", "15s"), ("$__range", "1m"), ("$__interval", "5s")]
    {
        query = query.replace(variable, value);
    }
    Ok(Regex::new(r"\$(?:job|instance)\b|\$\{(?:job|instance)(?::\w+)?\}")?
        .replace_all(&query, ".*")
        .into_owned())
}

/// Asks what the runbook tells people to ask when they are called at night.
async fn every_query_of_the_runbook_is_understood(watched: &Watched) -> Result<()> {
    let page = fs::read_to_string(paths::repository().join("docs/runbook.md"))?;
    let blocks = |language: &str| {
        let block = Regex::new(&format!(r"(?ms)^ *```{language}\n(.*?)^ *```$"))?;
        anyhow::Ok(block.captures_iter(&page).map(|found| found[1].to_owned()).collect::<Vec<_>>())
    };
    let (of_prometheus, of_postgres) = (blocks("promql")?, blocks("sql")?);
    ensure!(of_prometheus.len() > 20 && of_postgres.len() > 1, "the page has fewer queries");
    for query in of_prometheus.iter().flat_map(|block| block.lines()) {
        watched.prometheus.query(query).await?;
    }
    let sql = watched.gateway.environment.sql().await?;
    for query in of_postgres {
        sql.simple_query(&query).await.with_context(|| query.clone())?;
    }
    Ok(())
}

/// Looks for each metric that `docs/metrics.md` describes.
async fn every_metric_of_the_page_is_there(prometheus: &Prometheus) -> Result<()> {
    let page = fs::read_to_string(paths::repository().join("docs/metrics.md"))?;
    let row = Regex::new(r"(?m)^\| `(\w+)` \| (\w+) \|")?;
    let mut missing = Vec::new();
    for found in row.captures_iter(&page) {
        let series = match &found[2] {
            "histogram" => format!("{}_count", &found[1]),
            _ => found[1].to_owned(),
        };
        if prometheus.query(&format!("count({series})")).await?.is_empty() {
            missing.push(series);
        }
    }
    ensure!(missing.is_empty(), "nobody exports these: {missing:?}");
    Ok(())
}
