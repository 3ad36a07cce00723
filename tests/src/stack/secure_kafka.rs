//! A Kafka broker with TLS, SASL, mutual TLS and an authorizer, and what its users need to reach
//! it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::certificates::{Authority, Identity};
use super::environment::Environment;
use super::kafka::{Additions, Kafka, address};
use super::launch::Launch;
use super::paths;
use super::ports::{self, free_port};
use super::tuning::Tuning;

/// Whom the broker's certificate speaks for.
const HOST: &str = "127.0.0.1";

/// How long all calls of Kafka's tool that the script makes may take together.
const ACLS_WITHIN: Duration = Duration::from_secs(300);

/// Kafka's tool that changes permissions.
const ACL_TOOL: &str = "org.apache.kafka.tools.AclCommand";

/// What the broker has besides what all have. Whoever comes without TLS may do everything: that is
/// the stack itself.
const PROPERTIES: &str = "\
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
SASL_SSL:SASL_SSL,SSL:SSL,IMPOSTOR:SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^.*CN=([^,]+).*$/$1/
ssl.keystore.type=PEM
ssl.truststore.type=PEM
listener.name.impostor.ssl.keystore.type=PEM
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
";

/// Who uses Kafka, each with permissions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The gateways.
    Gateway,
    /// The writers.
    Writer,
    /// Whoever lists dead letters and redrives them.
    Redrive,
}

impl User {
    const ALL: [Self; 3] = [Self::Gateway, Self::Writer, Self::Redrive];

    /// Its name in Kafka.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "tapedeck-ingest-gateway",
            Self::Writer => "tapedeck-writer",
            Self::Redrive => "tapedeck-redrive",
        }
    }
}

/// How a client reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Without TLS.
    Plaintext,
    /// TLS, and a password by SCRAM-SHA-512.
    SaslSsl,
    /// TLS with a certificate on both sides.
    MutualTls,
    /// TLS with the certificate of another host.
    Impostor,
}

/// The broker.
#[derive(Debug)]
pub struct SecureKafka {
    kafka: Kafka,
    authority: Authority,
    /// Of users.
    password: String,
    sasl_ssl_port: u16,
    mutual_tls_port: u16,
    impostor_port: u16,
}

impl SecureKafka {
    /// Starts one with its data in a folder below `parent`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub(super) async fn start(parent: &Path) -> Result<Self> {
        ports::start_on(None, async |port| Self::start_on(parent, port).await)
            .await
            .context("the secure Kafka does not start")
    }

    async fn start_on(parent: &Path, port: u16) -> Result<Self> {
        let authority = Authority::new()?;
        let password = uuid::Uuid::new_v4().to_string();
        let (sasl_ssl_port, mutual_tls_port, impostor_port) =
            (free_port()?, free_port()?, free_port()?);
        let listeners = format!(
            ",SASL_SSL://{},SSL://{},IMPOSTOR://{}",
            address(sasl_ssl_port),
            address(mutual_tls_port),
            address(impostor_port),
        );
        let properties = format!(
            "{PROPERTIES}ssl.truststore.certificates={}\n{}{}",
            one_line(authority.certificate()),
            key_store("", &authority.issue(HOST)?),
            key_store("listener.name.impostor.", &authority.issue("another.example")?),
        );
        let format = User::ALL.iter().flat_map(|user| {
            let credential = format!("SCRAM-SHA-512=[name={},password={password}]", user.name());
            ["--add-scram".to_owned(), credential]
        });
        let format = format.collect();
        let additions = Additions { listeners, properties, format, ..Additions::default() };
        let kafka = Kafka::start_with(parent, port, Tuning::Tests, &additions).await?;
        Ok(Self { kafka, authority, password, sasl_ssl_port, mutual_tls_port, impostor_port })
    }

    /// The broker as those see it who may do everything.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// What users prove themselves with.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A listener's address, `host:port`.
    pub fn address(&self, listener: Listener) -> String {
        match listener {
            Listener::Plaintext => self.kafka.brokers(),
            Listener::SaslSsl => address(self.sasl_ssl_port),
            Listener::MutualTls => address(self.mutual_tls_port),
            Listener::Impostor => address(self.impostor_port),
        }
    }

    /// Gives the environment's users what `deploy/kafka/acls.sh` gives them.
    ///
    /// # Errors
    /// When the script fails.
    pub async fn give_permissions(&self, environment: &Environment) -> Result<()> {
        let files = self.kafka.files();
        let script = paths::repository().join("deploy/kafka/acls.sh");
        let script = Launch::new("acls", script, files.folder().join("acls.log"))
            .variable("KAFKA_ACLS", files.tool_script(ACL_TOOL)?.display().to_string())
            .variable("TAPEDECK_TOPIC_PREFIX", environment.topic_prefix())
            .variable("TAPEDECK_CONSUMER_GROUP", environment.consumer_group())
            .arguments(["--", "--bootstrap-server", &self.kafka.brokers()])
            .start()?;
        let status = script.wait_for_exit(ACLS_WITHIN).await?;
        ensure!(status.success(), "acls.sh: {status}{}", script.end_of_log());
        Ok(())
    }

    /// Takes one permission from a user: the operation, and the option of Kafka's tool that says
    /// on what, as in `["--topic", "replay-events"]`.
    ///
    /// # Errors
    /// When Kafka's tool fails.
    pub async fn forbid(&self, user: User, operation: &str, on: [&str; 2]) -> Result<()> {
        self.change("--remove", user, operation, on).await
    }

    /// Gives one permission to a user; the rest is as with [`Self::forbid`].
    ///
    /// # Errors
    /// When Kafka's tool fails.
    pub async fn allow(&self, user: User, operation: &str, on: [&str; 2]) -> Result<()> {
        self.change("--add", user, operation, on).await
    }

    async fn change(&self, change: &str, user: User, operation: &str, on: [&str; 2]) -> Result<()> {
        let principal = format!("User:{}", user.name());
        let brokers = self.kafka.brokers();
        let tool = [ACL_TOOL, "--bootstrap-server", &brokers, "--force", change];
        let what = ["--allow-principal", &principal, "--operation", operation];
        let arguments = tool.into_iter().chain(what).chain(on).map(Into::into);
        self.kafka.files().run_tool("kafka-acls", arguments).await.map(drop)
    }

    /// The settings with which a user reaches Kafka by a listener, with its files in `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn settings(
        &self,
        folder: &Path,
        user: User,
        listener: Listener,
    ) -> Result<Vec<(String, String)>> {
        let properties = self.properties(folder, user, listener)?;
        Ok(settings(self.address(listener), &properties))
    }

    /// Writes the properties with which a user reaches Kafka by a listener into a file in `folder`,
    /// beside the files that they name.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn properties(&self, folder: &Path, user: User, listener: Listener) -> Result<PathBuf> {
        let file = |name: &str, content: &str| -> Result<PathBuf> {
            let path = folder.join(format!("{}-{name}", user.name()));
            fs::write(&path, content)?;
            Ok(path)
        };
        let authority = file("ca.crt", self.authority.certificate())?;
        let authority = format!("ssl.ca.location={}\n", authority.display());
        let properties = match listener {
            Listener::Plaintext => String::new(),
            Listener::SaslSsl => format!(
                "security.protocol=sasl_ssl\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={}\n\
                 sasl.password={}\n{authority}",
                user.name(),
                self.password
            ),
            Listener::MutualTls | Listener::Impostor => {
                let Identity { certificate, key } = self.authority.issue(user.name())?;
                let (certificate, key) = (file("tls.crt", &certificate)?, file("tls.key", &key)?);
                format!(
                    "security.protocol=ssl\nssl.certificate.location={}\nssl.key.location={}\n\
                     {authority}",
                    certificate.display(),
                    key.display()
                )
            }
        };
        file("kafka.properties", &properties)
    }
}

/// The settings for brokers at an address and a file of properties; topics are made by others.
pub fn settings(brokers: String, properties: &Path) -> Vec<(String, String)> {
    [
        ("TAPEDECK_KAFKA_BROKERS", brokers),
        ("TAPEDECK_KAFKA_PROPERTIES_FILE", properties.display().to_string()),
        ("TAPEDECK_CREATE_TOPICS", "false".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A certificate and its key as a broker's properties.
fn key_store(prefix: &str, identity: &Identity) -> String {
    format!(
        "{prefix}ssl.keystore.certificate.chain={}\n{prefix}ssl.keystore.key={}\n",
        one_line(&identity.certificate),
        one_line(&identity.key)
    )
}

/// Text of several lines as the value of a Java property.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}
