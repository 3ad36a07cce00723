//! Passwords on the command line, where every user of the machine can read them: refused.

use std::any::TypeId;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::kafka::Property;
use crate::options::{Problems, Secret};

/// Notes each option that holds a password and was given as an argument.
pub(crate) fn refuse(command: &Command, matches: &ArgMatches, problems: &mut Problems) {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        if matches.value_source(id) == Some(ValueSource::CommandLine)
            && holds_password(argument, matches)
        {
            let option = argument.get_long().unwrap_or(id);
            problems.add(format!(
                "--{option} holds a password, and everybody on this machine can read arguments: \
                 put it into a file, or into the environment"
            ));
        }
    }
    if let Some((name, matches)) = matches.subcommand()
        && let Some(subcommand) = command.find_subcommand(name)
    {
        refuse(subcommand, matches, problems);
    }
}

fn holds_password(argument: &Arg, matches: &ArgMatches) -> bool {
    let (id, kind) = (argument.get_id().as_str(), argument.get_value_parser().type_id());
    if kind == TypeId::of::<Secret>() {
        let mut secrets = matches.get_many::<Secret>(id).into_iter().flatten();
        secrets.any(|secret| has_password(secret.expose()))
    } else if kind == TypeId::of::<Property>() {
        matches.get_many::<Property>(id).into_iter().flatten().any(Property::is_secret)
    } else {
        false
    }
}

/// Whether a value lets whoever knows it in: an address, as Postgres' clients read it, with a password
/// in it, or anything else that is kept secret, such as a header with a token.
fn has_password(address: &str) -> bool {
    if !["postgres://", "postgresql://", "host="].iter().any(|it| address.starts_with(it)) {
        return true;
    }
    let after_scheme = address.split_once("://").map_or("", |(_, rest)| rest);
    let user = after_scheme.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || address.contains("password")
}

#[cfg(test)]
mod tests {
    use clap::{Args, Parser, Subcommand};

    use super::*;

    #[test]
    fn passwords_are_found_in_addresses() {
        fn check(address: &str, expected: bool) {
            assert_eq!(has_password(address), expected, "{address}");
        }
        check("postgres://localhost/tapedeck", false);
        check("postgres://tapedeck@localhost:5432/tapedeck", false);
        check("postgres:///tapedeck?host=/run/postgresql", false);
        check("host=localhost user=tapedeck", false);
        check("postgres://tapedeck:word@localhost/tapedeck", true);
        check("postgres://tapedeck:a@b@localhost/tapedeck", true);
        check("postgres://localhost/tapedeck?user=tapedeck&password=word", true);
        check("host=localhost password = word", true);
        check("authorization=Bearer%20word,referer=https://example.com", true);
    }

    #[derive(Debug, Parser)]
    struct Example {
        #[command(subcommand)]
        command: ExampleCommand,
    }

    #[derive(Debug, Subcommand)]
    enum ExampleCommand {
        Run(RunOptions),
    }

    #[derive(Debug, Args)]
    struct RunOptions {
        #[arg(long)]
        url: Option<Secret>,
        #[arg(long, env = "EXAMPLE_ADDRESS", default_value = "postgres://a:b@c/d")]
        address: Secret,
        #[arg(long)]
        kafka_property: Vec<Property>,
    }

    #[test]
    fn passwords_are_refused_as_arguments_and_not_shown() {
        use clap::CommandFactory;
        fn check(line: &str, expected: &[&str]) {
            let command = Example::command();
            let matches = command.clone().get_matches_from(line.split(' '));
            let mut problems = Problems::default();
            refuse(&command, &matches, &mut problems);
            let problems = problems.into_vec();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, option) in problems.iter().zip(expected) {
                assert!(problem.contains(option) && !problem.contains("hunter2"), "{problem}");
            }
        }
        check("example run", &[]);
        check("example run --url postgres://a@b/c --kafka-property linger.ms=5", &[]);
        check("example run --url postgres://a:hunter2@b/c", &["--url "]);
        check("example run --address host=b\u{a0}password=hunter2", &["--address "]);
        check(
            "example run --kafka-property linger.ms=5 --kafka-property sasl.password=hunter2",
            &["--kafka-property "],
        );
    }
}
