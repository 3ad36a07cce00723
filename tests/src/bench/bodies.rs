//! Requests with bodies of a wanted size, made of the recordings.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};

use super::load::{Head, Requests};
use super::sessions;
use crate::fleet::body::Encoding;
use crate::recordings::envelope::{Envelope, Event};
use crate::recordings::{Session, seed};
use crate::stack::Environment;

/// How many different bodies there are of a size: enough that none is in a cache by chance.
const BODIES: u64 = 64;

/// Events that are looked at for one body: those that would make it too large are passed over.
const EVENTS_LOOKED_AT: usize = 10_000;

/// Requests to an environment's gateway, with bodies as [`of_events`] makes them.
///
/// # Errors
/// See [`of_events`].
pub(super) fn requests(
    environment: &Environment,
    size_bytes: usize,
    encoding: Encoding,
) -> Result<Requests> {
    let bodies = of_events(size_bytes, encoding)?;
    Ok(Requests { head: head(environment, encoding)?, bodies })
}

/// What stands before bodies of batches to an environment's gateway.
///
/// # Errors
/// When the environment's key cannot be a header.
pub(super) fn head(environment: &Environment, encoding: Encoding) -> Result<Head> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    headers.insert(AUTHORIZATION, format!("Bearer {}", environment.key()).parse()?);
    if let Some(encoded) = encoding.content_encoding() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoded));
    }
    Ok(Head { path: Uri::from_static("/v1/batches"), headers })
}

/// Bodies of batches of events, each within a tenth of `size_bytes` before it is encoded.
///
/// # Errors
/// When the recordings cannot be read, or do not come to the size.
fn of_events(size_bytes: usize, encoding: Encoding) -> Result<Vec<Bytes>> {
    let sessions = sessions::usual()?;
    let (least, most) = (size_bytes * 9 / 10, size_bytes * 11 / 10);
    // One after the other, and again from the beginning: all kinds of events have their share.
    let events: Vec<&Event> = sessions.iter().flat_map(Session::events).collect();
    let mut events = events.into_iter().cycle();
    let mut replays = sessions.iter().map(|session| &session.replay).cycle();
    let mut bodies = Vec::new();
    for number in 0..BODIES {
        let mut replay = replays.next().context("no recording")?.clone();
        replay.replay_id = seed::uuid(0, number, replay.replay_id);
        let mut envelope = Envelope { replay, events: Vec::new(), webstates: Vec::new() };
        let mut bytes = serde_json::to_vec(&envelope)?.len();
        for event in events.by_ref().take(EVENTS_LOOKED_AT) {
            let seq = Some(envelope.events.len() as u64);
            let event = Event { seq, webstate_hash: None, ..event.clone() };
            let more = serde_json::to_vec(&event)?.len() + 1;
            if bytes + more <= most {
                bytes += more;
                envelope.events.push(event);
            }
            if bytes >= least {
                break;
            }
        }
        ensure!(bytes >= least, "no events make a body of {size_bytes} bytes");
        bodies.push(Bytes::from(encoding.encode(serde_json::to_vec(&envelope)?)?));
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_wanted_size_and_hold_events() {
        for size_bytes in [1 << 10, 8 << 10, 100 << 10] {
            let bodies = of_events(size_bytes, Encoding::Plain).unwrap();
            assert_eq!(bodies.len() as u64, BODIES);
            for body in bodies {
                let ratio = body.len() as f64 / size_bytes as f64;
                assert!((0.89..1.11).contains(&ratio), "{} for {size_bytes}", body.len());
                let envelope: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert!(!envelope["events"].as_array().unwrap().is_empty());
            }
        }
    }
}
