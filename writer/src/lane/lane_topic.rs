//! Between Kafka's lists of partitions, which name their topic, and the lane's own sets.

use std::collections::{BTreeMap, BTreeSet};

use common::topics::TopicOptions;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::record::{Partition, Topic};

/// The topic that a lane reads; it meets partitions of no other.
#[derive(Clone, Debug)]
pub(super) struct LaneTopic {
    topic: Topic,
    name: String,
}

impl LaneTopic {
    pub(super) fn new(topic: Topic, options: &TopicOptions) -> Self {
        let name = match topic {
            Topic::Events => options.events(),
            Topic::Webstates => options.webstates(),
        };
        Self { topic, name }
    }

    /// Its name in Kafka.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its partition of that number.
    pub(super) fn partition(&self, number: i32) -> Partition {
        Partition { topic: self.topic, number }
    }

    /// The partitions of a list.
    pub(super) fn partitions(&self, list: &TopicPartitionList) -> BTreeSet<Partition> {
        list.elements().iter().map(|it| self.partition(it.partition())).collect()
    }

    /// Partitions as a list, without offsets.
    pub(super) fn list<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition>,
    ) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.name, partition.number);
        }
        list
    }

    /// Partitions as a list, each with its offset.
    ///
    /// # Errors
    /// When an offset is not one that Kafka could have given.
    pub(super) fn list_with_offsets(
        &self,
        offsets: &BTreeMap<Partition, i64>,
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.name, partition.number, Offset::Offset(*offset))?;
        }
        Ok(list)
    }
}
