//! Between Kafka's lists of partitions, which name topics, and the lane's own sets.

use std::collections::{BTreeMap, BTreeSet};

use common::topics::TopicOptions;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::record::{Partition, Topic};

/// The names of the two topics, of which a lane reads one.
#[derive(Clone, Debug)]
pub(super) struct TopicNames {
    events: String,
    webstates: String,
}

impl TopicNames {
    pub(super) fn new(options: &TopicOptions) -> Self {
        Self { events: options.events(), webstates: options.webstates() }
    }

    /// The name of a topic.
    pub(super) fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Events => &self.events,
            Topic::Webstates => &self.webstates,
        }
    }

    /// The partition of that name and number; no lane reads a third topic.
    pub(super) fn partition(&self, name: &str, number: i32) -> Partition {
        let topic = if name == self.events { Topic::Events } else { Topic::Webstates };
        Partition { topic, number }
    }

    /// The partitions of a list.
    pub(super) fn partitions(&self, list: &TopicPartitionList) -> BTreeSet<Partition> {
        let elements = list.elements();
        elements.iter().map(|it| self.partition(it.topic(), it.partition())).collect()
    }

    /// Partitions as a list, without offsets.
    pub(super) fn list<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition>,
    ) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(self.name(partition.topic), partition.number);
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
            let name = self.name(partition.topic);
            list.add_partition_offset(name, partition.number, Offset::Offset(*offset))?;
        }
        Ok(list)
    }
}
