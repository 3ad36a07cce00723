//! At which times the recordings are played: as though the last of them had just ended. A database
//! that holds them already gets them with the times that it has them with, since other times would
//! make other events.

use common::time::Timestamp;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::recordings::Session;

/// Microseconds in a millisecond: a browser's clock shows no less.
const MICROS_PER_MILLI: i64 = 1_000;

/// The start of a replay that the database has.
pub(super) struct StoredStart {
    replay_id: Uuid,
    start_time: Timestamp,
}

/// Looks for any of the recordings in the database.
///
/// # Errors
/// When Postgres fails.
pub(super) async fn stored_start(
    database: &Client,
    recordings: &[Session],
) -> Result<Option<StoredStart>, tokio_postgres::Error> {
    let ids: Vec<Uuid> = recordings.iter().map(|session| session.replay.replay_id).collect();
    let query = "SELECT replay_id, start_time FROM replays WHERE replay_id = ANY ($1) LIMIT 1";
    let row = database.query_opt(query, &[&ids]).await?;
    let read = |row: tokio_postgres::Row| {
        let start: chrono::DateTime<chrono::Utc> = row.try_get(1)?;
        let start_time = Timestamp::from_micros(start.timestamp_micros());
        Ok(StoredStart { replay_id: row.try_get(0)?, start_time })
    };
    row.map(read).transpose()
}

/// How much later than they were recorded the recordings are played.
pub(super) fn shift_micros(
    recordings: &[Session],
    stored: Option<StoredStart>,
    now: Timestamp,
) -> i64 {
    let known = stored.and_then(|stored| {
        let recorded =
            recordings.iter().find(|session| session.replay.replay_id == stored.replay_id)?;
        Some(stored.start_time.micros() - recorded.replay.start_time.micros())
    });
    let end = recordings.iter().map(Session::end).max().unwrap_or(now);
    known.unwrap_or((now.millis() - end.millis()) * MICROS_PER_MILLI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::own;

    #[test]
    fn recordings_end_now_unless_they_are_stored_with_other_times() {
        let recordings = own().unwrap();
        let end = recordings.iter().map(Session::end).max().unwrap();
        let later = |micros: i64| Timestamp::from_micros(end.micros() + micros);
        assert_eq!(shift_micros(&recordings, None, later(5_000_000)), 5_000_000);
        assert_eq!(shift_micros(&recordings, None, later(-7_000_000)), -7_000_000);
        let replay = &recordings[3].replay;
        let start_time = Timestamp::from_micros(replay.start_time.micros() + 77_000);
        let stored = StoredStart { replay_id: replay.replay_id, start_time };
        assert_eq!(shift_micros(&recordings, Some(stored), later(5_000_000)), 77_000);
    }
}
