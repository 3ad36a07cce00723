//! A gateway with its environment, and requests to it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::time::Timestamp;
use reqwest::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, HeaderMap,
};
use serde_json::{Value, json};
use tests::stack::{Environment, Service, Stack, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// How long a condition of these tests may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long a request may take: more than every limit that a test sets.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A gateway that has not written an answer for so long, though it is asked for more, cannot.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Where batches go.
pub(crate) const BATCHES: &str = "/v1/batches";
/// Where recorders ask for missing pages.
pub(crate) const MISSING: &str = "/v1/webstates/missing";

/// A gateway that takes requests.
pub(crate) struct Gateway {
    pub(crate) environment: Environment,
    pub(crate) service: Service,
    client: reqwest::Client,
}

/// An answer, as a recorder sees it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Gateway {
    /// A gateway with these settings, ready.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let environment = Environment::new(Stack::shared().await?).await?;
        let gateway = Self::start_in(environment, settings).await?;
        gateway.service.wait_ready().await?;
        Ok(gateway)
    }

    /// A gateway in an environment, not necessarily ready.
    pub(crate) async fn start_in(
        environment: Environment,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let builder = environment.gateway().variables(settings.iter().copied());
        let service = builder.start().await?;
        let client = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { environment, service, client })
    }

    /// A request to a path of the gateway, without a key.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.service.url()))
    }

    /// A POST with the environment's key.
    pub(crate) fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        let request = self.request(reqwest::Method::POST, path);
        request.bearer_auth(self.environment.key()).body(body)
    }

    /// Sends an envelope.
    pub(crate) async fn send(&self, envelope: &Value) -> Result<Answer> {
        answer(self.post(BATCHES, envelope.to_string())).await
    }

    /// A connection of its own, for what HTTP clients do not let one do.
    pub(crate) async fn connect(&self) -> Result<TcpStream> {
        let url = self.service.url();
        let address = url.strip_prefix("http://").context("no http address")?;
        TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))
    }

    /// A client that asks for more than the network holds of answers and reads none, so that the
    /// gateway cannot write on. It goes when dropped.
    pub(crate) async fn deaf_client(&self) -> Result<AbortOnDropHandle<Result<()>>> {
        let mut connection = self.connect().await?;
        let client = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                write(&mut connection, "GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n")
                    .await?;
            }
        }));
        let (mut answered, mut since) = (0.0, Instant::now());
        eventually("the gateway cannot write on", DEADLINE, async || {
            let metrics = self.service.metrics().await.map_err(|error| format!("{error:#}"))?;
            let path = [("path", "/openapi.json")];
            let now = metrics.sum("tapedeck_gateway_requests_total", &path).unwrap_or_default();
            if now > answered {
                (answered, since) = (now, Instant::now());
            }
            let stuck = answered > 0.0 && since.elapsed() > STUCK_AFTER;
            if stuck { Ok(()) } else { Err(format!("{now} answers written")) }
        })
        .await?;
        Ok(client)
    }

    /// The head of a batch request with the environment's key and a body of `bytes` bytes.
    pub(crate) fn head(&self, bytes: usize) -> String {
        format!(
            "POST {BATCHES} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n\
             content-length: {bytes}\r\n\r\n",
            self.environment.key()
        )
    }
}

/// Sends a request and reads the answer; every answer of the gateway must bear CORS headers.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await?;
    let answer = Answer {
        body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? },
        status,
        headers,
    };
    ensure!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN.as_str()) == "*", "no CORS in {answer:?}");
    let exposed = answer.header(ACCESS_CONTROL_EXPOSE_HEADERS.as_str());
    ensure!(exposed.contains("retry-after") && exposed.contains("date"), "{answer:?}");
    ensure!(!answer.header("date").is_empty(), "no date in {answer:?}");
    if status >= 400 {
        let content_type = answer.header(CONTENT_TYPE.as_str());
        ensure!(content_type == "application/problem+json", "no problem in {answer:?}");
        ensure!(answer.body["status"] == status, "another status in {answer:?}");
        for member in ["type", "title", "detail"] {
            ensure!(answer.body[member].is_string(), "no {member} in {answer:?}");
        }
        let come_back = [429, 503].contains(&status);
        ensure!(answer.headers.contains_key("retry-after") == come_back, "{answer:?}");
    }
    Ok(answer)
}

impl Answer {
    /// A header's text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Milliseconds since 1970 now.
pub(crate) fn now_millis() -> i64 {
    Timestamp::now().millis()
}

/// An envelope of a new replay with so many events, counted from 0.
pub(crate) fn envelope(events: usize) -> Value {
    let now = now_millis();
    let event = |seq| json!({"seq": seq, "timestamp": now, "event_type": "click", "event_data": {"x": seq}});
    json!({
        "replay": {
            "replay_id": Uuid::new_v4(),
            "initial_url": "https://shop.example/",
            "start_time": now,
            "user": {"user_id": Uuid::new_v4()},
        },
        "events": (0..events).map(event).collect::<Vec<_>>(),
    })
}

/// An envelope of which the member at `pointer` is another.
pub(crate) fn envelope_with(pointer: &str, value: Value) -> Value {
    let mut envelope = envelope(1);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match envelope.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        members => members[name] = value,
    }
    envelope
}

/// Reads an answer from a connection until the gateway has sent all of it: its head, and as much
/// as the head announces.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("no content-length")?;
            if body.len() >= length.parse()? {
                return Ok(text);
            }
        }
        let read = tokio::time::timeout(DEADLINE, stream.read_buf(&mut received));
        ensure!(read.await.context("no answer in time")?? > 0, "no answer, but {text:?}");
    }
}

/// Writes to a connection.
pub(crate) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: impl AsRef<[u8]>,
) -> Result<()> {
    stream.write_all(bytes.as_ref()).await?;
    Ok(stream.flush().await?)
}
