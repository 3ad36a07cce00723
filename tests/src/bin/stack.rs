//! Runs a whole Tapedeck on this machine: Kafka, Postgres, the services, and if wanted Prometheus.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use tests::stack::ports::PortOptions;
use tests::stack::prometheus::PrometheusOptions;
use tests::stack::supervisor::{self, DEFAULT_NAME, Home, State};

/// Runs a whole Tapedeck on this machine: Kafka, Postgres and the services. Its data goes when it
/// stops.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a stack and keep it running until SIGTERM or SIGINT.
    Up(UpOptions),
    /// Stop a stack that runs in the background.
    Down(Name),
}

#[derive(Debug, Args)]
struct Name {
    /// Name of the stack: several can run side by side. The addresses are written to
    /// .local/NAME/env, those of the default one to .local/env.
    #[arg(long, env = "TAPEDECK_STACK_NAME", default_value = DEFAULT_NAME)]
    name: String,
}

#[derive(Debug, Args)]
struct UpOptions {
    #[command(flatten)]
    name: Name,

    #[command(flatten)]
    ports: PortOptions,

    #[command(flatten)]
    prometheus: PrometheusOptions,

    /// Run in the background; return once everything is ready.
    #[arg(long)]
    detach: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Options::parse().command {
        Action::Up(options) => up(&options).await,
        Action::Down(Name { name }) => {
            let was_running = supervisor::stop(&Home::new(&name)?).await?;
            println!("{}", if was_running { "stopped" } else { "no stack is running" });
            Ok(())
        }
    }
}

async fn up(options: &UpOptions) -> Result<()> {
    let home = Home::new(&options.name.name)?;
    let stop = common::shutdown::on_signals()?;
    if options.detach {
        if matches!(home.state()?, State::Running { .. }) {
            println!("the stack runs already:\n");
        } else {
            println!("starting; what happens is written to {}\n", home.log_file().display());
        }
        let addresses =
            supervisor::run_detached(&home, options.ports, options.prometheus, &stop).await?;
        print!("{}", addresses.to_shell());
        println!("\nThese are in {}.", home.addresses_file().display());
        return Ok(());
    }
    supervisor::run(&home, options.ports, options.prometheus, &stop, |event| println!("{event}"))
        .await
}
