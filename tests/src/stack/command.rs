//! One-off commands of the services' programs.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::environment::Environment;
use super::service::Program;

/// How long a one-off command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);

/// A one-off command about to be run.
#[derive(Debug)]
#[must_use]
pub struct CommandBuilder<'a> {
    environment: &'a Environment,
    program: Program,
    file: Option<PathBuf>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl<'a> CommandBuilder<'a> {
    pub(super) fn new(environment: &'a Environment, program: Program) -> Self {
        Self { environment, program, file: None, arguments: Vec::new(), variables: Vec::new() }
    }

    /// Runs the program in another file, such as another version's.
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Adds arguments.
    pub fn arguments<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a setting by its environment variable; the later of two wins, also over the
    /// environment's own.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Sets several settings as [`Self::variable`] does one.
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When the program has not been built or does not end in time. That it fails is no error
    /// here: see [`CommandOutput::success`].
    pub async fn run(self) -> Result<CommandOutput> {
        let Self { environment, program, file, arguments, variables } = self;
        let line = format!("{} {}", program.name(), arguments.join(" "));
        let output = tempfile::NamedTempFile::new_in(environment.folder())?;
        let launch = environment.launch(program, file, variables)?;
        let process = launch.arguments(arguments).output(output.path()).start()?;
        let status = process.wait_for_exit(COMMAND_WITHIN).await?;
        let stdout = std::fs::read(output.path())?;
        Ok(CommandOutput { line, status, stdout, stderr: process.log() })
    }
}

/// How a one-off command ended.
#[derive(Debug)]
pub struct CommandOutput {
    line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error: its log and its messages.
    pub stderr: String,
}

impl CommandOutput {
    /// The standard output of a command that must have succeeded, as text.
    ///
    /// # Errors
    /// When it failed, with its standard error; when its output is not UTF-8.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status.success(),
            "`{}` failed ({}):\n{}",
            self.line,
            self.status,
            self.stderr
        );
        String::from_utf8(self.stdout).context("the output is not UTF-8")
    }
}
