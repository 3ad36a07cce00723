//! Records that no writer can read. (Events that cannot be written come from the fleet.)

use anyhow::Result;
use rand::RngExt;

use super::{Happened, Scene};
use crate::stack::records::Record;

/// How many at a time: far from half of what a lane sees, at which it would stop.
const RECORDS: std::ops::RangeInclusive<usize> = 1..=5;

pub(super) async fn poison(scene: &mut Scene<'_>) -> Result<Happened> {
    let environment = &scene.world.environment;
    let count = scene.choices.random_range(RECORDS);
    let topic = environment.topic("replay-events");
    for _ in 0..count {
        let key = format!("garbage-{:032x}", scene.choices.random::<u128>());
        let value = scene.choices.random::<[u8; 32]>().to_vec();
        let record = Record { key: key.clone().into(), value: Some(value), ..Record::default() };
        scene.ledger.garbage(&key)?;
        environment.records().produce(&topic, &[record]).await?;
        scene.ledger.garbage_acknowledged(&key)?;
    }
    Ok(Happened::now(format!("{count} records that nobody can read")))
}
