//! The demo: recordings go in at one end, and what comes out at the other is compared with them.
//!
//! | module | holds |
//! |---|---|
//! | `target` | the Tapedeck that the demo plays to: one that runs, or one of its own |
//! | `rehearsal` | at which times the recordings are played (pure) |
//! | `playing` | one playing of all recordings, until it is in Postgres |
//! | `comparison` | what was sent against what the tables hold (pure) |
//! | `freshness` | how old events were once stored, from the writer's histogram (pure) |
//! | `monthly` | the reporter's figures against a count of the rows |
//! | `screen` | what is shown |

mod comparison;
mod freshness;
mod monthly;
mod playing;
mod rehearsal;
mod screen;
mod target;

use anyhow::Context;
use common::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::fleet::Speed;
use crate::recordings::{self, Session};
use crate::stack::Addresses;
use crate::stack::ports::PortOptions;
use playing::Playing;
use screen::step;
use target::Target;

/// What a run of the demo is like.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// The ports of a Tapedeck that goes on running afterwards; without them nothing does.
    pub keep: Option<PortOptions>,
    /// How fast the recordings pass the first time.
    pub speed: Speed,
}

/// Plays the sample recordings twice and shows what became of them; true if everything agrees
/// with what was sent, and the second time has added nothing.
///
/// # Errors
/// When something could not be done at all, or `stop` was cancelled; nothing that the demo has
/// started is left behind then.
pub async fn run(options: DemoOptions, stop: CancellationToken) -> anyhow::Result<bool> {
    let target = Target::find_or_start(options.keep, &stop).await?;
    let shown = tokio::select! {
        shown = show(target.addresses(), options.speed, &stop) => shown,
        failure = target.failure() => Err(failure),
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    let agrees = match shown {
        Ok(agrees) => agrees,
        Err(error) => {
            // Why the demo has failed says more than how stopping may have failed then.
            let _ = target.abandon().await;
            return Err(error);
        }
    };
    screen::verdict(agrees);
    if options.keep.is_some() {
        screen::addresses(target.addresses());
    }
    target.finish().await?;
    Ok(agrees)
}

async fn show(
    addresses: &Addresses,
    speed: Speed,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let database = target::sql(addresses).await?;
    let recordings = recordings::own()?;
    screen::recordings(&recordings);
    let sessions = at_their_times(recordings, &database).await?;

    let playing = Playing::run(addresses, &database, &sessions, speed, stop).await?;
    let monthly =
        step("The reporter has counted", monthly::count(addresses, &database, &sessions)).await?;
    screen::playing(&playing);
    screen::monthly(&monthly);

    let again = Playing::run(addresses, &database, &sessions, Speed::Max, stop).await?;
    screen::again(&again);
    Ok(playing.agrees() && monthly.agrees() && again.agrees() && again.new_rows() == 0)
}

/// The sessions as they are played: see [`rehearsal`].
async fn at_their_times(
    recordings: Vec<Session>,
    database: &tokio_postgres::Client,
) -> anyhow::Result<Vec<Session>> {
    let stored = rehearsal::stored_start(database, &recordings).await.context("replays")?;
    let micros = rehearsal::shift_micros(&recordings, stored, Timestamp::now());
    Ok(recordings.into_iter().map(|session| session.shifted(micros)).collect())
}
