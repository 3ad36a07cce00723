//! A Kafka broker of this machine, from its Maven artifacts.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::launch::Launch;
use super::paths;
use super::ports::{self, free_port};
use super::process::Process;
use super::tuning::Tuning;

/// How long the one download may take.
const FETCH_WITHIN: Duration = Duration::from_secs(600);
/// How long one of Kafka's tools may take.
const TOOL_WITHIN: Duration = Duration::from_secs(60);
/// How long a broker may take until it answers. Seconds usually; machines are busy.
const START_WITHIN: Duration = Duration::from_secs(90);
/// How long a broker may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How long one question whether it answers may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Any UUID will do, as the cluster has one node and nothing else joins it.
const CLUSTER_ID: &str = "VGFwZWRlY2tMb2NhbEthZg";

/// A broker and its data.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    files: Files,
    port: u16,
}

/// What a broker has besides what all have.
#[derive(Debug, Default)]
pub(super) struct Additions {
    /// Where clients are told to come to, `host:port`, if it is not the broker's own address.
    pub(super) advertised: Option<String>,
    /// `,NAME://host:port` each.
    pub(super) listeners: String,
    /// Properties, each with its line's end.
    pub(super) properties: String,
    /// Arguments of Kafka's `StorageTool format`.
    pub(super) format: Vec<String>,
}

/// Where a broker's files are.
#[derive(Debug)]
pub(super) struct Files {
    libraries: PathBuf,
    folder: PathBuf,
    tuning: Tuning,
}

impl Kafka {
    /// Starts a new broker with its data in a folder below `parent`, on the given port or else a
    /// free one, and waits until it answers.
    ///
    /// # Errors
    /// When Kafka cannot be fetched or does not come up.
    pub async fn start(parent: &Path, port: Option<u16>, tuning: Tuning) -> Result<Self> {
        let start =
            async |port| Self::start_with(parent, port, tuning, &Additions::default()).await;
        ports::start_on(port, start).await.context("Kafka does not start")
    }

    /// Starts a new broker that tells its clients to come to `advertised`, `host:port`, from where
    /// a relay may lead to its own port.
    ///
    /// # Errors
    /// When Kafka cannot be fetched or does not come up.
    pub async fn start_behind(
        parent: &Path,
        port: u16,
        advertised: &str,
        tuning: Tuning,
    ) -> Result<Self> {
        let additions =
            Additions { advertised: Some(advertised.to_owned()), ..Additions::default() };
        let start = Self::start_with(parent, port, tuning, &additions);
        start.await.context("Kafka does not start")
    }

    /// The same on this port alone, with additions to what all brokers have.
    pub(super) async fn start_with(
        parent: &Path,
        port: u16,
        tuning: Tuning,
        additions: &Additions,
    ) -> Result<Self> {
        let libraries = fetch(parent).await?;
        let folder = parent.join(format!("kafka-{port}"));
        let files = Files::new(&libraries, folder, tuning);
        let (broker, controller_port) = (address(port), free_port()?);
        let Additions { advertised, listeners, properties, format } = additions;
        let advertised = advertised.as_ref().unwrap_or(&broker);
        let own = format!(
            "listeners=PLAINTEXT://{broker},CONTROLLER://127.0.0.1:{controller_port}{listeners}\n\
             advertised.listeners=PLAINTEXT://{advertised},CONTROLLER://127.0.0.1:{controller_port}{listeners}\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n\
             {properties}"
        );
        files.write_properties(&own)?;
        let format = format.iter().map(String::as_str);
        files.format(&["--standalone"].into_iter().chain(format).collect::<Vec<_>>()).await?;
        let process = files.start(port).await?;
        Ok(Self { process, files, port })
    }

    /// What clients begin with, `host:port`.
    pub fn brokers(&self) -> String {
        address(self.port)
    }

    /// The broker's process, to freeze it or read its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where its files are.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Stops the broker in good order.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Signal::SIGTERM, STOP_WITHIN).await.map(drop)
    }

    /// Ends the broker at once (SIGKILL).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts the broker again after [`Self::stop`] or [`Self::kill`], on the same port and data,
    /// and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = self.files.start(self.port).await?;
        Ok(())
    }
}

impl Files {
    /// Those of a broker below `folder`, which is made with its properties.
    pub(super) fn new(libraries: &Path, folder: PathBuf, tuning: Tuning) -> Self {
        Self { libraries: libraries.to_owned(), folder, tuning }
    }

    /// Writes what all local brokers have in common, and then what is this broker's `own`; of a
    /// property that stands twice the later counts.
    pub(super) fn write_properties(&self, own: &str) -> Result<()> {
        let common = paths::repository().join("deploy/local/kafka/server.properties");
        let common = fs::read_to_string(&common)
            .with_context(|| format!("cannot read {}", common.display()))?;
        let data = self.data();
        fs::create_dir(&self.folder)?;
        fs::write(self.properties(), format!("{common}\n{own}log.dirs={}\n", data.display()))?;
        Ok(())
    }

    /// Makes the data folder; `arguments` are those of Kafka's `StorageTool format`.
    pub(super) async fn format(&self, arguments: &[&str]) -> Result<()> {
        let tool = "kafka.tools.StorageTool";
        let format = [tool, "format", "-t", CLUSTER_ID, "-c"].map(Into::into);
        let arguments = arguments.iter().map(Into::into);
        let all = format.into_iter().chain([self.properties().into_os_string()]).chain(arguments);
        self.run_tool("kafka-format", all).await.map(drop)
    }

    /// Runs one of Kafka's command-line tools, the first of `arguments`, to its end.
    pub(super) async fn run_tool(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<String> {
        let tool = self.java(name).arguments(arguments).start()?;
        let status = tool.wait_for_exit(TOOL_WITHIN).await?;
        anyhow::ensure!(status.success(), "{name}: {status}{}", tool.end_of_log());
        Ok(tool.log())
    }

    /// Starts the broker and waits until it answers on `port`.
    pub(super) async fn start(&self, port: u16) -> Result<Process> {
        let process = self.launch()?;
        process.wait_until("it answers", START_WITHIN, async || answers(port).await).await?;
        Ok(process)
    }

    /// Starts the node without waiting for anything.
    pub(super) fn launch(&self) -> Result<Process> {
        self.java("kafka")
            .arguments(["kafka.Kafka".into(), self.properties()])
            .start()
            .context("is Java 17 or newer installed?")
    }

    /// Makes a script that runs one of Kafka's command-line tools, as Kafka's own do.
    pub(super) fn tool_script(&self, class: &str) -> Result<PathBuf> {
        let words = [java().into_os_string()].into_iter().chain(self.java_arguments());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
        let script = self.folder.join(format!("{class}.sh"));
        fs::write(&script, format!("#!/bin/sh\nexec {} {class} \"$@\"\n", words.join(" ")))?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
        Ok(script)
    }

    fn java(&self, name: &str) -> Launch {
        Launch::new(name, java(), self.folder.join(format!("{name}.log")))
            .arguments(self.java_arguments())
    }

    fn java_arguments(&self) -> impl Iterator<Item = OsString> {
        let logging = paths::repository().join("deploy/local/kafka/log4j2.yaml");
        let options = self.tuning.jvm_options().iter().map(Into::into);
        let logging = format!("-Dlog4j2.configurationFile={}", logging.display()).into();
        options.chain([logging, "-cp".into(), self.libraries.join("*").into_os_string()])
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Everything that the broker keeps.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where a tool's own files may be put.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

pub(super) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The Java that `JAVA_HOME` names, else the one that `PATH` finds.
fn java() -> PathBuf {
    std::env::var_os("JAVA_HOME").map_or("java".into(), |home| Path::new(&home).join("bin/java"))
}

/// Fetches Kafka unless it is there; gives the folder of its libraries.
pub(super) async fn fetch(folder: &Path) -> Result<PathBuf> {
    let script = paths::repository().join("deploy/local/kafka/fetch.sh");
    // Several brokers may be started from one folder at once.
    let output = tempfile::Builder::new().prefix("kafka-libraries-").tempfile_in(folder)?;
    let fetching = Launch::new("kafka-fetch", script, folder.join("kafka-fetch.log"))
        .output(output.path())
        .start()?;
    let status = fetching.wait_for_exit(FETCH_WITHIN).await?;
    anyhow::ensure!(status.success(), "Kafka cannot be fetched{}", fetching.end_of_log());
    let libraries = fs::read_to_string(output.path())?;
    Ok(PathBuf::from(libraries.trim_end()))
}

/// Whether the broker answers questions about its topics.
async fn answers(port: u16) -> Option<()> {
    let question = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", address(port))
            .set("reconnect.backoff.max.ms", "100")
            .create()?;
        client.fetch_metadata(None, PROBE_TIMEOUT)
    });
    question.await.ok()?.ok().map(drop)
}
