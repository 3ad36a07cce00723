//! How the services reach Kafka: options, client configuration, and what librdkafka has to say.

mod inquiry;
pub mod permissions;
mod reports;
mod security;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;
use rdkafka::producer::future_producer::Delivery;
use rdkafka::types::RDKafkaConfRes;

use crate::options::{CheckOptions, Problems, read_secret_file};

pub use inquiry::{Inquiry, Unanswered, Visibility};
pub use reports::{Reported, Reports, is_consequence};

/// How long a question to the brokers (metadata, watermarks, committed offsets) may take.
pub const BROKER_QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest pause between attempts to reach a broker again.
const RECONNECT_BACKOFF_MAX_MS: &str = "2000";

/// Where Kafka is and how to talk to it.
#[derive(Clone, Debug, Args)]
pub struct KafkaOptions {
    /// Brokers to begin with, `host:port`, comma separated.
    ///
    /// Name two or three of a cluster's brokers, so that one may be away at a start.
    #[arg(
        long = "kafka-brokers",
        env = "TAPEDECK_KAFKA_BROKERS",
        default_value = "localhost:9092"
    )]
    pub brokers: String,

    /// Any librdkafka property, `name=value`; may be repeated, and in the environment hold one a
    /// line. Set last, so it wins.
    ///
    /// Use it for what has no option here: SASL, TLS (docs/kafka-access.md), buffers. A property
    /// that contradicts the services' own guarantees (acks, idempotence, offsets) breaks them.
    #[arg(
        long = "kafka-property",
        env = "TAPEDECK_KAFKA_PROPERTIES",
        hide_env_values = true,
        value_delimiter = '\n',
        value_name = "NAME=VALUE"
    )]
    pub properties: Vec<Property>,

    /// A file with librdkafka properties, one `name=value` a line: the place for passwords.
    ///
    /// Use it wherever a password is among them; what is also given as an option wins.
    #[arg(long = "kafka-properties-file", env = "TAPEDECK_KAFKA_PROPERTIES_FILE")]
    pub properties_file: Option<PathBuf>,
}

impl KafkaOptions {
    /// A client configuration: what all clients share, then the client's own `settings`, then
    /// what the operator passes through. `client_id` must be unique among the clients of a
    /// consumer group.
    ///
    /// # Errors
    /// A property that is not `name=value`, or that Kafka's client does not take, or a file that
    /// cannot be read. None of them shows a value.
    pub fn client<'a>(
        &self,
        client_id: &str,
        settings: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", client_id)
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS)
            .set("allow.auto.create.topics", "false");
        for (name, value) in settings {
            config.set(name, value);
        }
        for (name, value) in self.all_properties()? {
            config.set(name, value);
        }
        config.create_native_config().map_err(|error| without_value(&error))?;
        Ok(config)
    }

    fn all_properties(&self) -> Result<BTreeMap<String, String>, String> {
        let file = match &self.properties_file {
            Some(path) => read_secret_file(path)?.expose().to_owned(),
            None => String::new(),
        };
        file.lines()
            .chain(self.properties.iter().map(|property| property.0.as_str()))
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| match line.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    Ok((name.trim().to_owned(), value.trim().to_owned()))
                }
                // The line may hold a password: only its place is told.
                _ => Err("a Kafka property is not NAME=VALUE".to_owned()),
            })
            .collect()
    }
}

impl CheckOptions for KafkaOptions {
    fn check(&self, problems: &mut Problems) {
        problems.require(!self.brokers.trim().is_empty(), "--kafka-brokers is empty");
        let mistakes = self.all_properties().map(|properties| security::mistakes(&properties));
        for mistake in mistakes.unwrap_or_default() {
            problems.add(mistake);
        }
        // Properties that cannot be read are told here.
        if let Err(problem) = self
            .client("check", [])
            .and_then(|config| create_unconnected(config).map_err(|error| without_value(&error)))
        {
            problems.add(problem);
        }
    }
}

/// Has Kafka's client take its configuration over, which reads certificates and keys too, without
/// a broker to connect to.
fn create_unconnected(mut config: ClientConfig) -> KafkaResult<()> {
    config.remove("bootstrap.servers");
    config.create::<BaseProducer>().map(drop)
}

/// One `NAME=VALUE`, of which the value may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Property(String);

impl Property {
    /// Whether its value lets whoever knows it in.
    pub(crate) fn is_secret(&self) -> bool {
        const SECRETS: [&str; 9] = [
            "sasl.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.config",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
        ];
        self.0.split_once('=').is_some_and(|(name, _)| SECRETS.contains(&name.trim()))
    }
}

impl From<String> for Property {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split_once('=').map_or("", |(name, _)| name);
        write!(formatter, "{name}=[secret]")
    }
}

/// What Kafka's client does not take, without the value: where the name is unknown, as by a slip
/// in it, the value may be a password. What the client says of a property that it knows names those
/// values that it takes, which no password has.
fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            format!("Kafka's client has no property {name}")
        }
        KafkaError::ClientConfig(_, description, ..) => description.clone(),
        other => other.to_string(),
    }
}

/// Whether a broker has said itself that it has the record, by telling its offset.
///
/// An idempotent producer of librdkafka also reports success for records of which it only infers
/// that: when one request failed in a way that may be retried, and a later one to the partition
/// succeeded. The inference is wrong where the broker knew nothing of the producer yet: then it
/// takes the later request although the earlier one is missing, which is lost. Such records have
/// no offset. Send them again.
pub const fn is_confirmed(delivery: &Delivery) -> bool {
    delivery.offset >= 0
}

/// A client id that no other client has: service, host, process and the number of the client in
/// it. (Two members of a group with one id can make the cooperative assignor loop.)
pub fn unique_client_id(service: &str, number: usize) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "host",
        name => name,
    };
    format!("{service}-{host}-{}-{number}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_properties_are_named_without_their_values() {
        fn check(property: &str, expected: &str) {
            let properties = vec![Property::from(property.to_owned())];
            let options = KafkaOptions {
                brokers: "localhost:9092".to_owned(),
                properties,
                properties_file: None,
            };
            let error = options.client("check", []).expect_err(property);
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
            assert!(!format!("{options:?}").contains("hunter2"));
        }
        check("hunter2", "not NAME=VALUE");
        check("=hunter2", "not NAME=VALUE");
        check("sasl.pasword=hunter2", "no property sasl.pasword");
        check("socket.timeout.ms=1000000000", "socket.timeout.ms");
        check("security.protocol=some", "security.protocol");
    }
}
