//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use common::database::DatabaseOptions;
use common::kafka::KafkaOptions;
use common::limits::{MIB, SizeLimits};
use common::logging::LogOptions;
use common::options::{CheckConfig, CheckOptions, Problems};
use common::topics::TopicOptions;
use common::traces::TraceOptions;

use crate::batch::BatchLimits;
use crate::commands::{DeadLettersCommand, PageOptions, RedriveOptions, ReplayOptions};
use crate::record::Topic;
use crate::store::foreign_keys::ForeignKeys;

/// Takes replay events from Kafka into Postgres: once, in order, each page state stored once.
#[derive(Debug, Parser)]
#[command(name = "writer", version)]
pub struct Cli {
    /// What to log, and how.
    #[command(flatten)]
    pub logging: LogOptions,
    /// Whether only to check.
    #[command(flatten)]
    pub check_config: CheckConfig,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the writer can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Consume until told to stop.
    Run(Box<RunOptions>),
    /// Bring the database's tables up to this version; safe with several at once.
    Migrate(DatabaseOptions),
    /// Print a page state's HTML.
    Page(PageOptions),
    /// Print a replay's events in order, one JSON object a line.
    Replay(ReplayOptions),
    /// Look at the dead letters.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Send dead letters through again.
    Redrive(RedriveOptions),
}

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// The topics.
    #[command(flatten)]
    pub topics: TopicOptions,
    /// Sizes.
    #[command(flatten)]
    pub limits: SizeLimits,
    /// Where Postgres is.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// Address of the admin port: /metrics, /livez, /readyz.
    ///
    /// Change it to keep metrics and probes on an inner interface: whoever reaches this port can
    /// read both, without a key.
    #[arg(long, env = "TAPEDECK_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    /// The consumer group. Lanes and writers of one group share the partitions.
    ///
    /// Change it to read everything that Kafka keeps once more, beside or instead of the usual
    /// group: what is stored already counts as duplicate.
    #[arg(long, env = "TAPEDECK_CONSUMER_GROUP", default_value = "tapedeck-writer")]
    pub consumer_group: String,

    /// A name that this writer keeps over restarts, as a pod of a StatefulSet does (Kafka's
    /// group.instance.id, to which each lane adds its number). No two writers may have one at a
    /// time.
    ///
    /// Set it so that a restart moves no partition: those of a writer that stops wait for it for
    /// as long as its session lasts (10 s; session.timeout.ms among the Kafka properties). A
    /// writer that is taken away for good is missed for as long.
    #[arg(long, env = "TAPEDECK_GROUP_INSTANCE_ID")]
    pub group_instance_id: Option<String>,

    /// Lanes for events: consumers in this process, each with a connection to Postgres.
    ///
    /// Raise it while Postgres has cores to spare and the lag grows; more lanes than partitions,
    /// over all writers, stand idle.
    #[arg(long, env = "TAPEDECK_LANES", default_value_t = 2)]
    pub lanes: usize,

    /// Lanes for page states.
    ///
    /// Raise it when the page states topic lags behind: a lane takes some thousand pages of 100 kB
    /// a second.
    #[arg(long, env = "TAPEDECK_PAGE_LANES", default_value_t = 1)]
    pub page_lanes: usize,

    /// A batch closes at so many rows (an event is a row, and so is a record).
    ///
    /// Lower it when single transactions take too long, as with triggers of your own on the tables.
    #[arg(long, env = "TAPEDECK_BATCH_ROWS", default_value_t = 10_000)]
    pub batch_rows: usize,

    /// A batch closes at so many bytes. A lane holds two batches.
    ///
    /// Lower it to need less memory; raise it for records of several megabytes.
    #[arg(long, env = "TAPEDECK_BATCH_BYTES", default_value_t = 4 * MIB)]
    pub batch_bytes: usize,

    /// A batch closes this many milliseconds after its first record.
    ///
    /// Raise it to spend less of Postgres and Kafka on a thin stream, lower it to have events
    /// queryable sooner.
    #[arg(long, env = "TAPEDECK_BATCH_AGE_MS", default_value_t = 100)]
    pub batch_age_ms: u64,

    /// Users, replays and page states each that a lane remembers as stored.
    ///
    /// Raise it when more sessions than this are active in a lane's partitions at a time: what is
    /// forgotten is read again from Postgres.
    #[arg(long, env = "TAPEDECK_KNOWN_ROWS", default_value = "5000")]
    pub known_rows: NonZeroUsize,

    /// Who checks that an event's replay and page state exist.
    ///
    /// Use `set-based` for about half as much work again out of the same Postgres, where its role
    /// can be granted what that needs; see docs/operations.md.
    #[arg(long, env = "TAPEDECK_FOREIGN_KEYS", value_enum, default_value_t)]
    pub foreign_keys: ForeignKeys,

    /// How long one transaction may take, in milliseconds, before its session is given up.
    ///
    /// Raise it together with the statement time-out where batches take longer as a matter of
    /// course.
    #[arg(long, env = "TAPEDECK_TRANSACTION_TIMEOUT_MS", default_value_t = 120_000)]
    pub transaction_timeout_ms: u64,

    /// How long a rebalance may wait for this writer to finish what it holds, in milliseconds.
    ///
    /// Lower it to have rebalances wait less for a writer whose Postgres is slow; what is not
    /// finished is read again by another.
    #[arg(long, env = "TAPEDECK_REVOKE_TIMEOUT_MS", default_value_t = 30_000)]
    pub revoke_timeout_ms: u64,

    /// How long stopping may take, in milliseconds, before what is held is given up.
    ///
    /// Raise it together with the time that the orchestrator leaves between SIGTERM and SIGKILL,
    /// which must be longer.
    #[arg(long, env = "TAPEDECK_DRAIN_TIMEOUT_MS", default_value_t = 25_000)]
    pub drain_timeout_ms: u64,

    /// Kafka's max.poll.interval.ms: how long a rebalance waits for a member at most, and a member
    /// for a coordinator that does not answer.
    ///
    /// Raise it together with the revoke and drain time-outs, which must fit within.
    #[arg(long, env = "TAPEDECK_MAX_POLL_INTERVAL_MS", default_value_t = 90_000)]
    pub max_poll_interval_ms: u64,

    /// Bytes that Kafka's client may fetch ahead for each lane.
    ///
    /// Raise it where Kafka is far away and lanes wait for it although there is lag; it costs
    /// memory in each lane.
    #[arg(long, env = "TAPEDECK_FETCH_AHEAD_BYTES", default_value_t = MIB)]
    pub fetch_ahead_bytes: usize,

    /// Traces.
    #[command(flatten)]
    pub traces: TraceOptions,
}

impl RunOptions {
    /// The topic of each lane.
    pub fn lane_topics(&self) -> impl Iterator<Item = Topic> {
        let events = std::iter::repeat_n(Topic::Events, self.lanes);
        events.chain(std::iter::repeat_n(Topic::Webstates, self.page_lanes))
    }

    /// When a batch closes.
    pub const fn batch_limits(&self) -> BatchLimits {
        BatchLimits {
            rows: self.batch_rows,
            bytes: self.batch_bytes,
            age: Duration::from_millis(self.batch_age_ms),
        }
    }

    /// How long a rebalance may wait.
    pub const fn revoke_timeout(&self) -> Duration {
        Duration::from_millis(self.revoke_timeout_ms)
    }

    /// How long stopping may take.
    pub const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// How long one transaction may take.
    pub const fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }
}

impl CheckOptions for RunOptions {
    fn check(&self, problems: &mut Problems) {
        self.kafka.check(problems);
        self.topics.check(problems);
        self.limits.check(problems);
        self.database.check(problems);
        self.traces.check(problems);
        problems.require(!self.consumer_group.is_empty(), "--consumer-group is empty");
        problems.require(
            self.group_instance_id.as_deref().is_none_or(is_instance_id),
            "--group-instance-id may hold 1 to 200 letters, digits, '.', '-' and '_'",
        );
        for (name, lanes) in [("lanes", self.lanes), ("page-lanes", self.page_lanes)] {
            problems.require(
                (1..=256).contains(&lanes),
                format!("--{name} must lie between 1 and 256"),
            );
        }
        problems.require(
            (1..=100_000).contains(&self.batch_rows),
            "--batch-rows must lie between 1 and 100000",
        );
        problems.require(
            (MIB / 16..=256 * MIB).contains(&self.batch_bytes),
            "--batch-bytes must lie between 65536 and 268435456",
        );
        problems.require(self.batch_age_ms <= 60_000, "--batch-age-ms must not exceed 60000");
        problems.require(
            (1024..=1024 * MIB).contains(&self.fetch_ahead_bytes),
            "--fetch-ahead-bytes must lie between 1024 and 1073741824",
        );
        for (name, value) in [
            ("transaction", self.transaction_timeout_ms),
            ("revoke", self.revoke_timeout_ms),
            ("drain", self.drain_timeout_ms),
        ] {
            problems.require(value > 0, format!("--{name}-timeout-ms must not be 0"));
        }
        // Twice: finishing what is held, and then waiting for the offsets' commit, must both end
        // before Kafka gives the member up.
        problems.require(
            self.revoke_timeout_ms.saturating_mul(2) < self.max_poll_interval_ms,
            "--revoke-timeout-ms must be less than half of --max-poll-interval-ms",
        );
        // A stop may come while partitions go: both are finished then, one after the other, and
        // the lane does not poll meanwhile.
        problems.require(
            self.revoke_timeout_ms.saturating_add(self.drain_timeout_ms)
                < self.max_poll_interval_ms,
            "--revoke-timeout-ms and --drain-timeout-ms together must be less than \
             --max-poll-interval-ms",
        );
    }
}

/// Kafka takes what may be a topic's name; there must be room for the lane's number.
fn is_instance_id(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=200).contains(&name.len()) && name.bytes().all(fits)
}

impl CheckOptions for Cli {
    fn check(&self, problems: &mut Problems) {
        match &self.command {
            Command::Run(options) => options.check(problems),
            Command::Migrate(database) => database.check(problems),
            Command::Page(options) => options.database.check(problems),
            Command::Replay(options) => options.database.check(problems),
            Command::DeadLetters(DeadLettersCommand::List(options)) => options.check(problems),
            Command::Redrive(options) => options.check(problems),
        }
    }

    fn is_check_only(&self) -> bool {
        self.check_config.check_config
    }
}
