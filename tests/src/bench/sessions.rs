//! The recordings that all load is made of.

use anyhow::Result;

use crate::recordings::{self, Moment, Session};

/// Longer data of an event are left out: nineteen in twenty have less than 1 kB, and the rest
/// are snapshots.
const USUAL_EVENT_BYTES: usize = 16 << 10;

/// All recordings without the few events that hold a whole page: most bytes would be theirs, and
/// what is measured would be how well pages are compressed.
///
/// # Errors
/// When the recordings cannot be read.
pub(super) fn usual() -> Result<Vec<Session>> {
    Ok(recordings::all()?.into_iter().map(of_usual_events).collect())
}

fn of_usual_events(session: Session) -> Session {
    let usual = |moment: &Moment| match moment {
        Moment::Event(event) => event.event_data.get().len() <= USUAL_EVENT_BYTES,
        Moment::Page(_) => true,
    };
    Session { moments: session.moments.into_iter().filter(usual).collect(), ..session }
}
