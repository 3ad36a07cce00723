//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use common::kafka::KafkaOptions;
use common::limits::{MIB, SizeLimits};
use common::logging::LogOptions;
use common::options::{CheckConfig, CheckOptions, Problems};
use common::topics::TopicOptions;
use common::traces::TraceOptions;

use crate::body::BodyOptions;
use crate::envelope::EnvelopeRules;
use crate::keys::command::KeysOptions;
use crate::keys::store::KeyOptions;
use crate::pages::PageMemoryOptions;
use crate::publish::ProducerOptions;
use crate::rate_limit::RateLimitOptions;
use crate::tls::TlsOptions;

/// Takes what session recorders capture, over HTTP, and lands it in Kafka.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest-gateway", version)]
pub struct GatewayOptions {
    /// Logs.
    #[command(flatten)]
    pub log: LogOptions,

    /// Whether only to check.
    #[command(flatten)]
    pub check_config: CheckConfig,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the recorder API.
    Serve(Box<ServeOptions>),
    /// Make, list and disable keys.
    Keys(KeysOptions),
}

/// Everything that the service can be told.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// Address of the recorder API.
    ///
    /// Change it to serve on one interface only, or on another port.
    #[arg(long, env = "TAPEDECK_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Address of the admin port: /metrics, /livez, /readyz.
    ///
    /// Change it to keep metrics and probes on an inner interface: whoever reaches this port can
    /// read both, without a key.
    #[arg(long, env = "TAPEDECK_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    /// Connections.
    #[command(flatten)]
    pub connections: ConnectionOptions,

    /// TLS.
    #[command(flatten)]
    pub tls: TlsOptions,

    /// Requests.
    #[command(flatten)]
    pub requests: RequestOptions,

    /// Bodies on their way.
    #[command(flatten)]
    pub body: BodyOptions,

    /// What an envelope may hold.
    #[command(flatten)]
    pub rules: EnvelopeRules,

    /// Sizes that all services share.
    #[command(flatten)]
    pub limits: SizeLimits,

    /// Who may send.
    #[command(flatten)]
    pub keys: KeyOptions,

    /// How fast.
    #[command(flatten)]
    pub rate_limit: RateLimitOptions,

    /// Memory of pages.
    #[command(flatten)]
    pub page_memory: PageMemoryOptions,

    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaOptions,

    /// Topics.
    #[command(flatten)]
    pub topics: TopicOptions,

    /// How records are produced.
    #[command(flatten)]
    pub producer: ProducerOptions,

    /// How the service stops.
    #[command(flatten)]
    pub drain: DrainOptions,

    /// Traces.
    #[command(flatten)]
    pub traces: TraceOptions,
}

/// Limits of connections to the public port.
#[derive(Clone, Copy, Debug, Args)]
pub struct ConnectionOptions {
    /// Connections at a time; more wait to be accepted. The limit of open files must be higher.
    ///
    /// Raise it, and the limit of open files, when `tapedeck_gateway_connections` comes near; an
    /// idle connection takes some kilobytes.
    #[arg(long, env = "TAPEDECK_CONNECTIONS_LIMIT", default_value_t = 10_000)]
    pub connections_limit: usize,

    /// Seconds after which a connection without a complete request head is closed, idle ones
    /// too. Just above the minute for which common load balancers keep theirs: who closes first
    /// must be the one who sends.
    ///
    /// Raise it above the idle time-out of the load balancer in front, else some requests meet a
    /// connection that is just being closed.
    #[arg(long, env = "TAPEDECK_IDLE_TIMEOUT_SECONDS", default_value_t = 65)]
    pub idle_timeout_seconds: u64,
}

/// Limits of requests.
#[derive(Clone, Copy, Debug, Args)]
pub struct RequestOptions {
    /// Bytes that all requests in flight may hold, bodies and records; beyond them 503.
    ///
    /// Raise it where memory allows when recorders get 503 for `too_many_bytes_in_flight` although
    /// Kafka keeps up.
    #[arg(long, env = "TAPEDECK_IN_FLIGHT_LIMIT_BYTES", default_value_t = 80 * MIB)]
    pub in_flight_limit_bytes: usize,

    /// Lines (not blank) of an NDJSON request.
    ///
    /// Raise it for senders that collect many replays in a request; a request is worked on as a
    /// whole.
    #[arg(long, env = "TAPEDECK_LINES_LIMIT", default_value_t = 1_000)]
    pub lines_limit: usize,

    /// Hashes that may be asked about at a time.
    ///
    /// Raise it for senders that ask about more pages at a time.
    #[arg(long, env = "TAPEDECK_HASHES_LIMIT", default_value_t = 1_000)]
    pub hashes_limit: usize,
}

/// How the service stops.
#[derive(Clone, Copy, Debug, Args)]
pub struct DrainOptions {
    /// Seconds between becoming unready and closing the listener, in which load balancers stop
    /// to send; requests are served as ever.
    ///
    /// Set it to what the load balancer needs to notice that the gateway is not ready, when it is
    /// told by probes alone.
    #[arg(long, env = "TAPEDECK_DRAIN_DELAY_SECONDS", default_value_t = 0)]
    pub drain_delay_seconds: u64,

    /// Seconds from closing the listener within which requests in flight finish.
    ///
    /// Raise it together with the time that the orchestrator leaves between SIGTERM and SIGKILL,
    /// which must be longer; it must be longer than the delivery time-out.
    #[arg(long, env = "TAPEDECK_DRAIN_TIMEOUT_SECONDS", default_value_t = 25)]
    pub drain_timeout_seconds: u64,
}

impl DrainOptions {
    /// See the option.
    pub const fn delay(self) -> Duration {
        Duration::from_secs(self.drain_delay_seconds)
    }

    /// See the option.
    pub const fn timeout(self) -> Duration {
        Duration::from_secs(self.drain_timeout_seconds)
    }
}

impl CheckOptions for GatewayOptions {
    fn check(&self, problems: &mut Problems) {
        match &self.command {
            Command::Serve(options) => options.check(problems),
            Command::Keys(_) => {}
        }
    }

    fn is_check_only(&self) -> bool {
        self.check_config.check_config
    }
}

impl CheckOptions for ServeOptions {
    fn check(&self, problems: &mut Problems) {
        self.rules.check(problems);
        self.limits.check(problems);
        self.keys.check(problems);
        self.tls.check(problems);
        self.rate_limit.check(self.body.wire_limit_bytes, problems);
        self.page_memory.check(problems);
        self.kafka.check(problems);
        self.topics.check(problems);
        self.producer.check(problems);
        self.traces.check(problems);
        let (connections, requests, body) = (self.connections, self.requests, self.body);
        problems.require(connections.connections_limit > 0, "--connections-limit must not be 0");
        problems
            .require(connections.idle_timeout_seconds > 0, "--idle-timeout-seconds must not be 0");
        problems.require(requests.lines_limit > 0, "--lines-limit must not be 0");
        problems.require(requests.hashes_limit > 0, "--hashes-limit must not be 0");
        problems.require(body.request_gap_seconds > 0, "--request-gap-seconds must not be 0");
        problems.require(
            body.request_timeout_seconds >= body.request_gap_seconds,
            "--request-timeout-seconds must not be less than --request-gap-seconds",
        );
        // The largest request there may be must fit when it is alone: its body on the wire and
        // decompressed, and the records made of it.
        let largest = body
            .decompressed_limit_bytes
            .saturating_mul(2)
            .saturating_add(body.wire_limit_bytes)
            .saturating_add(MIB);
        problems.require(
            requests.in_flight_limit_bytes >= largest,
            format!(
                "--in-flight-limit-bytes must be at least {largest}: what one request may need \
                 with these --wire-limit-bytes and --decompressed-limit-bytes"
            ),
        );
        problems.require(
            self.producer.producer_queue_limit_bytes >= body.decompressed_limit_bytes,
            "--producer-queue-limit-bytes must not be less than --decompressed-limit-bytes",
        );
        problems.require(
            self.drain.drain_timeout_seconds > self.producer.delivery_timeout_seconds,
            "--drain-timeout-seconds must be more than --delivery-timeout-seconds",
        );
    }
}

#[cfg(test)]
mod tests {
    use common::options::{Refused, try_parse};

    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let arguments = line.split_whitespace().map(std::ffi::OsString::from);
        let problems = match try_parse::<GatewayOptions>(arguments) {
            Ok(_) => vec![],
            Err(Refused::Problems(problems)) => problems,
            Err(Refused::Clap(error)) => vec![error.to_string()],
        };
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for part in expected {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{problems:?}: {part}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        GatewayOptions::command().debug_assert();
    }

    #[test]
    fn every_mistake_is_named() {
        check("ingest-gateway serve --allow-anonymous", &[]);
        check("ingest-gateway keys list", &[]);
        check("ingest-gateway serve", &["--allow-anonymous"]);
        check(
            "ingest-gateway serve --allow-anonymous --lines-limit 0 --events-limit x \
             --earliest-time yesterday",
            &["--events-limit", "--earliest-time"],
        );
        check(
            "ingest-gateway serve --allow-anonymous --lines-limit 0 --events-limit 0 \
             --in-flight-limit-bytes 1000000 --delivery-timeout-seconds 60 \
             --request-timeout-seconds 1 --event-data-depth-limit 20000",
            &[
                "--lines-limit",
                "--events-limit",
                "--in-flight-limit-bytes",
                "--drain-timeout-seconds",
                "--request-timeout-seconds",
                "--event-data-depth-limit",
            ],
        );
        check(
            "ingest-gateway serve --allow-anonymous --rate-limit-bytes-per-second 1000 \
             --rate-limit-burst-bytes 1000000",
            &["--rate-limit-burst-bytes must be at least 8388608"],
        );
    }
}
