//! Starts services again that end by themselves, as whoever runs them in production does. The
//! roster notes their ends.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ends::Asked;
use super::kind::Track;
use super::standing::Standing;
use super::tracks::Tracks;
use super::world::World;

/// How often the services are looked after.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks after the standing services until `stop`.
pub(super) async fn supervise(world: &World, tracks: &Tracks, stop: &CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        for standing in Standing::all() {
            // Whoever holds the track is at work on the service.
            let lock = tracks.lock(standing.track());
            if let Ok(_held) = lock.try_lock() {
                revive(world, standing, Asked::Nothing).await;
            }
        }
    }
}

/// Starts a service again if it has ended, or a fault could not start it. `asked` is what a fault
/// has done to it.
pub(super) async fn revive(world: &World, standing: Standing, asked: Asked) {
    let name = standing.name();
    // The roster notes both an end that was not asked for and a start in vain.
    let ended = world.roster.ended(&name, asked).is_some();
    if ended || world.roster.get(&name).is_err() {
        let _ = world.start_standing(standing).await;
    }
}

/// Starts again what a fault that did not come off has broken on the way.
pub(super) async fn revive_all(world: &World, tracks: &[Track], asked: Asked) {
    for standing in Standing::all().filter(|standing| tracks.contains(&standing.track())) {
        revive(world, standing, asked).await;
    }
}
