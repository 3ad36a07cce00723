//! `POST /v1/batches`: takes envelopes; 200 once Kafka has them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use common::record::headers::RecordHeaders;
use common::time::Timestamp;

use crate::answers::{self, Accepted, LineResults, Outcomes};
use crate::budget::Reservation;
use crate::encoding::Encoding;
use crate::envelope::RawEnvelope;
use crate::gateway::Gateway;
use crate::lines;
use crate::media_type::Format;
use crate::openapi::ProblemDocument;
use crate::prepare::Preparation;
use crate::problem::{Kind, Problem};
use crate::publication::Publication;
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
            (RawEnvelope = "application/x-ndjson"),
        ),
        description = "One envelope; as application/x-ndjson one a line.",
    ),
    responses(
        (status = 200, description = "Every record is acknowledged by Kafka: forget the batch.", body = Accepted),
        (status = 207, description = "NDJSON with at least one line refused: resend only the lines marked retryable.", body = LineResults),
        (status = 400, description = "Not readable: encoding broken, not UTF-8, not JSON. Never resend.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "No key or unknown key.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "Key disabled.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 408, description = "Too slow: resend later, in smaller batches.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "Too large, on the wire or decompressed. Never resend as is.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "Media type or encoding not supported. Never resend as is.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "Readable, but not as described here. Never resend.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Rate limit: resend the same bytes after Retry-After.", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds."))),
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
    gateway.admit(&request)?;
    gateway.breaker.check()?;
    let format = Format::of(&request.headers)?;
    let encoding = Encoding::of(&request.headers)?;
    let mut reservation = gateway.budget.reservation();
    let wire = gateway.read_body(&request.headers, body, &mut reservation).await?;
    let headers = RecordHeaders { received_at, traceparent: traceparent(&request.headers) };
    let batch = {
        let gateway = Arc::clone(&gateway);
        let processor = gateway.processor.clone();
        let wire_bytes = wire.len();
        let work = move || Batch::make(&gateway, wire, encoding, format, reservation, received_at);
        processor.run(wire_bytes, work).await?
    };
    let outcomes = batch.publish(gateway, headers).await?;
    Ok(match format {
        Format::Json => answers::envelope(outcomes),
        Format::JsonLines => answers::lines(outcomes),
    })
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
    fn make(
        gateway: &Gateway,
        wire: Vec<u8>,
        encoding: Encoding,
        format: Format,
        mut reservation: Reservation,
        received_at: Timestamp,
    ) -> Result<Self, Problem> {
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
            received_at,
        );
        let mut lines = Vec::with_capacity(bodies.len());
        let mut envelopes = Vec::with_capacity(bodies.len());
        let mut held_bytes = 0;
        for (line, body) in bodies {
            let result = preparation.envelope(body);
            reservation.grow(preparation.record_bytes() - held_bytes)?;
            held_bytes = preparation.record_bytes();
            let place = result.map(|prepared| {
                envelopes.push(prepared);
                envelopes.len() - 1
            });
            lines.push((line, place));
        }
        drop(body);
        reservation.shrink_to(held_bytes);
        let pages = preparation.into_pages();
        Ok(Self { lines, publication: Publication { envelopes, pages, reservation } })
    }

    /// Publishes what is not refused; gives what became of each line.
    async fn publish(
        self,
        gateway: Arc<Gateway>,
        headers: RecordHeaders,
    ) -> Result<Outcomes, Problem> {
        let publication = self.publication;
        // A task of its own: whether the client waits or not, what Kafka acknowledges is counted
        // and its pages are remembered.
        let task = tokio::spawn(async move { publication.publish(&gateway, &headers).await });
        let published = task.await.map_err(|error| {
            tracing::error!(%error, "publishing failed");
            Problem::new(Kind::Internal, "the gateway failed to publish the records")
        })?;
        let published = published?;
        let outcome = |place: Result<usize, Problem>| place.and_then(|it| published[it].clone());
        Ok(self.lines.into_iter().map(|(line, place)| (line, outcome(place))).collect())
    }
}
