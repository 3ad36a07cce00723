//! What a gateway's requests cost, against servers that do as little as they can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bodies;
use super::comparison::{Comparison, Figure, Run, SERVER};
use super::figures::Goal;
use super::floor::RunningFloor;
use super::load::{self, Requests};
use super::report::Report;
use super::usage::Meter;
use super::{Case, Options, Tell};
use crate::fleet::body::Encoding;
use crate::stack::process::Process;
use crate::stack::{Environment, Ports, Service, Stack, Tuning};

/// What is sent, and how it is encoded, on how many connections: each size as it is, with few
/// connections and with many, and compressed.
const VARIANTS: [(Encoding, usize); 5] = [
    (Encoding::Plain, 16),
    (Encoding::Plain, 64),
    (Encoding::Plain, BUSY_CONNECTIONS),
    (Encoding::Gzip, 64),
    (Encoding::Zstd, 64),
];
const SIZES_BYTES: [usize; 3] = [1 << 10, 8 << 10, 100 << 10];

/// Enough that the cores are what limits the rate, and not the waiting for Kafka.
const BUSY_CONNECTIONS: usize = 256;

const CPU: (Figure, Goal) = (Figure::Cpu, Goal::AtMost(1.3));
const BUSY_RATE: (Figure, Goal) = (Figure::Rate, Goal::AtLeast(0.9));

/// How long requests are sent before it counts, and then while it does.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);

/// Measures all variants, interleaved.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    let servers = Servers::start(&environment).await?;
    let mut variants = Vec::new();
    for size_bytes in SIZES_BYTES {
        for (encoding, connections) in VARIANTS {
            variants.push(Variant::new(&environment, size_bytes, encoding, connections)?);
        }
    }
    for round in 1..=options.runs {
        for variant in &mut variants {
            tell(&format!("round {round} of {}, {}", options.runs, variant.name));
            variant.measure(&stack, &servers).await?;
        }
    }
    let comparisons =
        variants.into_iter().flat_map(|it| [it.beside_produce, it.beside_bare]).collect();
    Report::of(Case::Gateway, &stack, comparisons, Vec::new()).await
}

/// What is measured.
struct Servers {
    gateway: Service,
    bare: RunningFloor,
    produce: RunningFloor,
}

impl Servers {
    async fn start(environment: &Environment) -> Result<Self> {
        // A limit that is looked at, and never reached.
        let gateway = environment
            .gateway()
            .variable("TAPEDECK_RATE_LIMIT_PER_SECOND", "10000000")
            .start()
            .await?;
        gateway.wait_ready().await?;
        Ok(Self {
            gateway,
            bare: RunningFloor::bare(environment).await?,
            produce: RunningFloor::produce(environment).await?,
        })
    }
}

struct Variant {
    name: String,
    requests: Arc<Requests>,
    connections: usize,
    beside_produce: Comparison,
    beside_bare: Comparison,
}

impl Variant {
    fn new(
        environment: &Environment,
        size_bytes: usize,
        encoding: Encoding,
        connections: usize,
    ) -> Result<Self> {
        let encoded = encoding.content_encoding().unwrap_or("plain");
        let name = format!("{} KiB {encoded}, {connections} connections", size_bytes >> 10);
        let requests = Arc::new(bodies::requests(environment, size_bytes, encoding)?);
        let mut goals = vec![CPU];
        if connections == BUSY_CONNECTIONS {
            goals.push(BUSY_RATE);
        }
        let beside = |limit, goals| Comparison::new(name.clone(), "gateway", limit, goals);
        let beside_produce = beside("parse and produce", goals);
        let beside_bare = beside("only answer", Vec::new());
        Ok(Self { name, requests, connections, beside_produce, beside_bare })
    }

    async fn measure(&mut self, stack: &Stack, servers: &Servers) -> Result<()> {
        let Servers { gateway, bare, produce } = servers;
        let bare = self.load(stack, &bare.process, bare.address).await.context("bare")?;
        let produce =
            self.load(stack, &produce.process, produce.address).await.context("produce")?;
        let accepted = "tapedeck_gateway_envelopes_accepted_total";
        let before = gateway.metrics().await?.sum(accepted, &[]).unwrap_or_default();
        let address = gateway.address();
        let gateway_run = self.load(stack, gateway.process(), address).await.context("gateway")?;
        let after = gateway.metrics().await?.sum(accepted, &[]).unwrap_or_default();
        ensure!(
            after - before >= gateway_run.count as f64,
            "{} answers, and only {} envelopes accepted",
            gateway_run.count,
            after - before
        );
        self.beside_produce.add(&gateway_run, &produce);
        self.beside_bare.add(&gateway_run, &bare);
        Ok(())
    }

    async fn load(&self, stack: &Stack, process: &Process, address: SocketAddr) -> Result<Run> {
        load::send(address, &self.requests, self.connections, WARM_UP).await?;
        let meter = Meter::start(stack, &[(SERVER, process)]).await?;
        let count = load::send(address, &self.requests, self.connections, MEASURED).await?;
        Ok(Run { count, usage: meter.read().await?, memory_bytes: None })
    }
}
