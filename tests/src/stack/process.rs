//! A child process: its log, its signals, its end. None of them outlives the process that
//! started it, whatever ends that one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, User};
use tokio::time::Instant;

use super::wait::POLL_INTERVAL;

/// Variables that a child gets from the environment that the stack runs in. Nothing else:
/// a `PGHOST` or `TAPEDECK_…` of the user's shell must not change what the stack does.
const INHERITED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "JAVA_HOME", "RUST_BACKTRACE"];

/// Runs the program unless whoever started it is gone already: from then on the kernel kills it
/// with its parent, but a parent that died before could not.
const RUN_UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// Lines of a log that are shown with an error.
const SHOWN_LOG_LINES: usize = 30;

/// A program about to be started.
#[derive(Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    user: Option<User>,
    log: PathBuf,
    output: Option<PathBuf>,
}

impl Launch {
    /// `name` is for messages. What the program writes is appended to the file `log`.
    pub fn new(name: &str, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            user: None,
            log: log.into(),
            output: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn variable(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables([(name.into(), value.into())])
    }

    /// Sets environment variables; of two with one name the later counts.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Runs the program as another user, if any is given; only root may.
    #[must_use]
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Sends the standard output to a file of its own; the log keeps the standard error.
    #[must_use]
    pub fn output(mut self, file: impl Into<PathBuf>) -> Self {
        self.output = Some(file.into());
        self
    }

    /// Starts the program, in a process group of its own so that a terminal's Ctrl-C reaches only
    /// the stack, which stops things in their order.
    ///
    /// # Errors
    /// When a file or the process cannot be made.
    pub fn start(self) -> Result<Process> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let output = match &self.output {
            Some(file) => {
                File::create(file).with_context(|| format!("cannot write {}", file.display()))?
            }
            None => log.try_clone()?,
        };
        let log_start = log.metadata()?.len();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(output).stderr(log).process_group(0);
        let child = spawn(command).with_context(|| format!("cannot start {}", self.name))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond i32")?);
        Ok(Process { name: self.name, pid, child: Mutex::new(child), log: self.log, log_start })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = &self.user {
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .arg("--clear-groups");
        }
        command.args(["sh", "-c", RUN_UNLESS_ORPHANED]).arg(std::process::id().to_string());
        command.arg(&self.program).args(&self.arguments).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Starts a command from a thread that lives as long as this process: the kernel's signal at the
/// parent's death comes already when the starting *thread* ends.
fn spawn(command: Command) -> Result<Child> {
    type Request = (Command, mpsc::SyncSender<std::io::Result<Child>>);
    static STARTER: LazyLock<std::io::Result<mpsc::Sender<Request>>> = LazyLock::new(|| {
        let (requests, received) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("process-starter".to_owned()).spawn(move || {
            for (mut command, answer) in received {
                // Who asked waits for the answer.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(requests)
    });
    let (answer, answered) = mpsc::sync_channel(1);
    match &*STARTER {
        Ok(requests) => requests.send((command, answer))?,
        Err(error) => bail!("no thread to start processes from: {error}"),
    }
    Ok(answered.recv()??)
}

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id. Means nothing once the process has ended.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What it has written to its log since it started.
    pub fn log(&self) -> String {
        let content = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(content.len());
        String::from_utf8_lossy(&content[start..]).into_owned()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?)
    }

    /// Sends a signal. A process that has ended gets none, so its number may be another's by then.
    ///
    /// # Errors
    /// When the process has ended, or the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = child.try_wait()? {
            bail!("{} has already ended: {status}", self.name);
        }
        signal::kill(self.pid, signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Stops it where it is, without its knowing (SIGSTOP).
    ///
    /// # Errors
    /// See [`Self::signal`].
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// See [`Self::signal`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Waits until `condition` gives something.
    ///
    /// # Errors
    /// When it does not `within` that time, or the process ends first; with the end of its log.
    pub async fn wait_until<T>(
        &self,
        awaited: &str,
        within: Duration,
        mut condition: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + within;
        loop {
            if let Ok(Some(value)) = tokio::time::timeout_at(end, condition()).await {
                return Ok(value);
            }
            if let Some(status) = self.exit_status()? {
                bail!("{} ended ({status}) before {awaited}{}", self.name, self.end_of_log());
            }
            if Instant::now() >= end {
                bail!("{}: {awaited} not within {within:?}{}", self.name, self.end_of_log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come `within` that time.
    pub async fn wait_for_exit(&self, within: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {within:?}{}", self.name, self.end_of_log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks it to end and waits until it has; does nothing when it has ended before.
    ///
    /// # Errors
    /// When it does not end `within` that time.
    pub async fn stop(&self, request: Signal, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        self.signal(request)?;
        self.wait_for_exit(within).await
    }

    /// Ends it at once (SIGKILL), also when frozen; does nothing when it has ended before.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        Ok(child.wait()?)
    }

    /// The last lines of its log, as the end of an error message.
    pub(super) fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
        format!("; the end of {}:\n{}", self.log.display(), shown.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.kill();
    }
}

/// Processes whose parent is `parent`, as `/proc` has them now.
pub(super) fn children_of(parent: i32) -> Vec<Pid> {
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// What `/proc/PID/stat` says from the state on: `PID (NAME) STATE PARENT …`, where the name may
/// hold anything.
fn stat(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}

/// Whether the process does anything still; one that only waits for its parent's question does
/// not.
pub(super) fn is_running(pid: Pid) -> bool {
    stat(pid.as_raw()).is_some_and(|stat| !stat.starts_with('Z'))
}
