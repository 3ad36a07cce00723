//! The paths of the public port, and what stands around all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use common::traces::TraceSpan;
use http::header::{ALLOW, CONNECTION, DATE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::Instrument;

use crate::answers::refusal;
use crate::gateway::{Gateway, draining};
use crate::metrics::{ABORTED, GatewayMetrics, OTHER_PATH, PATHS};
use crate::problem::{Kind, Problem};
use crate::{batches, missing, openapi, spans};

/// Takes envelopes.
pub const BATCHES: &str = "/v1/batches";
/// Says which pages to send.
pub const MISSING: &str = "/v1/webstates/missing";
/// Describes the API.
pub const OPENAPI: &str = "/openapi.json";

/// How long a browser may rely on a preflight.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(24 * 3_600);

/// The public port.
pub fn router(gateway: Arc<Gateway>) -> Router {
    // The last layer is the outermost: CORS headers stand on every answer, refusals of the
    // layers below and unknown paths included, and everything is observed.
    Router::new()
        .route(BATCHES, post(batches::batches).fallback(|| method_not_allowed("POST")))
        .route(MISSING, post(missing::missing).fallback(|| method_not_allowed("POST")))
        .route(OPENAPI, get(openapi::document).fallback(|| method_not_allowed("GET, HEAD")))
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(&gateway), refuse_while_draining))
        .layer(cors())
        .layer(from_fn_with_state(Arc::clone(&gateway), observe))
        .with_state(gateway)
}

/// Recorders run on any site. Preflights mirror the headers asked for, as tracing libraries add
/// their own.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER, DATE])
        .max_age(PREFLIGHT_MAX_AGE)
}

async fn not_found() -> Problem {
    Problem::new(Kind::NotFound, format!("the API has {BATCHES}, {MISSING} and {OPENAPI}"))
}

async fn method_not_allowed(allowed: &'static str) -> Response {
    let problem = Problem::new(Kind::MethodNotAllowed, format!("the path takes {allowed}"));
    ([(ALLOW, allowed)], problem).into_response()
}

/// Refuses what still comes on connections kept open once the gateway is about to stop.
async fn refuse_while_draining(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    if !gateway.draining.is_cancelled() {
        return next.run(request).await;
    }
    let mut response = draining().into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Counts and times every request, also one that its client gives up.
async fn observe(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let path = PATHS.into_iter().find(|path| matched == Some(path)).unwrap_or(OTHER_PATH);
    let span = spans::of_request(&gateway.traces, gateway.scheme, &request, path);
    spans::enter(&span, &mut request);
    let log_span = span.log_span();
    let mut observation = Observation {
        metrics: &gateway.metrics,
        path,
        begun: Instant::now(),
        status: None,
        refusal: None,
        span,
    };
    let response = next.run(request).instrument(log_span).await;
    observation.status = Some(response.status());
    observation.refusal = refusal(&response);
    if let Some(kind) = observation.refusal {
        gateway.metrics.requests_refused.with_label_values(&[&kind.label()]).inc();
        if response.status().is_server_error() {
            tracing::debug!(path, reason = kind.slug(), "request refused");
        }
    }
    response
}

/// Recorded when dropped, so that no request is missed.
struct Observation<'a> {
    metrics: &'a GatewayMetrics,
    path: &'static str,
    begun: Instant,
    status: Option<StatusCode>,
    refusal: Option<Kind>,
    span: TraceSpan,
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        let status = match self.status {
            Some(status) => status.as_u16().to_string(),
            None => ABORTED.to_owned(),
        };
        self.metrics.requests.with_label_values(&[self.path, &status]).inc();
        let seconds = self.begun.elapsed().as_secs_f64();
        self.metrics.request_seconds.with_label_values(&[self.path]).observe(seconds);
        spans::answered(&mut self.span, self.status, self.refusal);
    }
}
