//! What all requests share, and the steps that the API's paths have in common.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use common::limits::SizeLimits;
use common::traces::Traces;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::body::{self, BodyOptions};
use crate::breaker::Breaker;
use crate::budget::{Budget, Reservation};
use crate::envelope::EnvelopeRules;
use crate::keys::store::KeyStore;
use crate::metrics::GatewayMetrics;
use crate::options::RequestOptions;
use crate::pages::PageMemory;
use crate::problem::{Kind, Problem};
use crate::processor::Processor;
use crate::publish::Publisher;
use crate::rate_limit::RateLimit;

/// How long a body that is on its way may still take once the gateway stops.
const LAST_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What all requests share.
pub struct Gateway {
    /// Limits of requests.
    pub requests: RequestOptions,
    /// Limits of bodies.
    pub body: BodyOptions,
    /// What an envelope may hold.
    pub rules: EnvelopeRules,
    /// Sizes that all services share.
    pub limits: SizeLimits,
    /// Who may send.
    pub keys: Arc<KeyStore>,
    /// What requests in flight may hold.
    pub budget: Arc<Budget>,
    /// Who may use the processor.
    pub processor: Processor,
    /// Whether requests are let through to Kafka.
    pub breaker: Arc<Breaker>,
    /// To Kafka.
    pub publisher: Publisher,
    /// The topic of recorder batches.
    pub events_topic: String,
    /// The topic of pages.
    pub webstates_topic: String,
    /// Pages known to be in Kafka.
    pub memory: PageMemory,
    /// Where spans go.
    pub traces: Traces,
    /// How the public port is spoken to: `http`, or `https`.
    pub scheme: &'static str,
    /// What is counted.
    pub metrics: GatewayMetrics,
    /// Cancelled once no new requests are taken.
    pub draining: CancellationToken,
}

impl Gateway {
    /// Whether a request's key lets it in, and its share of requests is not used up; gives the
    /// limits of its body.
    ///
    /// # Errors
    /// See [`KeyStore::admit`].
    pub fn admit(&self, request: &Parts) -> Result<Arc<RateLimit>, Problem> {
        match bearer(&request.headers) {
            Some(key) => self.keys.admit(Some(key)),
            None => self.keys.admit(query_key(&request.uri).as_deref()),
        }
    }

    /// Reads a body as it comes over the wire.
    ///
    /// # Errors
    /// See [`body::read`]; [`Kind::Draining`] when the gateway stops before it has arrived.
    pub async fn read_body(
        &self,
        headers: &HeaderMap,
        body: Body,
        rate_limit: &RateLimit,
        reservation: &mut Reservation,
    ) -> Result<Vec<u8>, Problem> {
        let stopping = async {
            self.draining.cancelled().await;
            tokio::time::sleep(LAST_BODY_TIMEOUT).await;
        };
        let content = tokio::select! {
            content = body::read(headers, body, self.body, rate_limit, reservation) => content?,
            () = stopping => return Err(draining()),
        };
        self.metrics.wire_bytes.inc_by(content.len() as u64);
        Ok(content)
    }
}

/// The refusal of a gateway that is about to stop.
pub fn draining() -> Problem {
    Problem::new(Kind::Draining, "send the same bytes again; another gateway will take them")
}

/// The key of an `Authorization: Bearer …` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The key of a `?key=…` query, for beacons, which cannot set headers.
fn query_key(uri: &Uri) -> Option<String> {
    #[derive(Deserialize)]
    struct Parameters {
        key: Option<String>,
    }
    Query::<Parameters>::try_from_uri(uri).ok()?.0.key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_a_header_or_the_query() {
        fn check_header(value: &'static str, expected: Option<&str>) {
            let headers = [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            assert_eq!(bearer(&headers), expected, "{value}");
        }
        check_header("Bearer tdk_1", Some("tdk_1"));
        check_header("bearer  tdk_1 ", Some("tdk_1"));
        check_header("Basic dGRrXzE=", None);
        check_header("tdk_1", None);
        fn check_query(uri: &'static str, expected: Option<&str>) {
            assert_eq!(query_key(&Uri::from_static(uri)).as_deref(), expected, "{uri}");
        }
        check_query("/v1/batches?key=tdk_1", Some("tdk_1"));
        check_query("/v1/batches?a=b&key=tdk%5F1&c", Some("tdk_1"));
        check_query("/v1/batches?KEY=tdk_1", None);
        check_query("/v1/batches", None);
    }
}
