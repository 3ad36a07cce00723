//! The services' processes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use reqwest::StatusCode;

use super::environment::Environment;
use super::metrics::Metrics;
use super::process::Process;
use super::wait::eventually;

/// How long a service may take until it listens.
const LISTEN_WITHIN: Duration = Duration::from_secs(60);
/// How long a service may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long a service may drain before it counts as stuck: more than its own deadline.
const DRAIN_WITHIN: Duration = Duration::from_secs(90);
/// How long an answer of an admin port may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// One of Tapedeck's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ingest-gateway`.
    Gateway,
    /// `writer`.
    Writer,
    /// `reporter`.
    Reporter,
}

impl Program {
    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "ingest-gateway",
            Self::Writer => "writer",
            Self::Reporter => "reporter",
        }
    }

    /// The subcommand that runs until it is told to stop.
    fn service_command(self) -> &'static str {
        match self {
            Self::Gateway | Self::Reporter => "serve",
            Self::Writer => "run",
        }
    }
}

/// A service about to be started.
#[derive(Debug)]
#[must_use]
pub struct ServiceBuilder<'a> {
    environment: &'a Environment,
    program: Program,
    file: Option<PathBuf>,
    variables: Vec<(String, String)>,
}

impl<'a> ServiceBuilder<'a> {
    pub(super) fn new(environment: &'a Environment, program: Program) -> Self {
        Self { environment, program, file: None, variables: Vec::new() }
    }

    /// Starts the program from another file, such as another version's.
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Sets a setting by its environment variable; the later of two wins, also over the
    /// environment's own.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Sets several settings as [`Self::variable`] does one.
    pub fn variables<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.variables.extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Starts the service and waits until it listens; whether it is ready is another question
    /// ([`Service::wait_ready`]).
    ///
    /// # Errors
    /// When the program has not been built, or ends or takes too long before it listens.
    pub async fn start(self) -> Result<Service> {
        let Self { environment, program, file, variables } = self;
        let launch = environment.launch(program, file, variables)?;
        let process = launch.arguments([program.service_command()]).start()?;
        let address = async |role| {
            let awaited = format!("it listens on its {role} port");
            process
                .wait_until(&awaited, LISTEN_WITHIN, async || listening(&process.log(), role))
                .await
        };
        let admin = address("admin").await?;
        let public = match program {
            Program::Gateway => Some(address("public").await?),
            Program::Writer | Program::Reporter => None,
        };
        // A proxy meant for the outside knows no port of this machine.
        let http = reqwest::Client::builder().no_proxy().timeout(ADMIN_TIMEOUT).build()?;
        Ok(Service { process, admin, public, http })
    }
}

/// Finds the address that a service logged once it listened.
fn listening(log: &str, role: &str) -> Option<SocketAddr> {
    log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(
        |event| {
            let is = |field: &str, value: &str| event[field] == *value;
            if is("message", "listening") && is("role", role) {
                event["address"].as_str()?.parse().ok()
            } else {
                None
            }
        },
    )
}

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    process: Process,
    admin: SocketAddr,
    public: Option<SocketAddr>,
    http: reqwest::Client,
}

impl Service {
    /// The admin port's address, `http://host:port`.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The admin port, `host:port`.
    pub fn admin_address(&self) -> String {
        self.admin.to_string()
    }

    /// The public port's address, `http://host:port`; of a service without one, the admin port's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The public port; of a service without one, the admin port.
    pub fn address(&self) -> SocketAddr {
        self.public.unwrap_or(self.admin)
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The process itself, to wait for its end or to send any signal.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it has logged, a JSON object a line.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its metrics now.
    ///
    /// # Errors
    /// When the admin port does not answer, or not with metrics.
    pub async fn metrics(&self) -> Result<Metrics> {
        let answer = self.http.get(format!("{}/metrics", self.admin_url())).send().await?;
        answer.error_for_status()?.text().await?.parse()
    }

    /// What `/readyz` answers now: the reason where it is not ready.
    ///
    /// # Errors
    /// When the admin port does not answer.
    pub async fn readiness(&self) -> Result<Result<(), String>> {
        self.probe("readyz").await
    }

    /// What `/livez` answers now: the reason where it makes no progress.
    ///
    /// # Errors
    /// When the admin port does not answer.
    pub async fn liveness(&self) -> Result<Result<(), String>> {
        self.probe("livez").await
    }

    async fn probe(&self, path: &str) -> Result<Result<(), String>> {
        let answer = self.http.get(format!("{}/{path}", self.admin_url())).send().await?;
        let passed = answer.status().is_success();
        let reason = answer.text().await?;
        Ok(if passed { Ok(()) } else { Err(reason) })
    }

    /// Switches a failpoint; see [`common::failpoint`].
    ///
    /// # Errors
    /// When the program was built without the feature `failpoints`, or takes no such action.
    pub async fn set_failpoint(&self, name: &str, actions: &str) -> Result<()> {
        let url = format!("{}/failpoints/{name}", self.admin_url());
        let answer = self.http.put(url).body(actions.to_owned()).send().await?;
        ensure!(
            answer.status() != StatusCode::NOT_FOUND,
            "{} has no failpoints: build it with --features common/failpoints",
            self.process.name()
        );
        let status = answer.status();
        ensure!(status.is_success(), "failpoint {name}: {}", answer.text().await?);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it takes too long or ends.
    pub async fn wait_ready(&self) -> Result<()> {
        let ready = async || matches!(self.readiness().await, Ok(Ok(()))).then_some(());
        self.process.wait_until("it is ready", READY_WITHIN, ready).await
    }

    /// Waits until its log contains a text.
    ///
    /// # Errors
    /// When it does not within `deadline`, or the service ends before.
    pub async fn wait_logged(&self, text: &str, deadline: Duration) -> Result<()> {
        let logged = async || self.log().contains(text).then_some(());
        self.process.wait_until(&format!("it logs {text:?}"), deadline, logged).await
    }

    /// Waits until it is stopped where it is.
    ///
    /// # Errors
    /// When it goes on for so long.
    pub async fn wait_frozen(&self, deadline: Duration) -> Result<()> {
        eventually("the process is stopped", deadline, async || {
            if self.process.is_frozen() { Ok(()) } else { Err("it runs") }
        })
        .await
    }

    /// Waits until the sum of a metric's series with these labels satisfies `holds`.
    ///
    /// # Errors
    /// When it does not within `deadline`.
    pub async fn wait_for_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        deadline: Duration,
        holds: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        eventually(&format!("{name}{labels:?}"), deadline, async || match self.metrics().await {
            Ok(metrics) => match metrics.sum(name, labels) {
                Some(value) if holds(value) => Ok(value),
                Some(value) => Err(value.to_string()),
                None => Err("no such series".to_owned()),
            },
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// Asks it to drain (SIGTERM) and waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        self.process.stop(Signal::SIGTERM, DRAIN_WITHIN).await
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Stops it where it is (SIGSTOP).
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.thaw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_log() {
        let log = r#"not JSON
{"level":"INFO","message":"listening","role":"public","address":"127.0.0.1:8080"}
{"level":"INFO","message":"listening","role":"admin","address":"127.0.0.1:9090"}
"#;
        assert_eq!(listening(log, "admin"), Some(SocketAddr::from(([127, 0, 0, 1], 9090))));
        assert_eq!(listening(log, "public"), Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
        assert_eq!(listening("", "admin"), None);
    }
}
