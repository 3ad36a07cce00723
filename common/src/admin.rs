//! The admin port: `/metrics`, `/livez` and `/readyz`, apart from anything public.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long an answer of the admin port may still take once the service stops.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// What a service knows of its own health. Both are read on every probe, so they only look at
/// memory.
pub trait Health: Send + Sync + 'static {
    /// Whether the process makes progress. Never asks Kafka or Postgres: a probe that does would
    /// restart the fleet when they are away.
    ///
    /// # Errors
    /// Why not.
    fn live(&self) -> Result<(), String>;

    /// Whether the service does its work now.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<(), String>;
}

#[derive(Clone)]
struct AdminState {
    registry: Registry,
    health: Arc<dyn Health>,
}

/// Serves the admin port until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: Arc<dyn Health>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(AdminState { registry, health })
        .merge(crate::failpoint::router());
    let closing = stop.clone();
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { closing.cancelled().await })
        .into_future();
    let give_up = async {
        stop.cancelled().await;
        tokio::time::sleep(CLOSING_TIMEOUT).await;
    };
    // A scraper's idle connection must not hold up the end of the process.
    tokio::select! {
        result = server => result,
        () = give_up => Ok(()),
    }
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&state.registry.gather()) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}

async fn live(State(state): State<AdminState>) -> impl IntoResponse {
    probe(state.health.live())
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    probe(state.health.ready())
}

fn probe(result: Result<(), String>) -> (StatusCode, String) {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
