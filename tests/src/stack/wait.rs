//! Waiting for a condition, with a deadline and words for the case that it never holds.

use std::fmt::Display;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// How often a condition is looked at.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives `Ok`. Its `Err` is what it saw instead, for the message.
///
/// ```no_run
/// # async fn rows() -> i64 { 12 }
/// # async fn example() -> anyhow::Result<()> {
/// use std::time::Duration;
/// tests::stack::eventually("12 events are in the table", Duration::from_secs(30), async || {
///     let rows = rows().await;
///     if rows == 12 { Ok(()) } else { Err(format!("{rows} events")) }
/// })
/// .await
/// # }
/// ```
///
/// # Errors
/// When the condition does not hold within `deadline`: names what was awaited and what was seen
/// last. A condition that itself takes longer than the deadline is not waited for.
pub async fn eventually<T, S: Display>(
    awaited: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, S>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    let mut last_seen = None;
    loop {
        match tokio::time::timeout_at(end, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last_seen = Some(seen.to_string()),
            Err(_elapsed) => {}
        }
        if Instant::now() + POLL_INTERVAL >= end {
            let seen = last_seen.as_deref().unwrap_or("nothing: the question got no answer");
            bail!("not within {deadline:?}: {awaited}; last seen: {seen}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let value = eventually("three looks", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks) }
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }

    #[tokio::test]
    async fn the_message_names_what_was_awaited_and_what_was_seen() {
        let deadline = Duration::from_millis(50);
        let error =
            eventually("12 rows", deadline, async || Err::<(), _>("7 rows")).await.unwrap_err();
        assert_eq!(error.to_string(), "not within 50ms: 12 rows; last seen: 7 rows");
        let hangs = eventually("an answer", deadline, async || {
            std::future::pending::<Result<(), &str>>().await
        });
        assert!(hangs.await.unwrap_err().to_string().contains("got no answer"));
    }
}
