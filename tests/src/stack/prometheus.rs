//! A Prometheus that scrapes a Tapedeck and evaluates the project's rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use regex::{Captures, Regex};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::launch::Launch;
use super::paths;
use super::ports;
use super::process::Process;
use super::service::Program;

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/bin/prometheus";
/// The project's rules, in `deploy/prometheus`.
const RULES: [&str; 2] = ["recording-rules.yaml", "alerts.yaml"];
/// How often services are scraped and rules evaluated where nothing is hastened.
const INTERVAL: Duration = Duration::from_secs(15);
/// The highest pace: below a second between scrapes they would be most of what is measured.
const MAX_PACE: u32 = 15;

/// How long it may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long one of its answers may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a stack has a Prometheus, and how it is set up.
#[derive(Clone, Copy, Debug, Args)]
pub struct PrometheusOptions {
    /// Start Debian's Prometheus with the project's rules as well.
    #[arg(long)]
    pub with_prometheus: bool,

    /// Port of Prometheus; 0 is any free one.
    #[arg(long, env = "TAPEDECK_STACK_PROMETHEUS_PORT", default_value_t = 9090)]
    pub prometheus_port: u16,

    /// By how much the alerts' windows and durations, and the time between scrapes, are divided:
    /// to see in seconds what takes minutes; from 1 to 15.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PACE)))]
    pub alert_pace: u32,
}

impl PrometheusOptions {
    /// None is started.
    pub const NONE: Self = Self { with_prometheus: false, prometheus_port: 0, alert_pace: 1 };

    /// As the command line that gives the same.
    pub(super) fn to_arguments(self) -> Vec<String> {
        let mut arguments = vec![
            format!("--prometheus-port={}", self.prometheus_port),
            format!("--alert-pace={}", self.alert_pace),
        ];
        arguments.extend(self.with_prometheus.then(|| "--with-prometheus".to_owned()));
        arguments
    }
}

/// A running Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    api: Api,
}

#[derive(Clone, Debug)]
struct Api {
    http: reqwest::Client,
    url: String,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels and name.
    pub labels: serde_json::Map<String, serde_json::Value>,
    /// Its value now.
    pub value: f64,
}

/// An alert that is pending or fires.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Alert {
    /// Its labels; its name is `alertname`.
    pub labels: serde_json::Map<String, serde_json::Value>,
    /// `pending` or `firing`.
    pub state: String,
}

impl Alert {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").and_then(|name| name.as_str()).unwrap_or_default()
    }

    /// Whether it has held for as long as it must.
    pub fn is_firing(&self) -> bool {
        self.state == "firing"
    }
}

impl Prometheus {
    /// Starts one below `folder` that scrapes these admin ports, `host:port`.
    ///
    /// # Errors
    /// When it is not installed, or does not come up.
    pub async fn start(
        folder: &Path,
        options: PrometheusOptions,
        targets: &[(Program, String)],
    ) -> Result<Self> {
        ensure!(Path::new(PROGRAM).is_file(), "{PROGRAM} is missing: Debian's package prometheus");
        let folder = folder.join("prometheus");
        fs::create_dir_all(&folder)?;
        let rules = hastened_rules(&folder, options.alert_pace)?;
        let configuration = folder.join("prometheus.json");
        // JSON is YAML.
        fs::write(&configuration, configuration_of(&rules, targets, options.alert_pace))?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
        let wanted = (options.prometheus_port != 0).then_some(options.prometheus_port);
        ports::start_on(wanted, async |port| {
            let api = Api { http: http.clone(), url: format!("http://127.0.0.1:{port}") };
            let process = Launch::new("prometheus", PROGRAM, folder.join("prometheus.log"))
                .arguments([
                    format!("--config.file={}", configuration.display()),
                    format!("--storage.tsdb.path={}", folder.join("data").display()),
                    format!("--web.listen-address=127.0.0.1:{port}"),
                ])
                .start()?;
            let ready = async || api.is_ready().await.then_some(());
            process.wait_until("it is ready", START_WITHIN, ready).await?;
            Ok(Self { process, api })
        })
        .await
    }

    /// Its address, `http://host:port`.
    pub fn url(&self) -> &str {
        &self.api.url
    }

    /// The process itself.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What an expression comes to now.
    ///
    /// # Errors
    /// When the expression is malformed or Prometheus does not answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let Vector { result } =
            self.api.get("query", &[("query", expression)]).await.context(expression.to_owned())?;
        let sample = |series: Series| {
            let value = series.value.1.parse().context("a value is no number")?;
            anyhow::Ok(Sample { labels: series.metric, value })
        };
        result.into_iter().map(sample).collect()
    }

    /// The alerts that are pending or fire.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn alerts(&self) -> Result<Vec<Alert>> {
        let Alerts { alerts } = self.api.get("alerts", &[]).await?;
        Ok(alerts)
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: serde_json::Map<String, serde_json::Value>,
    /// When, and what.
    value: (f64, String),
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

impl Api {
    async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/-/ready", self.url)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), query)?;
        let answer = self.http.get(url).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        let Answer { data } = serde_json::from_str(&text)?;
        Ok(data)
    }
}

fn configuration_of(rules: &[PathBuf], targets: &[(Program, String)], pace: u32) -> String {
    let interval = format!("{}ms", (INTERVAL / pace).as_millis());
    let jobs: Vec<_> = targets
        .iter()
        .map(|(program, address)| {
            json!({"job_name": program.name(), "static_configs": [{"targets": [address]}]})
        })
        .collect();
    json!({
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": rules,
        "scrape_configs": jobs,
    })
    .to_string()
}

/// Copies of the project's rules with all windows and durations divided.
fn hastened_rules(folder: &Path, pace: u32) -> Result<Vec<PathBuf>> {
    let copy = |name: &str| {
        let source = paths::repository().join("deploy/prometheus").join(name);
        let text = fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        let target = folder.join(name);
        fs::write(&target, hasten(&text, pace)?)?;
        anyhow::Ok(target)
    };
    RULES.into_iter().map(copy).collect()
}

/// Divides the windows of ranges and the durations of alerts.
fn hasten(rules: &str, pace: u32) -> Result<String> {
    let durations =
        Regex::new(r"(?P<before>\[|for: |interval: |offset )(?P<count>\d+)(?P<unit>[smhdw])")?;
    let divided = |found: &Captures<'_>| {
        let count: u64 = found["count"].parse().unwrap_or_default();
        let seconds = match &found["unit"] {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => 7 * 86_400,
        };
        format!("{}{}ms", &found["before"], count * seconds * 1_000 / u64::from(pace))
    };
    // How old a process is compared with seconds.
    let ages = Regex::new(r"(?P<before>time\(\) - )(?P<seconds>\d+)")?;
    let younger = |found: &Captures<'_>| {
        let seconds: u64 = found["seconds"].parse().unwrap_or_default();
        format!("{}{}", &found["before"], seconds / u64::from(pace))
    };
    let rules = durations.replace_all(rules, divided);
    Ok(ages.replace_all(&rules, younger).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_durations_are_divided_and_nothing_else() {
        fn check(rule: &str, expected: &str) {
            assert_eq!(hasten(rule, 15).unwrap(), expected);
        }
        check("expr: rate(a_total[5m]) > 300", "expr: rate(a_total[20000ms]) > 300");
        check("for: 1h", "for: 240000ms");
        check("keep_firing_for: 15m", "keep_firing_for: 60000ms");
        check("a[1d] offset 30s", "a[5760000ms] offset 2000ms");
        check(
            "process_start_time_seconds > time() - 900",
            "process_start_time_seconds > time() - 60",
        );
        check("summary: older than 5m", "summary: older than 5m");
    }
}
