//! `POST /v1/webstates/missing`: which pages a recorder has to send.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use common::page_hash::PageHash;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::budget::Reservation;
use crate::encoding::Encoding;
use crate::envelope::{self, Capped, Object};
use crate::gateway::Gateway;
use crate::media_type::Format;
use crate::openapi::ProblemDocument;
use crate::pages::PageMemory;
use crate::problem::{Kind, Problem};

/// Page states that a recorder could send.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MissingQuestion)]
pub struct RawQuestion<'a> {
    /// Their hashes, 64 hex digits each, in either case.
    #[serde(borrow)]
    #[schema(value_type = Vec<String>)]
    html_hashes: Option<Capped<&'a RawValue>>,
}

/// Page states that a recorder has to send.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Missing {
    /// Those of the hashes asked about, as they were sent, that this gateway does not know to be
    /// stored.
    missing: Vec<String>,
}

/// Says which page states have to be sent with their content.
///
/// The gateway answers from its own memory: a page asked for once too often does no harm.
///
/// # Errors
/// Why the request is refused.
#[utoipa::path(
    post,
    path = crate::routes::MISSING,
    request_body(content((RawQuestion = "application/json"), (RawQuestion = "text/plain"))),
    responses(
        (status = 200, description = "Send these with their content, the others by hash alone.", body = Missing),
        (status = "4XX", description = "As for batches.", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds; of 429."))),
        (status = 500, description = "A mistake of the gateway's own: ask again later.", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Too many bytes in flight, or draining: ask again after Retry-After.", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds."))),
    ),
    security(("bearer" = []), ("query" = [])),
)]
pub async fn missing(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Json<Missing>, Problem> {
    let (request, body) = request.into_parts();
    let rate_limit = gateway.admit(&request)?;
    if Format::of(&request.headers)? == Format::JsonLines {
        let detail = "Content-Type must be one of application/json, text/plain, or absent";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let encoding = Encoding::of(&request.headers)?;
    let mut reservation = gateway.budget.reservation();
    let wire = gateway.read_body(&request.headers, body, &rate_limit, &mut reservation).await?;
    let (processor, wire_bytes) = (gateway.processor.clone(), wire.len());
    let work = move || answer(&gateway, wire, encoding, reservation);
    processor.run(wire_bytes, work).await.map(Json)
}

fn answer(
    gateway: &Gateway,
    wire: Vec<u8>,
    encoding: Encoding,
    mut reservation: Reservation,
) -> Result<Missing, Problem> {
    let limit_bytes = gateway.body.decompressed_limit_bytes;
    let body = encoding.decode(wire, limit_bytes, &mut reservation)?;
    gateway.metrics.decompressed_bytes.inc_by(body.len() as u64);
    among(&body, gateway.requests.hashes_limit, &gateway.memory)
}

fn among(body: &[u8], limit: usize, memory: &PageMemory) -> Result<Missing, Problem> {
    let Object(question) = envelope::parse::<Object<RawQuestion<'_>>>(body)?;
    let invalid = |detail: &str| Problem::new(Kind::Invalid, detail).inside("html_hashes");
    let hashes = question.html_hashes.ok_or_else(|| invalid("is missing"))?;
    if hashes.total > limit {
        return Err(invalid(&format!("has {} items; the limit is {limit}", hashes.total)));
    }
    let mut missing = Vec::new();
    for (position, raw) in hashes.items.into_iter().enumerate() {
        let (text, hash) = read(raw)
            .ok_or_else(|| Problem::new(Kind::Invalid, "is not 64 hex digits").inside(position))
            .map_err(|problem| problem.inside("html_hashes"))?;
        if !memory.knows(hash) {
            missing.push(text.into_owned());
        }
    }
    Ok(Missing { missing })
}

fn read(raw: &RawValue) -> Option<(Cow<'_, str>, PageHash)> {
    let text = envelope::text(raw).ok()?;
    let hash = text.parse().ok()?;
    Some((text, hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::PageMemoryOptions;

    fn among_known(known: &[u8], body: &str) -> Result<Missing, Problem> {
        let options = PageMemoryOptions { page_memory_entries: 10, page_memory_seconds: 60 };
        let memory = PageMemory::new(options);
        memory.acknowledged(PageHash::of(known));
        among(body.as_bytes(), 2, &memory)
    }

    #[test]
    fn what_is_not_known_is_missing_in_the_words_of_the_question() {
        let known = PageHash::of(b"known").to_hex();
        let other = PageHash::of(b"other").to_hex().to_uppercase();
        let missing = among_known(b"known", &format!(r#"{{"html_hashes":["{known}","{other}"]}}"#));
        assert_eq!(missing, Ok(Missing { missing: vec![other] }));
        let upper = known.to_uppercase();
        let missing = among_known(b"known", &format!(r#"{{"html_hashes":["{upper}"]}}"#));
        assert_eq!(missing, Ok(Missing { missing: vec![] }));
    }

    #[test]
    fn questions_that_make_no_sense_are_refused_where_they_do() {
        fn check(body: &str, path: &str) {
            let problem = among_known(b"known", body).unwrap_err();
            assert_eq!((problem.kind, problem.place.path.as_deref()), (Kind::Invalid, Some(path)));
        }
        check("[]", "");
        check("{}", "/html_hashes");
        check(r#"{"html_hashes":null}"#, "/html_hashes");
        check(r#"{"html_hashes":"abc"}"#, "/html_hashes");
        check(r#"{"html_hashes":["abc"]}"#, "/html_hashes/0");
        check(r#"{"html_hashes":[1]}"#, "/html_hashes/0");
        check(r#"{"html_hashes":[1,2,3]}"#, "/html_hashes");
        assert_eq!(among_known(b"known", "{").unwrap_err().kind, Kind::NotReadable);
    }
}
