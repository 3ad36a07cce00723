//! What every batch says of its replay and user against Kafka and the rows of `replays` and
//! `users`.

use std::collections::HashMap;

use common::record::events::Replay;
use common::time::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::clause::Clause;
use super::statement::Statement;
use super::verdict::Verdict;
use crate::ledger::Sent;
use crate::model::{Model, Tables, differences};

/// SHA-256 over what a batch says of its replay and user, and when: all that merging depends on.
type HeadDigest = [u8; 32];

/// What batches say of replays and users. Those of refused batches are not in it.
#[derive(Debug, Default)]
pub(super) struct Heads {
    said: HashMap<HeadDigest, Head>,
    /// What counts of it.
    merged: Model,
}

#[derive(Debug)]
struct Head {
    statement: Statement,
    replay_id: Uuid,
}

impl Heads {
    /// A batch was acknowledged.
    pub(super) fn acknowledged(&mut self, batch: &Sent<'_>) {
        self.entry(batch).statement.acknowledged = true;
        self.merged.add_head(&batch.replay, batch.as_of);
    }

    /// A batch may have arrived or not.
    pub(super) fn unknown(&mut self, batch: &Sent<'_>) {
        self.entry(batch);
    }

    fn entry(&mut self, batch: &Sent<'_>) -> &mut Head {
        let replay_id = batch.replay.replay_id;
        let head = || Head { statement: Statement::default(), replay_id };
        self.said.entry(digest(&batch.replay, batch.as_of)).or_insert_with(head)
    }

    /// Kafka holds a record that says so.
    pub(super) fn in_kafka(
        &mut self,
        replay: &Replay<'_>,
        as_of: Timestamp,
        verdict: &mut Verdict,
    ) {
        let Some(Head { statement, .. }) = self.said.get_mut(&digest(replay, as_of)) else {
            return verdict
                .add(Clause::StatementUnexpected, || format!("{replay:?} as of {as_of}"));
        };
        if !std::mem::replace(&mut statement.in_kafka, true) {
            self.merged.add_head(replay, as_of);
        }
    }

    /// Compares with Kafka, of which all records have been given before, and with all rows.
    pub(super) fn judge(&self, tables: &Tables, verdict: &mut Verdict) {
        for head in self.said.values().filter(|head| head.statement.is_missing()) {
            let describe = || format!("a batch of replay {}", head.replay_id);
            verdict.add(Clause::StatementMissing, describe);
        }
        let expected = self.merged.tables();
        for difference in differences("users", &expected.users, &tables.users) {
            verdict.add(Clause::User, || difference);
        }
        for difference in differences("replays", &expected.replays, &tables.replays) {
            verdict.add(Clause::Replay, || difference);
        }
    }
}

fn digest(replay: &Replay<'_>, as_of: Timestamp) -> HeadDigest {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    // A debug text tells what is absent from what is empty.
    add(&format!("{replay:?}"));
    add(&as_of.to_string());
    hash.finalize().into()
}
