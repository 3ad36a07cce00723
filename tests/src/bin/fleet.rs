//! Plays recorded sessions through a gateway as many recorders at once would.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser};
use common::options::{CheckOptions, Problems, Secret, read_secret_file};
use common::time::Timestamp;
use tests::fleet::{self, FleetOptions, Speed, Unruliness};
use tests::ledger::Ledger;
use tests::recordings::{self, Cast, CloneOptions};

/// Recorders at work at once where nothing but the gateway sets the pace.
const UNPACED_CONCURRENCY: usize = 64;

/// Plays recorded sessions through a gateway as many recorders at once would: batches every 2 to
/// 10 seconds of recording time, page states negotiated first and sometimes late, every encoding,
/// retries as the recorder API asks for them.
#[derive(Debug, Parser)]
#[command(name = "fleet", version)]
struct Options {
    /// The gateways, separated by commas: a recorder goes on to the next where one answers 503 or
    /// not at all.
    #[arg(
        long,
        env = "GATEWAY_URL",
        default_value = "http://localhost:8080",
        value_delimiter = ','
    )]
    gateway_url: Vec<String>,

    /// The key to show to it.
    #[arg(long, env = "TAPEDECK_KEY", hide_env_values = true)]
    key: Option<Secret>,

    /// A file that holds the key.
    #[arg(long, env = "TAPEDECK_KEY_FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,

    /// Play this many copies of the recordings under fresh ids, instead of each once as it is.
    #[arg(long, env = "TAPEDECK_FLEET_RECORDERS")]
    recorders: Option<usize>,

    /// How many recorders are at work at once; without it all, or 64 at the highest speed.
    #[arg(long, env = "TAPEDECK_FLEET_CONCURRENCY")]
    concurrency: Option<NonZeroUsize>,

    /// Seconds of recording that pass in a second; 0 or max: as fast as the gateway answers.
    #[arg(long, env = "TAPEDECK_FLEET_SPEED", default_value = "1")]
    speed: Speed,

    /// The share of page states, from 0 to 1, that repeat from copy to copy.
    #[arg(long, env = "TAPEDECK_FLEET_DUPLICATE_PAGE_STATES", default_value_t = 1.0)]
    duplicate_page_states: f64,

    /// When the copies end, RFC 3339; without it now.
    #[arg(long, env = "TAPEDECK_FLEET_ENDING_AT", value_parser = Timestamp::parse_rfc3339)]
    ending_at: Option<Timestamp>,

    /// What ids and choices are derived from. The same seed and the same --ending-at give the
    /// same ids.
    #[arg(long, env = "TAPEDECK_FLEET_SEED", default_value_t = 1)]
    seed: u64,

    /// How long to go on resending a batch that is neither acknowledged nor refused, in seconds.
    #[arg(long, env = "TAPEDECK_FLEET_PATIENCE_SECONDS",
        default_value_t = fleet::options::DEFAULT_PATIENCE.as_secs())]
    patience_seconds: u64,

    /// How long to wait for an answer, in seconds.
    #[arg(long, env = "TAPEDECK_FLEET_REQUEST_TIMEOUT_SECONDS",
        default_value_t = fleet::options::DEFAULT_REQUEST_TIMEOUT.as_secs())]
    request_timeout_seconds: u64,

    #[command(flatten)]
    unruliness: UnrulinessOptions,

    /// Write what is sent, and what becomes of it, to this file (JSON lines).
    #[arg(long, env = "TAPEDECK_FLEET_LEDGER")]
    ledger: Option<PathBuf>,

    /// A folder with recordings; without it the samples, and those in ../shared/recordings.
    #[arg(long, env = "TAPEDECK_FLEET_RECORDINGS")]
    recordings: Option<PathBuf>,
}

/// How far recorders stray from sending each batch once and in order.
#[derive(Debug, Args)]
#[command(next_help_heading = "Unruliness (shares of batches, from 0 to 1)")]
struct UnrulinessOptions {
    /// Send these once more after they were acknowledged.
    #[arg(long, env = "TAPEDECK_FLEET_DUPLICATED", default_value_t = 0.0)]
    duplicated: f64,

    /// Hold these back while later ones go.
    #[arg(long, env = "TAPEDECK_FLEET_DELAYED", default_value_t = 0.0)]
    delayed: f64,

    /// Send these at the same time as the one after.
    #[arg(long, env = "TAPEDECK_FLEET_REORDERED", default_value_t = 0.0)]
    reordered: f64,

    /// Give these up after an answer that leaves open whether they arrived.
    #[arg(long, env = "TAPEDECK_FLEET_ABANDONED", default_value_t = 0.0)]
    abandoned: f64,

    /// Put an event of the type `unwritable` into these.
    #[arg(long, env = "TAPEDECK_FLEET_UNWRITABLE", default_value_t = 0.0)]
    unwritable: f64,
}

impl UnrulinessOptions {
    fn shares(&self) -> Unruliness {
        let Self { duplicated, delayed, reordered, abandoned, unwritable } = *self;
        Unruliness { duplicated, delayed, reordered, abandoned, unwritable }
    }
}

impl CheckOptions for Options {
    fn check(&self, problems: &mut Problems) {
        if let Err(problem) = self.key() {
            problems.add(problem);
        }
        problems.require(
            (0.0..=1.0).contains(&self.duplicate_page_states),
            "--duplicate-page-states must be between 0 and 1",
        );
        problems.require(
            self.unruliness.shares().is_valid(),
            "--duplicated, --delayed, --reordered, --abandoned and --unwritable must each be \
             between 0 and 1",
        );
        problems.require(
            self.request_timeout_seconds > 0,
            "--request-timeout-seconds must be at least 1",
        );
        problems.require(self.recorders != Some(0), "--recorders must be at least 1");
        problems.require(
            self.recorders.is_some() || self.duplicate_page_states >= 1.0,
            "--duplicate-page-states needs --recorders: recordings as they are keep their pages",
        );
    }
}

impl Options {
    fn cast(&self) -> anyhow::Result<Cast> {
        let sessions = match &self.recordings {
            Some(folder) => recordings::from_folder(folder)?,
            None => recordings::all()?,
        };
        Ok(match self.recorders {
            None => Cast::as_recorded(sessions),
            Some(count) => {
                let options = CloneOptions {
                    seed: self.seed,
                    ending_at: self.ending_at.unwrap_or_else(Timestamp::now),
                    duplicate_page_states: self.duplicate_page_states,
                };
                Cast::copies(sessions, count, options)
            }
        })
    }

    fn key(&self) -> Result<Option<Secret>, String> {
        match &self.key_file {
            Some(path) => read_secret_file(path).map(Some),
            None => Ok(self.key.clone()),
        }
    }

    fn fleet(&self, recorders: usize) -> anyhow::Result<FleetOptions> {
        let concurrency = match self.speed {
            Speed::Times(_) => NonZeroUsize::new(recorders).unwrap_or(NonZeroUsize::MIN),
            Speed::Max => NonZeroUsize::MIN.saturating_add(UNPACED_CONCURRENCY - 1),
        };
        Ok(FleetOptions {
            gateway_urls: self.gateway_url.clone(),
            key: self.key().map_err(anyhow::Error::msg)?,
            concurrency: self.concurrency.unwrap_or(concurrency),
            speed: self.speed,
            patience: Duration::from_secs(self.patience_seconds),
            request_timeout: Duration::from_secs(self.request_timeout_seconds),
            unruliness: self.unruliness.shares(),
            seed: self.seed,
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options: Options = common::options::parse();
    let stop = common::shutdown::on_signals()?;
    let cast = options.cast().context("recordings")?;
    let fleet = options.fleet(cast.len())?;
    let ledger = options.ledger.as_deref().map(Ledger::create).transpose().context("ledger")?;
    let progress = fleet::progress_bar(cast.events());
    let report =
        fleet::run(&cast, &fleet, ledger.map(Arc::new), progress.clone(), stop.clone()).await?;
    progress.finish_and_clear();
    println!("{report}");
    let complete = report.is_complete() && !stop.is_cancelled();
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
