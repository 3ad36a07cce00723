//! The public port's connections.
//!
//! HTTP/1.1 only: what ends TLS in front of the gateway speaks 1.1 to it, and recorders send too
//! few requests at a time to gain from more.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use common::repeats::Repeats;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus::IntGauge;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use crate::body::discard_unread;
use crate::metrics::{GatewayMetrics, gauge_value};
use crate::options::ConnectionOptions;
use crate::tls::Tls;

/// What a connection may buffer of what it reads: the longest head of a request, and how much of
/// a body is read at a time. (hyper's own 400 KiB would be 4 GB for 10,000 connections.)
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// How long to wait after the system refused to accept a connection: it has no files or memory
/// left, which only time can bring back.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The public port.
pub struct PublicListener {
    /// Where connections come in.
    pub listener: TcpListener,
    /// How TLS is spoken on them, if it is.
    pub tls: Option<Arc<Tls>>,
}

/// Serves connections until `stop`; then takes no more and returns once those there are have
/// ended, each after the request that is in flight on it. A client that takes nothing of an answer
/// for `unread_timeout` loses its connection.
pub async fn serve(
    public: PublicListener,
    router: Router,
    options: ConnectionOptions,
    unread_timeout: Duration,
    metrics: &GatewayMetrics,
    stop: CancellationToken,
) {
    let PublicListener { listener, tls } = public;
    metrics.connections_limit.set(gauge_value(options.connections_limit));
    let permits = Arc::new(Semaphore::new(options.connections_limit));
    let connections = GracefulShutdown::new();
    let idle_timeout = Duration::from_secs(options.idle_timeout_seconds);
    let failures = Repeats::default();
    while let Some((stream, permit)) = accept(&listener, &permits, &failures, &stop).await {
        let service =
            router.clone().map_request(|request: Request<Incoming>| discard_unread(request));
        set_socket_options(&stream, unread_timeout);
        let open = OpenConnection::count(permit, &metrics.connections);
        let (tls, watcher) = (tls.clone(), connections.watcher());
        tokio::spawn(async move {
            let ended = match tls {
                None => connect(stream, service, idle_timeout, watcher).await,
                // Apart, so that connections without TLS do not take the room that one with it needs.
                Some(tls) => {
                    Box::pin(connect_tls(tls, stream, service, idle_timeout, watcher)).await
                }
            };
            // An error here is the client's: gone, too slow, or not speaking HTTP.
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
            drop(open);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection, once there is room for one; none once the gateway stops.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    failures: &Repeats,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _address)) => {
                    if let Some(over) = failures.over() {
                        let (failures, seconds) = (over.failures, over.seconds());
                        tracing::info!(failures, seconds, "connections are accepted again");
                    }
                    return Some((stream, permit));
                }
                Err(error) => {
                    if let Some(left_out) = failures.failed(&error) {
                        tracing::warn!(%error, left_out, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    };
    stop.run_until_cancelled(next).await.flatten()
}

fn set_socket_options(stream: &TcpStream, unread_timeout: Duration) {
    let socket = SockRef::from(stream);
    let set = socket
        // Answers are small and complete: nothing is gained by waiting for more of them.
        .set_tcp_nodelay(true)
        // The system gives up what it cannot deliver, be the client gone or does it not read:
        // else an answer would be waited with for ever.
        .and_then(|()| socket.set_tcp_user_timeout(Some(unread_timeout)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set a connection's options");
    }
}

/// Serves a connection's requests to its end.
async fn connect<I, S>(
    stream: I,
    service: S,
    idle_timeout: Duration,
    watcher: Watcher,
) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Answers,
    S::Future: Send,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    watcher.watch(connection).await.map_err(io::Error::other)
}

/// Agrees on TLS first.
async fn connect_tls<S>(
    tls: Arc<Tls>,
    stream: TcpStream,
    service: S,
    idle_timeout: Duration,
    watcher: Watcher,
) -> io::Result<()>
where
    S: Answers,
    S::Future: Send,
{
    let stream = tls.accept(stream).await?;
    connect(stream, service, idle_timeout, watcher).await
}

/// What answers requests.
trait Answers:
    Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible>
    + Clone
    + Send
    + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static
{
}

/// Counts a connection for as long as it is open.
struct OpenConnection {
    _permit: OwnedSemaphorePermit,
    gauge: IntGauge,
}

impl OpenConnection {
    fn count(permit: OwnedSemaphorePermit, gauge: &IntGauge) -> Self {
        gauge.inc();
        Self { _permit: permit, gauge: gauge.clone() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
