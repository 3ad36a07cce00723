//! What a gateway cannot do without, as a server: the floors that its cost is measured against.
//!
//! They are run as programs of their own, so that their CPU seconds can be told apart.

use std::borrow::Cow;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use clap::Subcommand;
use flate2::read::GzDecoder;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::stack::launch::Launch;
use crate::stack::process::Process;
use crate::stack::{Environment, eventually};

/// What stands before the address in a floor's log.
const LISTENING: &str = "listening on ";

/// How long a floor may take until it listens.
const LISTEN_WITHIN: Duration = Duration::from_secs(10);

/// How long a record may take to Kafka, as in the gateway.
const DELIVERY_TIMEOUT_MILLISECONDS: &str = "10000";

/// How little a server can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Floor {
    /// Takes a body and answers 200.
    Bare,
    /// Decodes a body, parses it, and answers 200 once Kafka has acknowledged it.
    Produce {
        /// Kafka's addresses.
        #[arg(long)]
        brokers: String,
        /// Where the bodies go.
        #[arg(long)]
        topic: String,
    },
}

impl Floor {
    /// Listens on any port, says on which, and serves until it is killed.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn serve(self) -> Result<()> {
        let route = match self {
            Self::Bare => post(async |_body: Bytes| StatusCode::OK),
            Self::Produce { brokers, topic } => {
                post(produce).with_state(Arc::new(Producer::new(&brokers, topic)?))
            }
        };
        let router = Router::new().fallback_service(route).layer(DefaultBodyLimit::disable());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{LISTENING}{}", listener.local_addr()?);
        axum::serve(listener.tap_io(|stream| drop(stream.set_nodelay(true))), router).await?;
        Ok(())
    }
}

/// A running floor. Dropping it kills it.
pub(super) struct RunningFloor {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl RunningFloor {
    /// Starts one that only answers.
    pub(super) async fn bare(environment: &Environment) -> Result<Self> {
        Self::start(environment, "bare", &[]).await
    }

    /// Starts one that produces to the environment's topic of events.
    pub(super) async fn produce(environment: &Environment) -> Result<Self> {
        let topic = environment.topic("replay-events");
        let arguments = ["--brokers", environment.brokers(), "--topic", &topic];
        Self::start(environment, "produce", &arguments).await
    }

    async fn start(environment: &Environment, floor: &str, arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().context("cannot tell which program runs")?;
        let log = environment.folder().join(format!("floor-{floor}.log"));
        let process = Launch::new(floor, program, log)
            .arguments(["floor", floor])
            .arguments(arguments)
            .start()?;
        let address = eventually("the floor listens", LISTEN_WITHIN, async || {
            let log = process.log();
            let line = log.lines().find_map(|line| line.strip_prefix(LISTENING));
            line.and_then(|address| address.parse().ok()).ok_or(log)
        })
        .await?;
        Ok(Self { process, address })
    }
}

/// What parsing finds in a body: as much as an envelope's record is made of.
#[derive(Deserialize)]
struct Envelope<'a> {
    replay: Replay,
    #[serde(borrow)]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Replay {
    replay_id: Uuid,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    event_data: &'a RawValue,
}

/// Kafka's client, set up as the gateway sets it up.
struct Producer {
    producer: FutureProducer,
    topic: String,
}

impl Producer {
    fn new(brokers: &str, topic: String) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "2")
            .set("compression.type", "lz4")
            .set("message.timeout.ms", DELIVERY_TIMEOUT_MILLISECONDS)
            .create()?;
        Ok(Self { producer, topic })
    }
}

async fn produce(
    State(producer): State<Arc<Producer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, StatusCode> {
    let encoding = headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes());
    let plain = decode(encoding, &body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let envelope: Envelope<'_> =
        serde_json::from_slice(&plain).map_err(|_| StatusCode::BAD_REQUEST)?;
    let is_empty = |event: &Event<'_>| {
        event.timestamp.get().is_empty()
            || event.event_type.is_empty()
            || event.event_data.get().is_empty()
    };
    if envelope.events.iter().any(is_empty) {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let key = envelope.replay.replay_id.to_string();
    let record = FutureRecord::to(&producer.topic).key(&key).payload(&*plain);
    let report = producer.producer.send_result(record);
    let report = report.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.await;
    match report {
        Ok(Ok(_)) => Ok(format!(r#"{{"events":{},"webstates":0}}"#, envelope.events.len())),
        Ok(Err(_)) | Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn decode<'a>(encoding: Option<&[u8]>, body: &'a [u8]) -> std::io::Result<Cow<'a, [u8]>> {
    match encoding {
        Some(b"gzip") => {
            let mut plain = Vec::new();
            GzDecoder::new(body).read_to_end(&mut plain)?;
            Ok(Cow::Owned(plain))
        }
        Some(b"zstd") => Ok(Cow::Owned(zstd::decode_all(body)?)),
        _ => Ok(Cow::Borrowed(body)),
    }
}
