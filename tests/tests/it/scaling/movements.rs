//! Which lane held which partition when, as the lanes logged it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use tests::stack::Service;

/// A lane of one of several writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneOf {
    writer: usize,
    lane: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    TakenOn,
    LetGo,
}

/// A partition that came to a lane or went.
#[derive(Clone, Debug)]
pub(super) struct Movement {
    /// RFC 3339 with microseconds: as text it sorts by time.
    at: String,
    lane: LaneOf,
    topic: String,
    partition: i32,
    change: Change,
}

/// What the writers logged, in order of time.
pub(super) fn movements(writers: &[&Service]) -> Result<Vec<Movement>> {
    let mut movements = Vec::new();
    for (writer, service) in writers.iter().enumerate() {
        for line in service.log().lines() {
            let event: Value = serde_json::from_str(line).context("the log is not JSON")?;
            if event["message"] == "partitions" {
                movements.extend(read(writer, &event).with_context(|| line.to_owned())?);
            }
        }
    }
    movements.sort_by(|left, right| left.at.cmp(&right.at));
    Ok(movements)
}

fn read(writer: usize, event: &Value) -> Option<Vec<Movement>> {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    let (at, topic) = (text("timestamp")?, text("topic")?);
    let lane = LaneOf { writer, lane: event["lane"].as_u64()? };
    let change = if event["change"] == "assigned" { Change::TakenOn } else { Change::LetGo };
    let numbers: Vec<i32> = serde_json::from_str(event["numbers"].as_str()?).ok()?;
    let movement =
        |partition| Movement { at: at.clone(), lane, topic: topic.clone(), partition, change };
    Some(numbers.into_iter().map(movement).collect())
}

/// The partitions of a topic that a writer holds after these movements.
pub(super) fn held(movements: &[Movement], writer: usize, topic: &str) -> BTreeSet<i32> {
    let mut held = BTreeSet::new();
    let its = |it: &&Movement| it.lane.writer == writer && it.topic == topic;
    for movement in movements.iter().filter(its) {
        match movement.change {
            Change::TakenOn => held.insert(movement.partition),
            Change::LetGo => held.remove(&movement.partition),
        };
    }
    held
}

/// The partitions that a lane let go of only to take them on again: they stood still although
/// nobody else was to have them.
pub(super) fn stopped_in_vain(movements: &[Movement]) -> Vec<&Movement> {
    let mut let_go_by: BTreeMap<(&str, i32), LaneOf> = BTreeMap::new();
    let mut in_vain = Vec::new();
    for movement in movements {
        let partition = (movement.topic.as_str(), movement.partition);
        match movement.change {
            Change::LetGo => {
                let_go_by.insert(partition, movement.lane);
            }
            Change::TakenOn if let_go_by.remove(&partition) == Some(movement.lane) => {
                in_vain.push(movement);
            }
            Change::TakenOn => {}
        }
    }
    in_vain
}

#[test]
fn a_partition_that_comes_back_to_its_lane_at_once_was_stopped_in_vain() {
    use Change::{LetGo, TakenOn};
    fn check(changes: &[(usize, i32, Change)], expected: &[i32]) {
        let movement = |(at, &(writer, partition, change)): (usize, &(usize, i32, Change))| {
            let lane = LaneOf { writer, lane: 0 };
            Movement { at: at.to_string(), lane, topic: "events".to_owned(), partition, change }
        };
        let movements: Vec<_> = changes.iter().enumerate().map(movement).collect();
        let in_vain: Vec<_> = stopped_in_vain(&movements).iter().map(|it| it.partition).collect();
        assert_eq!(in_vain, expected, "{changes:?}");
    }
    let both = [(0, 1, TakenOn), (0, 2, TakenOn)];
    check(&both, &[]);
    check(&[both[0], both[1], (0, 2, LetGo), (1, 2, TakenOn)], &[]);
    // As eager assignors have it: all are let go of, and one of them moves.
    let eager = [both[0], both[1], (0, 1, LetGo), (0, 2, LetGo), (0, 1, TakenOn), (1, 2, TakenOn)];
    check(&eager, &[1]);
    // Another had it in between.
    check(&[both[0], (0, 1, LetGo), (1, 1, TakenOn), (1, 1, LetGo), (0, 1, TakenOn)], &[]);
    // Its lane was killed and so let go of nothing.
    check(&[both[0], (1, 1, TakenOn)], &[]);
}
