//! Reading request bodies: within a size, within a time, and what becomes of those that nobody
//! wants to read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use clap::Args;
use common::limits::MIB;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::budget::Reservation;
use crate::problem::{Kind, Problem};
use crate::rate_limit::RateLimit;

/// How much of an unwanted body is read so that its sender gets to see the answer: closing a
/// connection on which data still arrives resets it, and the answer with it.
const DISCARD_LIMIT_BYTES: usize = 64 * MIB;

/// For how long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Limits of a body on its way.
#[derive(Clone, Copy, Debug, Args)]
pub struct BodyOptions {
    /// Largest body as it comes over the wire, in bytes; beyond it 413.
    ///
    /// Raise it for recorders that send larger batches; the bytes in flight must have room for the
    /// largest request.
    #[arg(long, env = "TAPEDECK_WIRE_LIMIT_BYTES", default_value_t = 8 * MIB)]
    pub wire_limit_bytes: usize,

    /// Largest body once decompressed, in bytes; beyond it 413.
    ///
    /// Lower it to need less memory, raise it for larger batches; the limits of bytes in flight and
    /// of the producer's queue follow it.
    #[arg(long, env = "TAPEDECK_DECOMPRESSED_LIMIT_BYTES", default_value_t = 32 * MIB)]
    pub decompressed_limit_bytes: usize,

    /// Seconds within which the whole body must have arrived; else 408.
    ///
    /// Raise it for recorders on slow lines with large batches.
    #[arg(long, env = "TAPEDECK_REQUEST_TIMEOUT_SECONDS", default_value_t = 30)]
    pub request_timeout_seconds: u64,

    /// Seconds without a byte of the body after which it is given up with 408; and after which a
    /// connection is given up whose client takes nothing of an answer.
    ///
    /// Lower it to let go of clients that hold connections without sending.
    #[arg(long, env = "TAPEDECK_REQUEST_GAP_SECONDS", default_value_t = 10)]
    pub request_gap_seconds: u64,
}

impl BodyOptions {
    /// The longest time without a byte.
    pub const fn gap(self) -> Duration {
        Duration::from_secs(self.request_gap_seconds)
    }
}

/// Reads a body as it comes over the wire; `reservation` holds its bytes, and `rate_limit` pays
/// for them: for all that are announced before the first is read, else for each chunk as it comes.
///
/// # Errors
/// [`Kind::TooLarge`], [`Kind::TooSlow`], [`Kind::TooManyBytes`], [`Kind::ByteRateLimited`], and
/// [`Kind::NotReadable`] when the connection breaks.
pub async fn read(
    headers: &HeaderMap,
    mut body: Body,
    options: BodyOptions,
    rate_limit: &RateLimit,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Problem> {
    let limit_bytes = options.wire_limit_bytes;
    let announced = announced_bytes(headers);
    if let Some(bytes) = announced {
        within_limit(bytes, limit_bytes)?;
    }
    let expected_bytes = announced.unwrap_or(0);
    // What is announced is held at once: better to refuse before the body than in its middle.
    reservation.grow(expected_bytes)?;
    rate_limit.take_bytes(expected_bytes, expected_bytes)?;
    let deadline = Instant::now() + Duration::from_secs(options.request_timeout_seconds);
    let gap = options.gap();
    let mut content = Vec::with_capacity(expected_bytes);
    loop {
        let frame = timeout_at(deadline, timeout(gap, body.frame())).await;
        let chunk = match frame {
            Err(_) => return Err(too_slow("not complete", options.request_timeout_seconds)),
            Ok(Err(_)) => return Err(too_slow("silent", options.request_gap_seconds)),
            Ok(Ok(None)) => return Ok(content),
            Ok(Ok(Some(Err(error)))) => {
                let detail = format!("the request's body broke off: {error}");
                return Err(Problem::new(Kind::NotReadable, detail));
            }
            Ok(Ok(Some(Ok(frame)))) => frame.into_data().unwrap_or_default(),
        };
        let bytes = content.len() + chunk.len();
        within_limit(bytes, limit_bytes)?;
        if bytes > expected_bytes {
            reservation.grow(chunk.len())?;
            rate_limit.take_bytes(chunk.len(), limit_bytes)?;
        }
        content.extend_from_slice(&chunk);
    }
}

/// The size that the request says its body has.
fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn within_limit(bytes: usize, limit_bytes: usize) -> Result<(), Problem> {
    if bytes <= limit_bytes {
        return Ok(());
    }
    let detail = format!("{bytes} bytes on the wire; the limit is {limit_bytes}");
    Err(Problem::new(Kind::TooLarge, detail))
}

fn too_slow(what: &str, seconds: u64) -> Problem {
    Problem::new(Kind::TooSlow, format!("the body was {what} after {seconds} seconds"))
}

/// A body that, dropped before its end, goes on to be read and thrown away for a while, beside
/// the answer.
struct DiscardedBody<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> {
    /// Empty once the rest must not be read.
    inner: Option<B>,
}

/// Makes the request's body one that is discarded in peace when nobody reads it.
pub fn discard_unread<B>(request: Request<B>) -> Request<Body>
where
    B: HttpBody<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    // To read would be to ask for a body that the client holds back until it is wanted.
    let held_back = request.headers().contains_key(EXPECT);
    request.map(|body| match held_back || body.is_end_stream() {
        true => Body::new(body),
        false => Body::new(DiscardedBody { inner: Some(body) }),
    })
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> HttpBody for DiscardedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(inner).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Send + Unpin + 'static> Drop for DiscardedBody<B> {
    fn drop(&mut self) {
        let Some(body) = self.inner.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // One such task a connection, each bounded in bytes and time.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(DISCARD_TIMEOUT, discard(body)));
        }
    }
}

async fn discard<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let mut discarded_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded_bytes += frame.data_ref().map_or(0, Bytes::len);
        if discarded_bytes > DISCARD_LIMIT_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::num::NonZeroU32;
    use std::ops::RangeInclusive;
    use std::sync::Arc;

    use futures::stream;
    use http_body_util::StreamBody;
    use prometheus::{IntGauge, Registry};

    use super::*;
    use crate::budget::Budget;
    use crate::metrics::GatewayMetrics;
    use crate::rate_limit::{RateLimitOptions, RateLimits};

    const OPTIONS: BodyOptions = BodyOptions {
        wire_limit_bytes: 10,
        decompressed_limit_bytes: 100,
        request_timeout_seconds: 30,
        request_gap_seconds: 10,
    };

    /// A body of these chunks, each after so many seconds.
    fn body(chunks: &[(u64, &'static str)]) -> Body {
        let chunks = stream::iter(chunks.to_vec());
        Body::new(StreamBody::new(futures::StreamExt::then(chunks, async |(seconds, chunk)| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes())))
        })))
    }

    fn unlimited() -> Arc<RateLimit> {
        let metrics = GatewayMetrics::with_series(&Registry::new()).unwrap();
        RateLimits::new(RateLimitOptions::default(), 0, &metrics).of_new_key()
    }

    async fn check(
        announced: Option<&'static str>,
        chunks: &[(u64, &'static str)],
        expected: Result<&str, (Kind, &str)>,
    ) {
        let mut headers = HeaderMap::new();
        if let Some(length) = announced {
            headers.insert(CONTENT_LENGTH, length.parse().unwrap());
        }
        let gauge = IntGauge::new("held", "Bytes held.").unwrap();
        let budget = Budget::new(8, gauge.clone());
        let mut reservation = budget.reservation();
        let result = read(&headers, body(chunks), OPTIONS, &unlimited(), &mut reservation).await;
        match (result, expected) {
            (Ok(content), Ok(expected)) => {
                assert_eq!(content, expected.as_bytes());
                assert_eq!(gauge.get(), crate::metrics::gauge_value(content.len()));
            }
            (Err(problem), Err((kind, detail))) => {
                assert_eq!(problem.kind, kind, "{problem}");
                assert!(problem.detail.contains(detail), "{problem}");
            }
            (result, expected) => panic!("{result:?} is not {expected:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_read_within_size_and_time() {
        check(None, &[], Ok("")).await;
        check(None, &[(0, "ab"), (9, "cd"), (9, "ef")], Ok("abcdef")).await;
        check(Some("4"), &[(0, "ab"), (0, "cd")], Ok("abcd")).await;
        check(Some("11"), &[], Err((Kind::TooLarge, "11 bytes on the wire; the limit is 10")))
            .await;
        check(None, &[(0, "abcd"), (0, "efghijk")], Err((Kind::TooLarge, "limit is 10"))).await;
        check(Some("9"), &[], Err((Kind::TooManyBytes, "8 bytes"))).await;
        check(None, &[(0, "abcdefghi")], Err((Kind::TooManyBytes, "8 bytes"))).await;
        check(None, &[(0, "a"), (11, "b")], Err((Kind::TooSlow, "silent after 10"))).await;
        let dripping = [(8, "a"), (8, "b"), (8, "c"), (8, "d")];
        check(None, &dripping, Err((Kind::TooSlow, "not complete after 30"))).await;
    }

    #[tokio::test]
    async fn bytes_are_paid_for_before_they_are_read_or_as_they_come() {
        const PART: &str = "exactly thirty bytes of a body";
        const OPTIONS: BodyOptions = BodyOptions { wire_limit_bytes: 100, ..super::tests::OPTIONS };
        /// Waits are given as the range in which they must lie, for a slow machine.
        async fn check(
            rate_limit: &RateLimit,
            announced: Option<&'static str>,
            parts: usize,
            expected: Result<usize, (Kind, RangeInclusive<u64>)>,
        ) {
            let headers =
                announced.map(|length| (CONTENT_LENGTH, length.parse().unwrap())).into_iter();
            let budget = Budget::new(1_000, IntGauge::new("held", "Bytes held.").unwrap());
            let (headers, mut reservation) = (headers.collect(), budget.reservation());
            let body = body(&vec![(0, PART); parts]);
            match (read(&headers, body, OPTIONS, rate_limit, &mut reservation).await, expected) {
                (Ok(content), Ok(expected)) => assert_eq!(content.len(), expected),
                (Err(problem), Err((kind, waits))) => {
                    let wait = problem.retry_after.unwrap_or_default().as_secs();
                    assert!(problem.kind == kind && waits.contains(&wait), "{problem}, {wait} s");
                }
                (result, expected) => panic!("{result:?} is not {expected:?}"),
            }
        }
        let limits = || {
            let metrics = GatewayMetrics::with_series(&Registry::new()).unwrap();
            let options = RateLimitOptions {
                rate_limit_bytes_per_second: NonZeroU32::new(1),
                ..RateLimitOptions::default()
            };
            RateLimits::new(options, OPTIONS.wire_limit_bytes, &metrics).of_new_key()
        };
        let announced = limits();
        check(&announced, Some("60"), 2, Ok(60)).await;
        // Nothing of it is read, and it has cost nothing.
        check(&announced, Some("90"), 0, Err((Kind::ByteRateLimited, 40..=50))).await;
        check(&announced, Some("30"), 1, Ok(30)).await;

        let chunked = limits();
        check(&chunked, None, 2, Ok(60)).await;
        // What had come is paid for; the wait is that for a body as large as may be.
        check(&chunked, None, 2, Err((Kind::ByteRateLimited, 80..=90))).await;
        check(&chunked, Some("30"), 0, Err((Kind::ByteRateLimited, 10..=20))).await;

        // Refused for its size, it costs nothing.
        let large = limits();
        check(&large, Some("101"), 0, Err((Kind::TooLarge, 0..=0))).await;
        check(&large, Some("90"), 3, Ok(90)).await;
    }

    /// A body that tells what is read of it.
    fn counted(
        chunks: usize,
    ) -> (
        StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Unpin>,
        tokio::sync::mpsc::UnboundedReceiver<usize>,
    ) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let frames = (0..chunks).map(move |number| {
            sender.send(number).unwrap();
            Ok(Frame::data(Bytes::from_static(b"chunk")))
        });
        (StreamBody::new(stream::iter(frames)), receiver)
    }

    #[tokio::test]
    async fn an_unread_body_is_read_to_its_end() {
        let (body, mut read) = counted(3);
        drop(discard_unread(Request::new(body)));
        for number in 0..3 {
            assert_eq!(read.recv().await, Some(number));
        }
        assert_eq!(read.recv().await, None);
    }

    #[tokio::test]
    async fn a_body_that_is_held_back_is_not_asked_for() {
        let (body, mut read) = counted(3);
        let mut request = Request::new(body);
        request.headers_mut().insert(EXPECT, "100-continue".parse().unwrap());
        drop(discard_unread(request));
        assert_eq!(read.recv().await, None);
    }
}
