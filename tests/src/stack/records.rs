//! A broker's records, as tests look at them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long one question to the broker may take, and one wait for records.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Above any record that a topic takes.
const LARGEST_RECORD_BYTES: &str = "20000000";

/// What may wait of each partition while records are read.
const QUEUED_KIBIBYTES: &str = "20000";
/// How many records wait for the broker at a time.
const RECORDS_UNDER_WAY: usize = 1_000;

/// A record with everything that Kafka keeps of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its partition; when producing, the key chooses it.
    pub partition: i32,
    /// Its place in the partition; when producing, the broker chooses it.
    pub offset: i64,
    /// The key.
    pub key: Vec<u8>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The value of the last header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }

    fn from_kafka(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect(),
        }
    }
}

/// The records of one broker.
#[derive(Clone, Debug)]
pub struct Records {
    brokers: String,
}

impl Records {
    /// Those of the given broker.
    pub fn new(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned() }
    }

    /// Makes a topic with settings of the broker's own.
    ///
    /// # Errors
    /// When it exists already or the broker does not answer in time.
    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new()
            .request_timeout(Some(QUESTION_TIMEOUT))
            .operation_timeout(Some(QUESTION_TIMEOUT));
        for made in admin.create_topics([&topic], &options).await? {
            made.map_err(|(_, code)| KafkaError::AdminOp(code))?;
        }
        Ok(())
    }

    /// Adds records to a topic, compressed as the gateway does it and otherwise just as they are,
    /// and waits until the broker has them.
    ///
    /// # Errors
    /// When the broker does not take one in time.
    pub async fn produce(&self, topic: &str, records: &[Record]) -> Result<()> {
        let producer: FutureProducer = self
            .client()
            .set("message.max.bytes", LARGEST_RECORD_BYTES)
            .set("message.timeout.ms", QUESTION_TIMEOUT.as_millis().to_string())
            .set("compression.type", "lz4")
            .create()?;
        let send = |record: &Record| {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
                headers.insert(Header { key: &header.0, value: Some(&header.1) })
            });
            let mut addition = FutureRecord::to(topic).key(&record.key).headers(headers);
            addition.payload = record.value.as_ref();
            let sent = producer.send_result(addition).map_err(|(error, _)| error);
            async move {
                sent?.await?.map_err(|(error, _)| error)?;
                anyhow::Ok(())
            }
        };
        // Each is handed over when its turn comes, so that their order stays.
        let mut sent = stream::iter(records.iter().map(send)).buffered(RECORDS_UNDER_WAY);
        while let Some(delivered) = sent.next().await {
            delivered.with_context(|| format!("{topic} does not take a record"))?;
        }
        Ok(())
    }

    /// Has a topic lose all records that it holds now.
    ///
    /// # Errors
    /// When the topic does not exist or the broker does not answer in time.
    pub async fn lose_all(&self, topic: &str) -> Result<()> {
        let config = self.client();
        let all = tokio::task::spawn_blocking({
            let (config, topic) = (config.clone(), topic.to_owned());
            move || all_partitions(&config.create()?, &topic, Offset::End)
        });
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let options = AdminOptions::new()
            .request_timeout(Some(QUESTION_TIMEOUT))
            .operation_timeout(Some(QUESTION_TIMEOUT));
        for partition in admin.delete_records(&all.await??, &options).await?.elements() {
            partition.error()?;
        }
        Ok(())
    }

    /// All records that a topic holds now, by partition and offset.
    ///
    /// # Errors
    /// When the topic does not exist or the broker does not answer in time.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<Record>> {
        let mut records =
            self.read_each(topic, Vec::new(), |records, record| records.push(record)).await?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// Gives every record that a topic holds now to `take`, one after the other, with what it has
    /// gathered so far; those of one partition in order. Gives back what was gathered.
    ///
    /// # Errors
    /// When the topic does not exist or the broker does not answer in time.
    pub async fn read_each<T: Send + 'static>(
        &self,
        topic: &str,
        gathered: T,
        take: impl FnMut(&mut T, Record) + Send + 'static,
    ) -> Result<T> {
        let config = self.client();
        let topic = topic.to_owned();
        tokio::task::spawn_blocking(move || read_each(&config, &topic, gathered, take)).await?
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("reconnect.backoff.max.ms", "500");
        config
    }
}

fn read_each<T>(
    config: &ClientConfig,
    topic: &str,
    mut gathered: T,
    mut take: impl FnMut(&mut T, Record),
) -> Result<T> {
    let consumer: BaseConsumer = config
        .clone()
        // librdkafka wants one, although no offset is committed.
        .set("group.id", "tapedeck-reading-all")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.message.max.bytes", LARGEST_RECORD_BYTES)
        .set("queued.max.messages.kbytes", QUEUED_KIBIBYTES)
        .create()?;
    let assignment = all_partitions(&consumer, topic, Offset::Beginning)?;
    let mut unfinished = assignment.count();
    consumer.assign(&assignment)?;
    while unfinished > 0 {
        match consumer
            .poll(QUESTION_TIMEOUT)
            .context("Kafka sends neither records nor their end")?
        {
            Ok(message) => take(&mut gathered, Record::from_kafka(&message)),
            Err(KafkaError::PartitionEOF(_)) => unfinished -= 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(gathered)
}

pub(super) fn all_partitions(
    consumer: &BaseConsumer,
    topic: &str,
    offset: Offset,
) -> Result<TopicPartitionList> {
    let metadata = consumer.fetch_metadata(Some(topic), QUESTION_TIMEOUT)?;
    let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
    ensure!(!partitions.is_empty(), "Kafka knows no topic {topic}");
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition.id(), offset)?;
    }
    Ok(list)
}
