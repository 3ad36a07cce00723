//! Records that no writer can read. (Events that cannot be written come from the fleet.)

use anyhow::Result;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::{Happened, Scene};
use crate::model::records;
use crate::stack::records::Record;

/// How many at a time: far from half of what a lane sees, at which it would stop.
const RECORDS: std::ops::RangeInclusive<usize> = 1..=5;

/// What is wrong with a record.
#[derive(Clone, Copy, Debug)]
enum Garbage {
    /// A batch without the headers that every record has.
    NoHeaders,
    /// A batch that is no JSON.
    NotJson,
    /// A page that is none, under a hash.
    NotAPage,
}

impl Garbage {
    const ALL: [Self; 3] = [Self::NoHeaders, Self::NotJson, Self::NotAPage];

    fn topic(self) -> &'static str {
        match self {
            Self::NoHeaders | Self::NotJson => "replay-events",
            Self::NotAPage => "replay-webstates",
        }
    }

    /// A record under a key that no other has.
    fn record(self, choices: &mut impl Rng) -> Record {
        let key = hex::encode(choices.random::<[u8; 32]>());
        let value = choices.random::<[u8; 32]>().to_vec();
        match self {
            Self::NoHeaders => Record { key: key.into(), value: Some(value), ..Record::default() },
            Self::NotJson | Self::NotAPage => records::record(key, value),
        }
    }
}

pub(super) async fn poison(scene: &mut Scene<'_>) -> Result<Happened> {
    let environment = &scene.world.environment;
    let count = scene.choices.random_range(RECORDS);
    for _ in 0..count {
        let kind = *Garbage::ALL.choose(&mut scene.choices).unwrap_or(&Garbage::NotJson);
        let record = kind.record(&mut scene.choices);
        let key = String::from_utf8_lossy(&record.key).into_owned();
        scene.ledger.garbage(&key)?;
        environment.records().produce(&environment.topic(kind.topic()), &[record]).await?;
        scene.ledger.garbage_acknowledged(&key)?;
    }
    Ok(Happened::now(format!("{count} records that nobody can read")))
}
