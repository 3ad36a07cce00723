//! A fleet of recorders: plays sessions through a gateway as that many browsers would at once.
//!
//! | module | holds |
//! |---|---|
//! | [`options`] | what a run is like |
//! | `plan` | when which events and page states leave the recorder (pure) |
//! | `retry` | what a recorder does with an answer (pure) |
//! | `body` | envelopes as compressed request bodies |
//! | `client` | requests and their answers |
//! | `delivery` | one batch from its first request to its end |
//! | `recorder` | one recorder's session from beginning to end |
//! | [`unruly`] | how recorders stray from sending each batch once and in order (pure) |
//! | [`report`] | rates, latencies and bytes |

pub(crate) mod body;
mod client;
mod delivery;
pub mod options;
mod plan;
mod recorder;
pub mod report;
mod retry;
pub mod unruly;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::recordings::{Cast, seed};
use client::Client;
pub(crate) use client::without_answer;
pub use options::{FleetOptions, Speed};
use plan::BATCH_INTERVAL_SECONDS;
use recorder::Recorder;
pub use report::Report;
use report::Tally;
pub use unruly::Unruliness;

/// Why a fleet could not play to the end.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The gateway's address cannot be one.
    #[error("{0}")]
    Address(String),
    /// The ledger could not be written: what was sent would not be known.
    #[error("ledger: {0}")]
    Ledger(#[from] std::io::Error),
    /// A recorder ended in a way of its own: a mistake in this program.
    #[error("a recorder broke: {0}")]
    Recorder(#[from] tokio::task::JoinError),
}

/// What all recorders of a fleet share.
struct Shared {
    client: Client,
    ledger: Option<Arc<Ledger>>,
    tally: Tally,
    progress: ProgressBar,
    stop: CancellationToken,
    speed: Speed,
    patience: Duration,
    unruliness: Unruliness,
    seed: u64,
}

/// Plays every session of `cast`; the ledger, if there is one, gets what is sent and what becomes
/// of it, and `progress` counts settled events. Once `stop` is cancelled,
/// recorders end after the request at hand.
///
/// # Errors
/// See [`FleetError`]; what the gateway refuses is no error but part of the [`Report`].
pub async fn run(
    cast: &Cast,
    options: &FleetOptions,
    ledger: Option<Arc<Ledger>>,
    progress: ProgressBar,
    stop: CancellationToken,
) -> Result<Report, FleetError> {
    let shared = Arc::new(Shared {
        client: Client::new(&options.gateway_urls, options.key.clone(), options.request_timeout)
            .map_err(FleetError::Address)?,
        ledger,
        tally: Tally::new(),
        progress,
        stop,
        speed: options.speed,
        patience: options.patience,
        unruliness: options.unruliness,
        seed: options.seed,
    });
    let begun = Instant::now();
    let mut recorders = JoinSet::new();
    for number in 0..cast.len() {
        if recorders.len() >= options.concurrency.get()
            && let Some(ended) = recorders.join_next().await
        {
            ended??;
        }
        if shared.stop.is_cancelled() {
            break;
        }
        let recorder = Recorder {
            shared: Arc::clone(&shared),
            session: cast.session(number),
            number: number as u64,
            gateway: AtomicUsize::new(number % shared.client.gateways()),
        };
        recorders.spawn(recorder.play(begun + stagger(options, number as u64)));
    }
    while let Some(ended) = recorders.join_next().await {
        ended??;
    }
    Ok(shared.tally.report(begun.elapsed()))
}

/// How much later than the first a recorder begins: browsers do not send in step.
fn stagger(options: &FleetOptions, number: u64) -> Duration {
    let span = Duration::from_secs(BATCH_INTERVAL_SECONDS.end);
    let share = seed::generator(options.seed, "stagger", number).random_range(0.0..1.0);
    options.speed.wall_time(span.mul_f64(share))
}

/// A bar for [`run`] over `events` events; it hides itself where nobody watches.
pub fn progress_bar(events: u64) -> ProgressBar {
    let bar = ProgressBar::new(events);
    let template = "{bar:40.cyan/blue} {pos}/{len} events  {per_sec:.dim}  {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}
