//! Connections in trouble, each shown by bytes that are late, slow, lost or turned away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::exchange::Protocol;
use super::{EFFECT_WITHIN, Happened, Scene};
use crate::chaos::kind::{Between, Trouble};
use crate::stack::eventually;
use crate::stack::toxiproxy::{Proxy, Toxic};

/// How long it lasts, in seconds.
const SECONDS: std::ops::Range<f64> = 3.0..10.0;
/// How long connections are half open, in seconds, whatever is scaled: longer than what a service
/// waits for an answer of Postgres (12) or of a broker (10).
const HALF_OPEN_SECONDS: std::ops::Range<f64> = 11.0..16.0;
/// How late bytes come, in milliseconds.
const DELAY_MS: std::ops::Range<u64> = 200..1_500;
/// How few kilobytes pass in a second.
const SLOW_KILOBYTES: std::ops::Range<u64> = 1..16;

/// How long the padding of a question takes where few bytes pass.
const SLOW_PADDING_MS: u64 = 400;
/// How long the question takes then at least: the proxy counts in steps of 100 milliseconds.
const SLOW_AT_LEAST: Duration = Duration::from_millis(300);
/// For so long nothing must come over a connection that is half open.
const SILENCE: Duration = Duration::from_secs(2);
/// How long one answer may take, delays included.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One connection, and how its server is asked.
struct Link<'a> {
    proxy: &'a Proxy,
    protocol: Protocol,
}

/// What is done to it.
#[derive(Clone, Copy)]
enum Disturbance {
    Cut,
    Delay { milliseconds: u64 },
    Slow { kilobytes: u64 },
    HalfOpen,
}

impl Disturbance {
    fn toxic(self) -> Option<Toxic> {
        match self {
            Self::Cut => None,
            Self::Delay { milliseconds } => Some(Toxic::Latency { milliseconds }),
            Self::Slow { kilobytes } => Some(Toxic::Bandwidth { kilobytes }),
            Self::HalfOpen => Some(Toxic::Blackhole),
        }
    }
}

pub(super) async fn trouble(scene: &mut Scene<'_>, trouble: Trouble) -> Result<Happened> {
    let between = Between::of(scene.target);
    let disturbance = match trouble {
        Trouble::Cut => Disturbance::Cut,
        Trouble::Delay => Disturbance::Delay { milliseconds: scene.choices.random_range(DELAY_MS) },
        Trouble::Slow => {
            Disturbance::Slow { kilobytes: scene.choices.random_range(SLOW_KILOBYTES) }
        }
        Trouble::HalfOpen => Disturbance::HalfOpen,
    };
    let proxies = scene.world.links.between(between);
    let proxy = proxies.choose(&mut scene.choices).context("there are no connections")?;
    let link = Link { proxy, protocol: Protocol::between(between) };
    link.wait_answer(0, Duration::ZERO).await.context("before it was disturbed")?;
    let standing = TcpStream::connect(proxy.address()).await?;
    match disturbance.toxic() {
        None => proxy.cut().await?,
        Some(toxic) => proxy.poison(toxic).await?,
    }
    let shown = link.show(disturbance, standing).await;
    match disturbance {
        Disturbance::HalfOpen => scene.last_unscaled(HALF_OPEN_SECONDS).await,
        _ => scene.last(SECONDS).await,
    }
    match disturbance.toxic() {
        None => proxy.mend().await?,
        Some(_) => proxy.cure().await?,
    }
    let shown = shown.with_context(|| format!("{} was in no trouble", proxy.name()))?;
    let happened = Happened::now(format!("{}: {shown}", proxy.name()));
    let answered = link.wait_answer(0, Duration::ZERO).await.context("after it was disturbed");
    Ok(happened.healed(answered))
}

impl Link<'_> {
    /// Sees the effect; `standing` is a connection from before.
    async fn show(&self, disturbance: Disturbance, mut standing: TcpStream) -> Result<String> {
        let address = self.proxy.address();
        match disturbance {
            Disturbance::Cut => {
                let read = tokio::time::timeout(ANSWER_WITHIN, standing.read(&mut [0; 64])).await;
                let broken = matches!(read.context("it stays open")?, Ok(0) | Err(_));
                ensure!(broken, "bytes came over it");
                ensure!(TcpStream::connect(address).await.is_err(), "it takes connections");
                Ok("broken, and closed to others".to_owned())
            }
            Disturbance::Delay { milliseconds } => {
                let took = self.wait_answer(0, Duration::from_millis(milliseconds)).await?;
                Ok(format!("{} ms until an answer", took.as_millis()))
            }
            Disturbance::Slow { kilobytes } => {
                let padding = u16::try_from(kilobytes * SLOW_PADDING_MS)?;
                let took = self.wait_answer(padding, SLOW_AT_LEAST).await?;
                Ok(format!("{} ms for {padding} bytes", took.as_millis()))
            }
            Disturbance::HalfOpen => {
                let answer = self.protocol.exchange(address, 0, SILENCE).await?;
                ensure!(answer.is_none(), "it was answered after {answer:?}");
                Ok(format!("open, and silent for {SILENCE:?}"))
            }
        }
    }

    /// Asks until there is an answer: a server may be away for reasons of its own. The answer must
    /// not come before `at_least`.
    async fn wait_answer(&self, padding: u16, at_least: Duration) -> Result<Duration> {
        let took = eventually("an answer", EFFECT_WITHIN, async || {
            let address = self.proxy.address();
            let answer = self.protocol.exchange(address, padding, ANSWER_WITHIN).await?;
            answer.with_context(|| format!("none within {ANSWER_WITHIN:?}"))
        })
        .await?;
        ensure!(took >= at_least, "it was answered after {took:?}");
        Ok(took)
    }
}
