//! Connections in trouble.

use anyhow::{Result, ensure};
use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::net::TcpStream;

use super::{Happened, Scene};
use crate::chaos::kind::{Between, Trouble};
use crate::stack::toxiproxy::Toxic;

/// How long it lasts, in seconds.
const SECONDS: std::ops::Range<f64> = 3.0..10.0;
/// How late bytes come, in milliseconds.
const DELAY_MS: std::ops::Range<u64> = 50..1_500;
/// How few kilobytes pass in a second.
const SLOW_KILOBYTES: std::ops::Range<u64> = 1..30;

pub(super) async fn trouble(scene: &mut Scene<'_>, trouble: Trouble) -> Result<Happened> {
    let links = scene.world.links.between(Between::of(scene.target));
    let (milliseconds, kilobytes) =
        (scene.choices.random_range(DELAY_MS), scene.choices.random_range(SLOW_KILOBYTES));
    let Some(link) = links.choose(&mut scene.choices) else {
        anyhow::bail!("there are no connections");
    };
    let toxic = match trouble {
        Trouble::Cut => None,
        Trouble::Delay => Some(Toxic::Latency { milliseconds }),
        Trouble::Slow => Some(Toxic::Bandwidth { kilobytes }),
        Trouble::HalfOpen => Some(Toxic::Blackhole),
    };
    match toxic {
        None => link.cut().await?,
        Some(toxic) => link.poison(toxic).await?,
    }
    scene.last(SECONDS).await;
    match toxic {
        None => {
            let refused = TcpStream::connect(link.address()).await.is_err();
            link.mend().await?;
            ensure!(refused, "{} still took connections", link.name());
        }
        Some(toxic) => {
            let poisoned = link.is_poisoned(toxic).await?;
            link.cure().await?;
            ensure!(poisoned, "{} was in no trouble", link.name());
        }
    }
    Ok(Happened::now(link.name()))
}
