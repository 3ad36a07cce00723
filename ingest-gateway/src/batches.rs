//! `POST /v1/batches`: takes envelopes; 200 once Kafka has them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use common::record::headers::RecordHeaders;
use common::time::Timestamp;
use tracing::Instrument;

use crate::answers::{self, Accepted, LineResults, Outcomes};
use crate::budget::Reservation;
use crate::encoding::Encoding;
use crate::envelope::RawEnvelope;
use crate::gateway::Gateway;
use crate::lines;
use crate::media_type::Format;
use crate::openapi::ProblemDocument;
use crate::prepare::{Preparation, Prepared};
use crate::problem::Problem;
use crate::publication::Publication;
use crate::spans::RequestContext;
use crate::trace_context::traceparent;

/// Takes one envelope, or one a line.
///
/// The body may be encoded by `Content-Encoding: gzip`, `zstd` or `br`; without that header gzip
/// is recognised. 200 means that Kafka has acknowledged every record.
///
/// # Errors
/// Why the whole request is refused.
#[utoipa::path(
    post,
    path = crate::routes::BATCHES,
    request_body(
        content(
            (RawEnvelope = "application/json"),
            (RawEnvelope = "text/plain"),
            (Vec<RawEnvelope> = "application/x-ndjson"),
        ),
        description = "One envelope; as application/x-ndjson one a line, here described as the items of an array.",
    ),
    responses(
        (status = 200, description = "Every record is acknowledged by Kafka: forget the batch.", body = Accepted),
        (status = 207, description = "NDJSON with at least one line refused: resend only the lines marked retryable, after Retry-After.", body = LineResults, headers(("Retry-After" = u64, description = "Seconds; only when a line is retryable."))),
        (status = 400, description = "Not readable: encoding broken, not UTF-8, not JSON. Never resend.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "No key or unknown key.", body = ProblemDocument, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "How to send a key."))),
        (status = 403, description = "Key disabled.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 408, description = "Too slow: resend later, in smaller batches.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "Too large, on the wire or decompressed. Never resend as is.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "Media type or encoding not supported. Never resend as is.", body = ProblemDocument, content_type = "application/problem+json", headers(("Accept-Encoding" = String, description = "The encodings that are; only when it was the encoding."))),
        (status = 422, description = "Readable, but not as described here. Never resend.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "This key's share of requests or of bytes is used up: resend the same bytes after Retry-After.", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds."))),
        (status = 500, description = "A mistake of the gateway's own: resend later.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Kafka unreachable, its queue full, too many bytes in flight, or draining: resend the same bytes after Retry-After.", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds."))),
    ),
    security(("bearer" = []), ("query" = [])),
)]
pub async fn batches(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let received_at = Timestamp::now();
    let (request, body) = request.into_parts();
    let rate_limit = gateway.admit(&request)?;
    gateway.breaker.check()?;
    let format = Format::of(&request.headers)?;
    let encoding = Encoding::of(&request.headers)?;
    let mut reservation = gateway.budget.reservation();
    let wire = gateway.read_body(&request.headers, body, &rate_limit, &mut reservation).await?;
    let headers = RecordHeaders { received_at, traceparent: traceparent(&request.headers) };
    let processor = gateway.processor.clone();
    let context = request.extensions.get().cloned();
    let arrived = Arrived { gateway, wire, encoding, format, reservation, headers, context };
    // A task of its own: whether the client waits or not, what has arrived is worked on to its
    // end, counted, and its pages are remembered.
    let settled = tokio::spawn(arrived.settle().in_current_span()).await;
    let outcomes = settled.map_err(|error| processor.failed(&error))??;
    Ok(match format {
        Format::Json => answers::envelope(outcomes),
        Format::JsonLines => answers::lines(outcomes),
    })
}

/// A request whose body has arrived.
struct Arrived {
    gateway: Arc<Gateway>,
    wire: Vec<u8>,
    encoding: Encoding,
    format: Format,
    reservation: Reservation,
    headers: RecordHeaders,
    context: Option<RequestContext>,
}

impl Arrived {
    /// Makes the records of its envelopes and waits until Kafka has acknowledged them; gives
    /// what became of each line.
    async fn settle(self) -> Result<Outcomes, Problem> {
        let (gateway, headers) = (Arc::clone(&self.gateway), self.headers.clone());
        let context = self.context.clone();
        let wire_bytes = self.wire.len();
        let made = gateway.processor.run(wire_bytes, move || Batch::make(self)).await?;
        let Batch { lines, publication } = made;
        let published = publication.publish(&gateway, &headers, context.as_ref()).await?;
        let outcome = |place: Result<usize, Problem>| place.and_then(|it| published[it].clone());
        Ok(lines.into_iter().map(|(line, place)| (line, outcome(place))).collect())
    }
}

/// The envelopes of a request: those refused, and the records of the others.
struct Batch {
    /// Of each line that is not blank its number, and why its envelope is refused, or else its
    /// place in the publication.
    lines: Vec<(usize, Result<usize, Problem>)>,
    publication: Publication,
}

impl Batch {
    /// Makes the records of a request's envelopes; keeps a core busy.
    fn make(arrived: Arrived) -> Result<Self, Problem> {
        let Arrived { gateway, wire, encoding, format, mut reservation, headers, .. } = arrived;
        let limit_bytes = gateway.body.decompressed_limit_bytes;
        let mut body = encoding.decode(wire, limit_bytes, &mut reservation)?;
        gateway.metrics.decompressed_bytes.inc_by(body.len() as u64);
        let bodies = match format {
            Format::Json => vec![(1, body.as_mut_slice())],
            Format::JsonLines => lines::split(&mut body, gateway.requests.lines_limit)?,
        };
        let mut preparation = Preparation::new(
            &gateway.rules,
            gateway.limits,
            &gateway.memory,
            &gateway.metrics,
            headers.received_at,
        );
        let mut lines = Vec::with_capacity(bodies.len());
        let mut envelopes: Vec<Prepared> = Vec::with_capacity(bodies.len());
        let mut record_bytes = 0;
        for (line, body) in bodies {
            let place = preparation.envelope(body).map(|prepared| {
                envelopes.push(prepared);
                envelopes.len() - 1
            });
            lines.push((line, place));
            let grown = reservation.grow(preparation.record_bytes() - record_bytes);
            record_bytes = preparation.record_bytes();
            grown.map_err(|exhausted| {
                let problem = Problem::from(exhausted);
                gateway.metrics.count_refused(problem.kind, &envelopes);
                problem
            })?;
        }
        drop(body);
        reservation.shrink_to(record_bytes);
        let pages = preparation.into_pages();
        Ok(Self { lines, publication: Publication { envelopes, pages, reservation } })
    }
}
