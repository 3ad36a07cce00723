//! Starts services again that end by themselves, as whoever runs them in production does, and
//! tells.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::execute::Tracks;
use super::kind::{GATEWAYS, Service, Track, WRITERS};
use super::world::{World, name};

/// How often the services are looked after.
const INTERVAL: Duration = Duration::from_millis(500);
/// The end of a log that is told.
const SHOWN_LOG_LINES: usize = 12;

/// Looks after the standing services until `stop`; gives what ended by itself.
pub(super) async fn supervise(
    world: &World,
    tracks: &Tracks,
    stop: &CancellationToken,
) -> Vec<String> {
    let standing: Vec<_> =
        (0..GATEWAYS).map(Track::Gateway).chain((0..WRITERS).map(Track::Writer)).collect();
    let mut ends = Vec::new();
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        for track in &standing {
            // Whoever holds the track is at work on the service.
            let lock = tracks.lock(*track);
            if let Ok(_held) = lock.try_lock()
                && let Some(end) = revive(world, *track).await
            {
                ends.push(end);
            }
        }
    }
    ends
}

/// Starts the service of a track again if it has ended, or a fault could not; says how it did.
pub(super) async fn revive(world: &World, track: Track) -> Option<String> {
    let (service, number) = match track {
        Track::Gateway(number) => (Service::Gateway, number),
        Track::Writer(number) => (Service::Writer, number),
        _ => return None,
    };
    let name = name(service, number);
    let ended = match world.roster.get(&name) {
        Ok(running) => {
            let status = running.process().exit_status().ok()??;
            let log = running.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n");
            format!("{name} ended by itself: {status}\n{end}")
        }
        Err(_) => format!("{name} was not started again"),
    };
    Some(match world.start_standing(service, number).await {
        Ok(_) => ended,
        Err(error) => format!("{ended}\nnor could it be started: {error:#}"),
    })
}
