//! Requests on many connections at once, as fast as they are answered.
//!
//! The client shares the cores with what is measured, so it does as little as it can: bodies are
//! made before, and each connection writes its next request when it has its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How much longer than its time a load may take to have its last answers.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Where requests go, and what stands before each body.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The path.
    pub path: Uri,
    /// Headers, beside those of HTTP itself.
    pub headers: HeaderMap,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// What all have.
    pub head: Head,
    /// Bodies, of which each connection takes one after the other.
    pub bodies: Vec<Bytes>,
}

/// Sends on so many connections for a time; gives how many requests were answered.
///
/// # Errors
/// When a connection breaks, or an answer is not 200.
pub(super) async fn send(
    address: SocketAddr,
    requests: &Arc<Requests>,
    connections: usize,
    time: Duration,
) -> Result<u64> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    let end = Instant::now() + time;
    let mut senders = JoinSet::new();
    for (number, mut connection) in opened.into_iter().enumerate() {
        let requests = Arc::clone(requests);
        senders.spawn(async move {
            let mut answered = 0;
            while Instant::now() < end {
                let body = &requests.bodies[(number + answered) % requests.bodies.len()];
                connection.ask(&requests.head, body.clone()).await?;
                answered += 1;
            }
            anyhow::Ok(answered as u64)
        });
    }
    all_answered(senders, time).await
}

/// What all senders together had answered; they send for `time` more.
///
/// # Errors
/// The first of theirs, or when the last answers do not come.
pub(super) async fn all_answered(mut senders: JoinSet<Result<u64>>, time: Duration) -> Result<u64> {
    let all = async {
        let mut answered = 0;
        while let Some(sent) = senders.join_next().await {
            answered += sent??;
        }
        anyhow::Ok(answered)
    };
    tokio::time::timeout(time + LAST_ANSWERS_WITHIN, all).await.context("the last answers")?
}

/// A connection that is kept.
pub(super) struct Connection {
    host: HeaderValue,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong the sender is told.
        tokio::spawn(driver);
        Ok(Self { host: address.to_string().parse()?, sender })
    }

    /// Sends a body and waits for its answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not 200.
    pub(super) async fn ask(&mut self, head: &Head, body: Bytes) -> Result<()> {
        let body_bytes = body.len();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = head.path.clone();
        *request.headers_mut() = head.headers.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(CONTENT_LENGTH, body_bytes.into());
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&text));
        Ok(())
    }
}
