//! How a lane's consumer is set up.

use rdkafka::ClientConfig;

use crate::options::RunOptions;

/// A dead writer's partitions go to others after this many milliseconds. Kafka's default is 45 s;
/// the least that brokers allow by default is 6.
const SESSION_TIMEOUT_MS: &str = "10000";

/// How often a member says that it lives, in milliseconds, and hears that its group rebalances:
/// until all have heard, those that join get nothing. Kafka's default is 3 s. (The client looks
/// whether one is due whenever it has something to do, and else once a second.)
const HEARTBEAT_INTERVAL_MS: &str = "300";

/// A full fetch queue looks again after this many milliseconds; Kafka's default is a second.
const FETCH_QUEUE_BACKOFF_MS: &str = "10";

/// How much a broker may answer a fetch with. It counts as it was sent: compressed, of which the
/// client then holds the tenfold, beyond what it may fetch ahead. A larger record comes whole
/// nevertheless, alone.
const FETCH_BYTES: &str = "524288";

/// A broker answers a fetch once it has so much, or after so many milliseconds. Kafka's default is
/// one byte: while the fleet streams, each record or two would cost an answer of its own, which is
/// most of what Kafka and a lane then have to do.
const FETCH_AT_LEAST_BYTES: &str = "65536";
const FETCH_WAIT_MS: &str = "50";

/// How long a broker may leave a request unanswered, in milliseconds, before the client takes the
/// connection for dead. Kafka's default of 60 s is how long a lane would wait for a broker whose
/// machine is gone. As long as a question may take.
const SOCKET_TIMEOUT_MS: &str = "10000";

/// How often the client reports lag, in milliseconds.
const STATISTICS_INTERVAL_MS: &str = "1000";

/// The configuration of lane `number`'s consumer.
///
/// # Errors
/// When the Kafka options are wrong.
pub(super) fn consumer_config(
    number: usize,
    client_id: &str,
    options: &RunOptions,
) -> anyhow::Result<ClientConfig> {
    let settings = [
        ("group.id", options.consumer_group.clone()),
        ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "error".to_owned()),
        ("session.timeout.ms", SESSION_TIMEOUT_MS.to_owned()),
        ("heartbeat.interval.ms", HEARTBEAT_INTERVAL_MS.to_owned()),
        ("max.poll.interval.ms", options.max_poll_interval_ms.to_string()),
        ("queued.max.messages.kbytes", (options.fetch_ahead_bytes / 1024).to_string()),
        ("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_owned()),
        ("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS.to_owned()),
        ("fetch.min.bytes", FETCH_AT_LEAST_BYTES.to_owned()),
        ("fetch.wait.max.ms", FETCH_WAIT_MS.to_owned()),
        ("fetch.max.bytes", FETCH_BYTES.to_owned()),
        ("fetch.message.max.bytes", FETCH_BYTES.to_owned()),
        // Of what is sent, which is nothing; the client wants it to be no more than it may fetch.
        ("message.max.bytes", FETCH_BYTES.to_owned()),
        (
            "receive.message.max.bytes",
            (options.limits.topic_message_bytes() + (1 << 20)).to_string(),
        ),
        ("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_owned()),
    ];
    let instance = options.group_instance_id.as_ref();
    let instance = instance.map(|name| ("group.instance.id", format!("{name}-{number}")));
    let settings = settings.into_iter().chain(instance);
    options.kafka.client(client_id, settings).map_err(anyhow::Error::msg)
}
