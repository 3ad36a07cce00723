//! Command lines and their checks: every option is also an environment variable, every mistake
//! is named at once.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser};

use crate::secret_arguments;

/// Exit code for a wrong command line or configuration, as clap has it.
const EXIT_USAGE: i32 = 2;

/// Mistakes found in a configuration, in the words that the operator reads.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes a mistake: which option, and why.
    pub fn add(&mut self, problem: impl fmt::Display) {
        self.0.push(problem.to_string());
    }

    /// Notes a mistake unless `holds`.
    pub fn require(&mut self, holds: bool, problem: impl fmt::Display) {
        if !holds {
            self.add(problem);
        }
    }

    /// All mistakes noted.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// Options that can be wrong in ways that no single value shows.
pub trait CheckOptions {
    /// Notes every mistake.
    fn check(&self, problems: &mut Problems);

    /// Whether nothing is wanted but to know of mistakes.
    fn is_check_only(&self) -> bool {
        false
    }
}

/// What every service can be told besides its own options.
#[derive(Clone, Copy, Debug, Args)]
pub struct CheckConfig {
    /// Say whether the configuration is right, every mistake at once, and do nothing else.
    #[arg(long, global = true)]
    pub check_config: bool,
}

/// Reads the command line and environment; on mistakes prints all of them and exits. Exits as well
/// when nothing but the check is wanted.
pub fn parse<C: Parser + CheckOptions>() -> C {
    match try_parse::<C>(std::env::args_os()) {
        Ok(options) if options.is_check_only() => {
            println!("the configuration is right");
            std::process::exit(0);
        }
        Ok(options) => options,
        Err(Refused::Clap(error)) => error.exit(),
        Err(Refused::Problems(problems)) => {
            for problem in &problems {
                eprintln!("error: {problem}");
            }
            eprintln!("\n{} mistake(s) in the configuration; see --help", problems.len());
            std::process::exit(EXIT_USAGE);
        }
    }
}

/// Why a command line was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// clap's own answer: help, version, an unknown option, a missing one.
    Clap(clap::Error),
    /// All values that are wrong.
    Problems(Vec<String>),
}

/// Reads a command line. clap stops at the first value it cannot read; to name them all, that
/// option is then taken as plain text and the command line read again, once per wrong option.
///
/// # Errors
/// See [`Refused`].
pub fn try_parse<C: Parser + CheckOptions>(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<C, Refused> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = without_empty_variables(C::command());
    let mut problems = Problems::default();
    loop {
        match command.clone().try_get_matches_from(&arguments) {
            Ok(matches) if problems.0.is_empty() => {
                let options = C::from_arg_matches(&matches).map_err(Refused::Clap)?;
                secret_arguments::refuse(&command, &matches, &mut problems);
                options.check(&mut problems);
                return match problems.0.is_empty() {
                    true => Ok(options),
                    false => Err(Refused::Problems(problems.0)),
                };
            }
            Ok(_) => return Err(Refused::Problems(problems.0)),
            Err(error) => match wrong_option(&error) {
                Some(option) if accept_as_text(&mut command, &option) => {
                    problems.add(first_line(&error));
                }
                _ if problems.0.is_empty() => return Err(Refused::Clap(error)),
                _ => return Err(Refused::Problems(problems.0)),
            },
        }
    }
}

/// OpenTelemetry's own variables count as not set when they are empty, as its specification says.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        let variable = argument.get_env().and_then(|name| name.to_str());
        variable.is_some_and(|name| {
            name.starts_with("OTEL_") && std::env::var_os(name).is_some_and(|it| it.is_empty())
        })
    };
    command
        .mut_args(|argument| match is_empty(&argument) {
            true => argument.env(clap::builder::Resettable::Reset),
            false => argument,
        })
        .mut_subcommands(without_empty_variables)
}

/// The long name of the option whose value could not be read.
fn wrong_option(error: &clap::Error) -> Option<String> {
    let kinds = [ErrorKind::ValueValidation, ErrorKind::InvalidValue];
    if !kinds.contains(&error.kind()) {
        return None;
    }
    match error.get(ContextKind::InvalidArg)? {
        // Looks like "--lanes <LANES>".
        ContextValue::String(usage) => {
            Some(usage.strip_prefix("--")?.split([' ', '=']).next()?.to_owned())
        }
        _ => None,
    }
}

/// Replaces the option's parser by one that takes any text, in the command or its subcommands.
fn accept_as_text(command: &mut clap::Command, long: &str) -> bool {
    let id = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(long))
        .map(|argument| argument.get_id().clone());
    if let Some(id) = id {
        let taken = std::mem::take(command);
        *command = taken.mut_arg(id, |argument| argument.value_parser(ValueParser::string()));
        return true;
    }
    command.get_subcommands_mut().any(|subcommand| accept_as_text(subcommand, long))
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A value that must not show in logs, errors or `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// Reads a secret from the file that an option `…_FILE` names, without the line end that editors
/// leave behind.
///
/// # Errors
/// Names the file and why it cannot be read.
pub fn read_secret_file(path: &Path) -> Result<Secret, String> {
    match std::fs::read_to_string(path) {
        Ok(content) => Ok(Secret(content.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[arg(long, default_value_t = 1)]
        lanes: u16,
        #[command(subcommand)]
        command: ExampleCommand,
    }

    #[derive(Debug, Subcommand)]
    enum ExampleCommand {
        Run(RunOptions),
    }

    #[derive(Debug, Args)]
    struct RunOptions {
        #[arg(long, default_value_t = 1)]
        rows: u32,
        #[arg(long, default_value_t = 1)]
        bytes: u32,
    }

    impl CheckOptions for Example {
        fn check(&self, problems: &mut Problems) {
            let ExampleCommand::Run(run) = &self.command;
            problems.require(self.lanes > 0, "--lanes must be at least 1");
            problems.require(run.rows <= run.bytes, "--rows must not exceed --bytes");
        }
    }

    fn check(line: &str, expected: &[&str]) {
        let arguments = line.split(' ').map(OsString::from);
        let problems = match try_parse::<Example>(arguments) {
            Ok(_) => vec![],
            Err(Refused::Problems(problems)) => problems,
            Err(Refused::Clap(error)) => vec![first_line(&error)],
        };
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for part in expected {
            assert!(
                problems.iter().any(|problem| problem.contains(part)),
                "{problems:?} should name {part}"
            );
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        check("example run", &[]);
        check("example --lanes x run --rows y --bytes -", &["--lanes", "--rows", "--bytes"]);
        check("example --lanes 0 run --rows 2", &["--lanes", "--rows"]);
        check("example run --unknown", &["--unknown"]);
    }

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "[secret]");
    }
}
