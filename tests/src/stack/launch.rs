//! Starting a program so that it does not outlive the process that starts it, whatever ends that
//! one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};

use anyhow::{Context, Result, bail};
use nix::unistd::User;

use super::process::Process;

/// Variables that a child gets from the environment that the stack runs in. Nothing else:
/// a `PGHOST` or `TAPEDECK_…` of the user's shell must not change what the stack does.
const INHERITED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "JAVA_HOME", "RUST_BACKTRACE"];

/// Runs the program unless whoever started it is gone already: from then on the kernel kills it
/// with its parent, but a parent that died before could not.
const RUN_UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

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
        Process::new(self.name, child, self.log, log_start)
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
