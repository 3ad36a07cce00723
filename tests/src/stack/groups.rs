//! What consumer groups have committed, as tests look at it.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::records::{QUESTION_TIMEOUT, Records, all_partitions};

impl Records {
    /// The offsets that a group has committed for a topic, by partition; without those that it
    /// has not.
    ///
    /// # Errors
    /// When the topic does not exist or the broker does not answer in time.
    pub async fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let mut config = self.client();
        config.set("group.id", group);
        let topic = topic.to_owned();
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let assignment = all_partitions(&consumer, &topic, Offset::Invalid)?;
            let committed = consumer.committed_offsets(assignment, QUESTION_TIMEOUT)?;
            let offsets = committed.elements().into_iter().filter_map(|element| {
                Some((element.partition(), element.offset().to_raw().filter(|raw| *raw >= 0)?))
            });
            Ok(offsets.collect())
        })
        .await?
    }

    /// How far the end of each of a topic's partitions lies beyond what the group has committed:
    /// that many records are to go, or, if it is negative, were committed and are not there. Without
    /// partitions that are committed to their end.
    ///
    /// # Errors
    /// When the topic does not exist or the broker does not answer in time.
    pub async fn uncommitted(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let committed = self.committed(group, topic).await?;
        let config = self.client();
        let topic = topic.to_owned();
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let partitions = all_partitions(&consumer, &topic, Offset::Invalid)?;
            let mut kept = BTreeMap::new();
            for partition in partitions.elements() {
                let number = partition.partition();
                let (first, end) = consumer.fetch_watermarks(&topic, number, QUESTION_TIMEOUT)?;
                kept.insert(number, first..end);
            }
            Ok(uncommitted(&kept, &committed))
        })
        .await?
    }

    /// How many consumers the broker counts to a group.
    ///
    /// # Errors
    /// When the broker does not answer in time.
    pub async fn members(&self, group: &str) -> Result<usize> {
        let config = self.client();
        let group = group.to_owned();
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let groups = consumer.fetch_group_list(Some(&group), QUESTION_TIMEOUT)?;
            Ok(groups.groups().iter().map(|group| group.members().len()).sum())
        })
        .await?
    }
}

/// By partition, from the offsets that it holds and the one committed, if any.
fn uncommitted(
    kept: &BTreeMap<i32, Range<i64>>,
    committed: &BTreeMap<i32, i64>,
) -> BTreeMap<i32, i64> {
    let beyond = |(number, kept): (&i32, &Range<i64>)| {
        (*number, kept.end - committed.get(number).copied().unwrap_or(kept.start))
    };
    kept.iter().map(beyond).filter(|(_, records)| *records != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_partition_lacks_another_does_not_make_up_for() {
        let kept = BTreeMap::from([(0, 2..10), (1, 0..10), (2, 0..10), (3, 2..10), (4, 7..7)]);
        let committed = BTreeMap::from([(0, 10), (1, 7), (2, 13)]);
        // The fourth has no offset committed, and will be read from where it begins.
        let expected = BTreeMap::from([(1, 3), (2, -3), (3, 8)]);
        assert_eq!(uncommitted(&kept, &committed), expected);
    }
}
