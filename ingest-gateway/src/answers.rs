//! What accepted requests are told, and NDJSON requests of which a part is refused.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use problem_details::ProblemDetails;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::{Kind, Place, Problem};

/// Everything sent is acknowledged by Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Accepted {
    /// How many events were sent.
    pub events: usize,
    /// How many page states were sent.
    pub webstates: usize,
}

impl std::iter::Sum for Accepted {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, it| Self {
            events: sum.events + it.events,
            webstates: sum.webstates + it.webstates,
        })
    }
}

/// What became of each line of an NDJSON request.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineResults {
    /// One result a line that isn't blank, in order.
    results: Vec<LineResult>,
}

/// What became of one line.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineResult {
    /// The line's number, from 1.
    #[schema(minimum = 1)]
    line: usize,
    /// The status that the line would have got as a request of its own.
    status: u16,
    /// Whether the same line may be accepted later; only of refused lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::openapi::ProblemDocument>)]
    problem: Option<ProblemDetails<Place>>,
}

impl LineResult {
    fn of(line: usize, outcome: &Result<Accepted, Problem>) -> Self {
        match outcome {
            Ok(_) => Self { line, status: StatusCode::OK.as_u16(), retryable: None, problem: None },
            Err(problem) => Self {
                line,
                status: problem.kind.status().as_u16(),
                retryable: Some(problem.kind.retryable()),
                problem: Some(problem.to_details()),
            },
        }
    }
}

/// What became of each line of a request, by its number.
pub type Outcomes = Vec<(usize, Result<Accepted, Problem>)>;

/// The answer to a request that is one envelope.
pub fn envelope(outcomes: Outcomes) -> Response {
    let all: Result<Vec<Accepted>, Problem> =
        outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    match all {
        Ok(accepted) => Json(accepted.into_iter().sum::<Accepted>()).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The answer to an NDJSON request: 200 with the sums when all lines are accepted. When not one
/// is, and all for want of Kafka, the request as a whole gets 503: there is nothing to take
/// apart, the same bytes are to be sent again. Else 207.
pub fn lines(outcomes: Outcomes) -> Response {
    let outcomes: Outcomes = outcomes
        .into_iter()
        .map(|(line, outcome)| (line, outcome.map_err(|problem| problem.at_line(line))))
        .collect();
    let refusals: Vec<&Problem> =
        outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).collect();
    let waiting: Vec<&Problem> =
        refusals.iter().copied().filter(|problem| problem.kind.retryable()).collect();
    let retry_after = match waiting.first() {
        _ if refusals.is_empty() => return envelope(outcomes),
        Some(first) if waiting.len() == outcomes.len() => {
            return Problem { place: Place::default(), ..Problem::clone(first) }.into_response();
        }
        first => first.and_then(|problem| problem.retry_after_header()),
    };
    let results = outcomes.iter().map(|(line, outcome)| LineResult::of(*line, outcome)).collect();
    let mut response = (StatusCode::MULTI_STATUS, Json(LineResults { results })).into_response();
    if let Some(wait) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, wait);
    }
    response
}

/// The reason for which a request was refused as a whole, if it was.
pub fn refusal(response: &Response) -> Option<Kind> {
    response.extensions().get::<Kind>().copied()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const GOOD: Accepted = Accepted { events: 2, webstates: 1 };

    fn bad() -> Problem {
        Problem::new(Kind::Invalid, "is missing").at_path("/replay")
    }

    fn later() -> Problem {
        Problem::new(Kind::KafkaUnreachable, "later")
    }

    async fn check(outcomes: Outcomes, status: u16, retry_after: Option<&str>, expected: &Value) {
        let response = lines(outcomes);
        assert_eq!(response.status().as_u16(), status);
        let header = response.headers().get(RETRY_AFTER).map(|it| it.to_str().unwrap());
        assert_eq!(header, retry_after);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        assert_eq!(&serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }

    #[tokio::test]
    async fn lines_get_what_the_contract_says() {
        check(vec![], 200, None, &json!({"events": 0, "webstates": 0})).await;
        let all_good = vec![(1, Ok(GOOD)), (3, Ok(GOOD))];
        check(all_good, 200, None, &json!({"events": 4, "webstates": 2})).await;
        let problem = json!({
            "type": "/problems/invalid",
            "title": "The content is not as the API describes it",
            "status": 422,
            "detail": "is missing",
            "path": "/replay",
            "line": 3,
        });
        let refused = json!({"line": 3, "status": 422, "retryable": false, "problem": problem});
        let results = json!({"results": [{"line": 1, "status": 200}, refused]});
        check(vec![(1, Ok(GOOD)), (3, Err(bad()))], 207, None, &results).await;
        let all_bad = json!({"results": [refused]});
        check(vec![(3, Err(bad()))], 207, None, &all_bad).await;
        let unavailable = json!({
            "type": "/problems/kafka-unreachable",
            "title": "The batch cannot be stored now",
            "status": 503,
            "detail": "later",
            "line": 4,
        });
        let waiting = json!({"line": 4, "status": 503, "retryable": true, "problem": unavailable});
        let mixed = json!({"results": [refused, waiting]});
        check(vec![(3, Err(bad())), (4, Err(later()))], 207, Some("5"), &mixed).await;
        let whole = json!({
            "type": "/problems/kafka-unreachable",
            "title": "The batch cannot be stored now",
            "status": 503,
            "detail": "later",
        });
        check(vec![(4, Err(later())), (5, Err(later()))], 503, Some("5"), &whole).await;
    }
}
