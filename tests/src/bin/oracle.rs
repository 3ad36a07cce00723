//! Compares the ledger of a finished run with what Kafka and Postgres hold.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use common::options::{CheckOptions, Problems, Secret, read_secret_file};
use tests::oracle::{self, Subject};
use tests::stack::postgres;
use tests::stack::records::Records;

/// Compares the ledger of a finished run with what Kafka and Postgres hold: prints a table, and
/// exits 1 if anything is lost, doubled, changed, invented or unfinished.
#[derive(Debug, Parser)]
#[command(name = "oracle", version)]
struct Options {
    /// The ledger that `fleet --ledger` or a fault run has written.
    #[arg(long, env = "TAPEDECK_LEDGER")]
    ledger: PathBuf,

    /// The database's address.
    #[arg(long, env = "TAPEDECK_DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,

    /// A file that holds the database's address.
    #[arg(long, env = "TAPEDECK_DATABASE_URL_FILE", conflicts_with = "database_url")]
    database_url_file: Option<PathBuf>,

    /// Kafka's addresses, separated by commas.
    #[arg(long, env = "TAPEDECK_KAFKA_BROKERS")]
    brokers: String,

    /// What stands before each topic's name.
    #[arg(long, env = "TAPEDECK_TOPIC_PREFIX", default_value = "")]
    topic_prefix: String,

    /// The writers' consumer group.
    #[arg(long, env = "TAPEDECK_CONSUMER_GROUP")]
    consumer_group: String,
}

impl CheckOptions for Options {
    fn check(&self, problems: &mut Problems) {
        if let Err(problem) = self.database_url() {
            problems.add(problem);
        }
    }
}

impl Options {
    fn database_url(&self) -> Result<Secret, String> {
        match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(path)) => read_secret_file(path),
            (None, None) => Err("--database-url or --database-url-file is needed".to_owned()),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options: Options = common::options::parse();
    let url = options.database_url().map_err(anyhow::Error::msg)?;
    let subject = Subject {
        sql: postgres::connect(url.expose()).await.context("the database")?,
        records: Records::new(&options.brokers),
        topic_prefix: options.topic_prefix,
        consumer_group: options.consumer_group,
    };
    let verdict = oracle::examine(&options.ledger, &subject).await?;
    println!("{verdict}");
    Ok(if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
