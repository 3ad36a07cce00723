//! A Tapedeck that runs on its own until it is told to stop: `stack up` and `stack down`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::paths;
use super::ports::PortOptions;
use super::prometheus::PrometheusOptions;
use super::tapedeck::Tapedeck;
use super::wait::eventually;

/// The name of the stack whose files lie in `.local` itself.
pub const DEFAULT_NAME: &str = "default";

/// Names that stand for something else in `.local`.
const RESERVED_NAMES: [&str; 1] = ["kafka"];

/// How long a stack in the background may take to come up; a first start fetches Kafka.
const UP_WITHIN: Duration = Duration::from_secs(900);
/// How long it may take to stop: the services' drain, then Postgres, then Kafka.
const DOWN_WITHIN: Duration = Duration::from_secs(300);

/// What a stack says once everything is ready.
const READY: &str = "ready";

/// The files of a named stack, in the repository's `.local` folder.
#[derive(Clone, Debug)]
pub struct Home {
    name: String,
    folder: PathBuf,
}

/// Whether a named stack runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No process holds it.
    Stopped,
    /// A process starts or stops it.
    Changing {
        /// The process.
        pid: i32,
    },
    /// It is ready.
    Running {
        /// The process that looks after it.
        pid: i32,
        /// Where it is.
        addresses: Box<Addresses>,
    },
}

impl Home {
    /// Of the stack with that name.
    ///
    /// # Errors
    /// When the name is not of lower-case letters, digits and hyphens.
    pub fn new(name: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(
            !name.is_empty() && name.bytes().all(fits) && !RESERVED_NAMES.contains(&name),
            "a stack's name is of lower-case letters, digits and hyphens, and not `kafka`"
        );
        let local = paths::repository().join(".local");
        let folder = if name == DEFAULT_NAME { local } else { local.join(name) };
        Ok(Self { name: name.to_owned(), folder })
    }

    /// Where the stack's files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file with the addresses; there while the stack is ready.
    pub fn addresses_file(&self) -> PathBuf {
        self.folder.join("env")
    }

    /// What the stack in the background has said.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("stack.log")
    }

    /// Holds the number of the process that runs the stack, which keeps it locked.
    fn lock_file(&self) -> PathBuf {
        self.folder.join("stack.lock")
    }

    /// Whether the stack runs.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn state(&self) -> Result<State> {
        let mut lock = match File::open(self.lock_file()) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(State::Stopped);
            }
            Err(error) => return Err(error.into()),
        };
        match lock.try_lock_shared() {
            Ok(()) => return Ok(State::Stopped),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut pid = String::new();
        lock.read_to_string(&mut pid)?;
        let pid = pid.trim().parse().context("the stack has only begun to start: try again")?;
        match Addresses::read(&self.addresses_file()) {
            Ok(addresses) => Ok(State::Running { pid, addresses: Box::new(addresses) }),
            Err(_) => Ok(State::Changing { pid }),
        }
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.folder)?;
        let mut lock =
            OpenOptions::new().create(true).write(true).truncate(false).open(self.lock_file())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("the stack {} runs already", self.name),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(lock)
    }
}

/// Runs a stack in this process until `stop`. `report` is told what happens.
///
/// # Errors
/// When the stack runs already, cannot be started, a part of it ends by itself, or it does not
/// stop well.
pub async fn run(
    home: &Home,
    ports: PortOptions,
    prometheus: PrometheusOptions,
    stop: &CancellationToken,
    report: impl Fn(&str),
) -> Result<()> {
    let _lock = home.lock()?;
    remove_if_there(&home.addresses_file())?;
    let tapedeck = tokio::select! {
        started = Tapedeck::start(ports, prometheus, &report) => started?,
        // Dropping what has been started ends it.
        () = stop.cancelled() => return Ok(()),
    };
    tapedeck.addresses()?.write(&home.addresses_file())?;
    report(READY);
    let failure = tokio::select! {
        failure = tapedeck.failure() => Err(failure),
        () = stop.cancelled() => Ok(()),
    };
    remove_if_there(&home.addresses_file())?;
    report("stopping");
    let stopped = tapedeck.stop().await;
    failure.and(stopped)
}

/// Runs a stack in a process of its own (`stack up`), which outlives this one, and waits until it
/// is ready; does nothing when it is already. `stop` meanwhile stops it.
///
/// # Errors
/// When another process starts or stops the stack just now, or it does not come up, with what it
/// said.
pub async fn run_detached(
    home: &Home,
    ports: PortOptions,
    prometheus: PrometheusOptions,
    stop: &CancellationToken,
) -> Result<Addresses> {
    match home.state()? {
        State::Running { addresses, .. } => return Ok(*addresses),
        State::Changing { pid } => bail!("process {pid} starts or stops the stack {}", home.name),
        State::Stopped => {}
    }
    fs::create_dir_all(&home.folder)?;
    remove_if_there(&home.addresses_file())?;
    let log = File::create(home.log_file())?;
    // A session of its own: out of reach of the terminal's Ctrl-C and of its end.
    let mut child = Command::new("setsid")
        .arg(paths::built_program("stack")?)
        .args(["up", "--name", &home.name])
        .args(ports.to_arguments())
        .args(prometheus.to_arguments())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start setsid")?;
    let outcome = tokio::select! {
        outcome = come_up(home, &mut child) => outcome,
        () = stop.cancelled() => Err(anyhow!("interrupted")),
    };
    if outcome.is_err() && child.try_wait()?.is_none() {
        signal::kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        child.wait()?;
    }
    outcome
}

/// Waits until the stack that the child runs is ready.
async fn come_up(home: &Home, child: &mut Child) -> Result<Addresses> {
    let outcome = eventually("the stack is ready", UP_WITHIN, async || {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(Err(status));
        }
        match home.state() {
            Ok(State::Running { addresses, .. }) => Ok(Ok(*addresses)),
            Ok(state) => Err(format!("{state:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    outcome.map_err(|status| {
        let said = fs::read_to_string(home.log_file()).unwrap_or_default();
        anyhow!("the stack {} did not come up ({status}):\n{said}", home.name)
    })
}

/// Stops a stack and waits until it is gone; says whether there was one.
///
/// # Errors
/// When it does not stop in time.
pub async fn stop(home: &Home) -> Result<bool> {
    let pid = match home.state()? {
        State::Stopped => {
            remove_if_there(&home.addresses_file())?;
            return Ok(false);
        }
        State::Changing { pid } | State::Running { pid, .. } => pid,
    };
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM)
        .with_context(|| format!("cannot stop process {pid}"))?;
    eventually("the stack has stopped", DOWN_WITHIN, async || match home.state() {
        Ok(State::Stopped) => Ok(true),
        Ok(state) => Err(format!("{state:?}")),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}

fn remove_if_there(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
