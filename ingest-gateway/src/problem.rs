//! Refusals, as the recorder reads them: RFC 9457 problem details.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode, Uri};
use problem_details::{JsonProblemDetails, ProblemDetails};
use serde::Serialize;
use utoipa::ToSchema;

/// Every reason for which a request, or a line of it, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The encoding is broken, or the content is not UTF-8 or not JSON.
    NotReadable,
    /// Readable, but not what the API takes.
    Invalid,
    /// No key, or one that is not known.
    NoKey,
    /// The key has been disabled.
    KeyDisabled,
    /// No such path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    TooSlow,
    /// A size limit is exceeded, on the wire or decompressed.
    TooLarge,
    /// The content type is none that the API takes.
    UnsupportedMediaType,
    /// The content encoding is none that the API takes.
    UnsupportedEncoding,
    /// The key's share of requests is used up.
    RateLimited,
    /// The key's share of bytes is used up.
    ByteRateLimited,
    /// Kafka does not acknowledge, or has not been reached yet.
    KafkaUnreachable,
    /// More waits for Kafka than may wait.
    QueueFull,
    /// Requests in flight hold all the memory that they may.
    TooManyBytes,
    /// The gateway is about to stop.
    Draining,
    /// A mistake of the gateway's own.
    Internal,
}

impl Kind {
    /// All of them, for metrics whose series exist from the start.
    pub const ALL: [Self; 17] = [
        Self::NotReadable,
        Self::Invalid,
        Self::NoKey,
        Self::KeyDisabled,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooSlow,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::UnsupportedEncoding,
        Self::RateLimited,
        Self::ByteRateLimited,
        Self::KafkaUnreachable,
        Self::QueueFull,
        Self::TooManyBytes,
        Self::Draining,
        Self::Internal,
    ];

    /// The status of an answer that refuses for this reason.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotReadable => StatusCode::BAD_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::KeyDisabled => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::RateLimited | Self::ByteRateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::KafkaUnreachable | Self::QueueFull | Self::TooManyBytes | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The last part of the problem's `type`.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::NotReadable => "not-readable",
            Self::Invalid => "invalid",
            Self::NoKey => "no-key",
            Self::KeyDisabled => "key-disabled",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::TooSlow => "too-slow",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::RateLimited => "rate-limited",
            Self::ByteRateLimited => "byte-rate-limited",
            Self::KafkaUnreachable => "kafka-unreachable",
            Self::QueueFull => "queue-full",
            Self::TooManyBytes => "too-many-bytes-in-flight",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// The same as a metric's label.
    pub fn label(self) -> String {
        self.slug().replace('-', "_")
    }

    const fn title(self) -> &'static str {
        match self {
            Self::NotReadable => "The request cannot be read",
            Self::Invalid => "The content is not as the API describes it",
            Self::NoKey => "A valid key is needed",
            Self::KeyDisabled => "The key is disabled",
            Self::NotFound => "No such path",
            Self::MethodNotAllowed => "The path does not take this method",
            Self::TooSlow => "The request arrived too slowly",
            Self::TooLarge => "The content is too large",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::UnsupportedEncoding => "The content encoding is not supported",
            Self::RateLimited => "Too many requests with this key",
            Self::ByteRateLimited => "Too many bytes with this key",
            Self::KafkaUnreachable => "The batch cannot be stored now",
            Self::QueueFull => "Too much waits to be stored",
            Self::TooManyBytes => "Too much is in flight",
            Self::Draining => "The gateway is stopping",
            Self::Internal => "The gateway failed",
        }
    }

    /// Whether the same bytes may be accepted later.
    pub fn retryable(self) -> bool {
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status())
    }

    /// When to come back, unless the refusal knows better.
    const fn retry_after(self) -> Option<Duration> {
        match self {
            // About as long as Kafka needs to elect leaders after losing a broker.
            Self::KafkaUnreachable => Some(Duration::from_secs(5)),
            Self::RateLimited
            | Self::ByteRateLimited
            | Self::QueueFull
            | Self::TooManyBytes
            | Self::Draining => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// A refusal: why, and where in the request the reason stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .kind.slug())]
pub struct Problem {
    /// The reason.
    pub kind: Kind,
    /// The same in words, for this occurrence.
    pub detail: String,
    /// Where in the request it stands.
    pub place: Place,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

/// Where in a request a problem stands: extension members of the problem details.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Place {
    /// RFC 6901 pointer into the envelope; of a missing member the one it would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Line of the request, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub line: Option<usize>,
    /// Bytes from the start of the decompressed body, or of the line, to what is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
}

impl Problem {
    /// A refusal without a place.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            place: Place::default(),
            retry_after: kind.retry_after(),
        }
    }

    /// The same at an RFC 6901 pointer.
    #[must_use]
    pub fn at_path(mut self, path: impl Into<String>) -> Self {
        self.place.path = Some(path.into());
        self
    }

    /// The same inside of a member or item: `segment` is put before the pointer there is.
    #[must_use]
    pub fn inside(mut self, segment: impl std::fmt::Display) -> Self {
        let below = self.place.path.unwrap_or_default();
        self.place.path = Some(format!("/{segment}{below}"));
        self
    }

    /// The same in a line.
    #[must_use]
    pub fn at_line(mut self, line: usize) -> Self {
        self.place.line = Some(line);
        self
    }

    /// The same at a byte.
    #[must_use]
    pub fn at_offset(mut self, offset: usize) -> Self {
        self.place.offset = Some(offset);
        self
    }

    /// The same with another time to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The JSON that the recorder reads.
    pub fn to_details(&self) -> ProblemDetails<Place> {
        let kind = self.kind;
        ProblemDetails::new()
            .with_status(kind.status())
            .with_title(kind.title())
            .with_detail(self.detail.clone())
            .with_extensions(self.place.clone())
            .with_type(type_uri(kind))
    }

    /// The value of `Retry-After`: whole seconds, at least one.
    pub fn retry_after_header(&self) -> Option<HeaderValue> {
        let wait = self.retry_after?;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(HeaderValue::from(seconds.max(1)))
    }
}

/// A reference relative to the gateway's own address: nothing has to be registered for it.
fn type_uri(kind: Kind) -> Uri {
    format!("/problems/{}", kind.slug()).parse().unwrap_or_default()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = JsonProblemDetails::from(self.to_details()).into_response();
        response.extensions_mut().insert(self.kind);
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after_header() {
            headers.insert(RETRY_AFTER, wait);
        }
        // What the recorder may do instead, where HTTP has a header for it.
        match self.kind {
            Kind::NoKey => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Kind::UnsupportedEncoding => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, br"))
            }
            _ => None,
        };
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_rfc_9457_has_it() {
        let problem = Problem::new(Kind::Invalid, "is missing")
            .inside("replay_id")
            .inside("replay")
            .at_line(3);
        assert_eq!(
            serde_json::to_value(problem.to_details()).unwrap(),
            serde_json::json!({
                "type": "/problems/invalid",
                "title": "The content is not as the API describes it",
                "status": 422,
                "detail": "is missing",
                "path": "/replay/replay_id",
                "line": 3,
            })
        );
    }

    #[test]
    fn every_answer_that_asks_to_come_back_says_when() {
        for kind in Kind::ALL {
            let response = Problem::new(kind, "").into_response();
            let says_when = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(says_when, kind.retryable(), "{kind:?}");
            assert_eq!(response.status(), kind.status());
            assert_eq!(response.headers()[http::header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        fn check(wait: Duration, expected: &str) {
            let problem = Problem::new(Kind::RateLimited, "").retry_after(wait);
            assert_eq!(problem.retry_after_header().unwrap(), expected);
        }
        check(Duration::ZERO, "1");
        check(Duration::from_millis(1_001), "2");
        check(Duration::from_secs(7), "7");
    }
}
