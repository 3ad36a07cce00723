//! What the services can be told.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use clap::{Arg, Command, CommandFactory};
use ingest_gateway::options::GatewayOptions;
use reporter::options::ReporterOptions;
use writer::options::Cli as WriterOptions;

const HEAD: &str = "\
# Configuration

<!-- Written by `cargo run --package reference`; change the code, not this page. -->

Every setting is an environment variable and an option of the command line, which wins: \
`TAPEDECK_LANES=4 writer run` and `writer run --lanes 4` are the same. `--help` tells all of a \
command's. Where a setting takes a list, the option may be repeated, and the variable holds one a line.

`ingest-gateway serve --check-config`, `writer run --check-config` and `reporter serve --check-config` \
say whether a configuration is right, every mistake at once, and exit with 0 or 2. A service checks \
the same at its start. Neither needs Kafka or Postgres for it.

Secrets belong into files: `TAPEDECK_DATABASE_URL_FILE`, `TAPEDECK_KAFKA_PROPERTIES_FILE`. They are \
not shown in logs, errors or metrics, and refused as arguments, which everybody on a machine can \
read. The same holds for the headers of `OTEL_EXPORTER_OTLP_HEADERS`, for which OpenTelemetry has no \
file. Its variables keep their usual names, and count as not set when empty. \
[operations.md](operations.md#traces) tells what they are for.
";

/// Settings of a cluster with three brokers and a Postgres of its own, for each service.
pub const EXAMPLE: &str = "\
## Example: a production cluster

Three brokers with TLS and SCRAM, topics made beforehand, gateways behind a load balancer that needs ten \
seconds to notice a gateway that drains, writers of four lanes. What is not named keeps its default.

For all services:

```sh
TAPEDECK_LOG_FORMAT=json
```

For gateways and writers, `/etc/tapedeck/kafka.properties` with `security.protocol=SASL_SSL`, \
`sasl.mechanism=SCRAM-SHA-512`, `sasl.username` and `sasl.password`, and:

```sh gateway writer
TAPEDECK_KAFKA_BROKERS=kafka-1:9093,kafka-2:9093,kafka-3:9093
TAPEDECK_KAFKA_PROPERTIES_FILE=/etc/tapedeck/kafka.properties
```

For gateways; the orchestrator leaves 50 s between SIGTERM and SIGKILL:

```sh gateway
TAPEDECK_KEYS_FILE=/etc/tapedeck/keys.json
TAPEDECK_RATE_LIMIT_PER_SECOND=2000
TAPEDECK_DRAIN_DELAY_SECONDS=10
TAPEDECK_DRAIN_TIMEOUT_SECONDS=30
```

For writers and reporters, a file with the address of a role that may do no more than they need:

```sh writer reporter
TAPEDECK_DATABASE_URL_FILE=/etc/tapedeck/database-url
```

For writers; 40 s between SIGTERM and SIGKILL:

```sh writer
TAPEDECK_LANES=4
TAPEDECK_PAGE_LANES=1
```
";

/// A service, and the command that runs it.
struct Service {
    name: &'static str,
    command: Command,
}

/// A setting, and the services that have it.
struct Setting {
    variable: String,
    option: String,
    default: String,
    unit: &'static str,
    what: String,
    services: BTreeSet<&'static str>,
}

fn services() -> Result<[Service; 3]> {
    let service = |name, mut command: Command, run: &str| {
        // Hands down what all of its commands understand.
        command.build();
        let command = command.find_subcommand(run).cloned();
        let command = command.with_context(|| format!("{name} has no command {run}"))?;
        anyhow::Ok(Service { name, command })
    };
    Ok([
        service("gateway", GatewayOptions::command(), "serve")?,
        service("writer", WriterOptions::command(), "run")?,
        service("reporter", ReporterOptions::command(), "serve")?,
    ])
}

/// All settings, each once, in the order in which the services tell them.
fn settings() -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    for Service { name, command } in services()? {
        for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
            let setting = Setting::of(argument, name)?;
            match settings.iter_mut().find(|known| known.variable == setting.variable) {
                None => settings.push(setting),
                Some(known) => {
                    let alike = (&known.what, &known.default) == (&setting.what, &setting.default);
                    ensure!(alike, "{} is told in two ways", known.variable);
                    known.services.insert(name);
                }
            }
        }
    }
    Ok(settings)
}

/// The variables of all commands of all services, those included that run once.
pub fn variables() -> BTreeSet<String> {
    let services =
        [GatewayOptions::command(), WriterOptions::command(), ReporterOptions::command()];
    services.iter().flat_map(variables_of).collect()
}

fn variables_of(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(Arg::get_env);
    let own = own.map(|variable| variable.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables_of)).collect()
}

impl Setting {
    fn of(argument: &Arg, service: &'static str) -> Result<Self> {
        let variable = argument.get_env().and_then(std::ffi::OsStr::to_str);
        let variable = variable.context("a variable has no name")?.to_owned();
        let option = argument.get_long().with_context(|| format!("{variable} has no option"))?;
        let told = argument.get_long_help().map(ToString::to_string).unwrap_or_default();
        let (what, when) = told
            .split_once("\n\n")
            .with_context(|| format!("{variable} does not tell when to change it"))?;
        let mut what = format!("{what} {when}");
        let values: Vec<_> = argument
            .get_possible_values()
            .iter()
            .map(|it| format!("`{}`", it.get_name()))
            .collect();
        // A flag's are plain.
        if argument.get_action().takes_values() && !values.is_empty() {
            write!(what, " One of {}.", values.join(", "))?;
        }
        let default: Vec<_> =
            argument.get_default_values().iter().map(|it| it.to_string_lossy()).collect();
        let default = match default.join(",") {
            text if text.is_empty() => String::new(),
            text => format!("`{text}`"),
        };
        let unit = unit(&variable);
        let services = BTreeSet::from([service]);
        Ok(Self { variable, option: option.to_owned(), default, unit, what, services })
    }
}

/// The unit that a variable's name ends with.
fn unit(variable: &str) -> &'static str {
    const UNITS: [(&str, &str); 11] = [
        ("_BYTES", "bytes"),
        ("_MS", "milliseconds"),
        ("_SECONDS", "seconds"),
        ("_HOURS", "hours"),
        ("_MONTHS", "months"),
        ("_BYTES_PER_SECOND", "bytes a second"),
        ("_PER_SECOND", "requests a second"),
        // OpenTelemetry's names do not tell theirs.
        ("_DELAY", "milliseconds"),
        ("_TIMEOUT", "milliseconds"),
        ("_QUEUE_SIZE", "spans"),
        ("_BATCH_SIZE", "spans"),
    ];
    let found = UNITS.iter().find(|(ending, _)| variable.ends_with(ending));
    found.map_or("", |(_, unit)| unit)
}

/// The page.
///
/// # Errors
/// When a setting does not tell when to change it, or tells it in two ways.
pub fn page() -> Result<String> {
    const SECTIONS: [(&str, &[&str]); 6] = [
        ("All services", &["gateway", "reporter", "writer"]),
        ("Gateway and writer", &["gateway", "writer"]),
        ("Writer and reporter", &["reporter", "writer"]),
        ("Gateway", &["gateway"]),
        ("Writer", &["writer"]),
        ("Reporter", &["reporter"]),
    ];
    let settings = settings()?;
    let mut page = HEAD.to_owned();
    let mut told = 0;
    for (title, services) in SECTIONS {
        let services: BTreeSet<&str> = services.iter().copied().collect();
        write!(
            page,
            "\n## {title}\n\n| variable | default | unit | what, and when to change it |\n\
             |---|---|---|---|\n"
        )?;
        for setting in settings.iter().filter(|setting| setting.services == services) {
            let Setting { variable, default, unit, what, .. } = setting;
            writeln!(page, "| `{variable}` | {default} | {unit} | {what} |")?;
            told += 1;
        }
    }
    ensure!(told == settings.len(), "a setting is in no section");
    write!(page, "\n{EXAMPLE}")?;
    Ok(page)
}

/// The example's settings of a service, as a command line.
///
/// # Errors
/// When it sets something that the service does not have.
pub fn example(service: &str) -> Result<Vec<String>> {
    let settings = settings()?;
    let mut arguments = Vec::new();
    let mut applies = false;
    for line in EXAMPLE.lines() {
        if let Some(names) = line.strip_prefix("```sh") {
            applies = names.is_empty() || names.split_whitespace().any(|name| name == service);
        } else if line == "```" {
            applies = false;
        } else if let Some((variable, value)) = line.split_once('=').filter(|_| applies) {
            let setting = settings
                .iter()
                .find(|setting| setting.variable == variable && setting.services.contains(service));
            let setting = setting.with_context(|| format!("{service} has no {variable}"))?;
            arguments.push(format!("--{}={value}", setting.option));
        }
    }
    Ok(arguments)
}
