//! The words that the names of kinds are made of: what is hit, where, and how.

use std::fmt;

/// Where in the services a process can be ended or frozen; see `common::failpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A record has been taken from Kafka.
    AfterPoll,
    /// A batch is written and not committed.
    BeforeDatabaseCommit,
    /// A batch is committed and nobody knows.
    AfterDatabaseCommit,
    /// Kafka is about to be asked to keep the offsets.
    BeforeOffsetCommit,
    /// The group announces that partitions go.
    OnRevoke,
    /// Kafka has acknowledged and the recorder has no answer.
    AfterDeliveryReport,
}

impl Step {
    pub(super) const ALL: [Self; 6] = [
        Self::AfterPoll,
        Self::BeforeDatabaseCommit,
        Self::AfterDatabaseCommit,
        Self::BeforeOffsetCommit,
        Self::OnRevoke,
        Self::AfterDeliveryReport,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AfterPoll => "after-poll",
            Self::BeforeDatabaseCommit => "before-database-commit",
            Self::AfterDatabaseCommit => "after-database-commit",
            Self::BeforeOffsetCommit => "before-offset-commit",
            Self::OnRevoke => "on-revoke",
            Self::AfterDeliveryReport => "after-delivery-report",
        }
    }

    /// Whose step it is.
    pub fn service(self) -> Service {
        match self {
            Self::AfterDeliveryReport => Service::Gateway,
            _ => Service::Writer,
        }
    }

    /// The failpoint's name.
    pub fn failpoint(self) -> String {
        format!("{}::{}", self.service().name(), self.name())
    }
}

/// The services that a fault may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// One of the gateways.
    Gateway,
    /// One of the writers.
    Writer,
}

impl Service {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Writer => "writer",
        }
    }
}

/// How a process is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blow {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGSTOP, and after a while SIGCONT.
    Freeze,
}

impl Blow {
    pub(super) const ALL: [Self; 2] = [Self::Kill, Self::Freeze];

    /// The word that failpoints use, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
        }
    }
}

/// What a connection suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Bytes come late.
    Delay,
    /// Connections break, and new ones are refused.
    Cut,
    /// Few bytes pass.
    Slow,
    /// Connections stay open and nothing passes.
    HalfOpen,
}

impl Trouble {
    pub(super) const ALL: [Self; 4] = [Self::Delay, Self::Cut, Self::Slow, Self::HalfOpen];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Cut => "cut",
            Self::Slow => "slow",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Which parts a troubled connection lies between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Between {
    /// Recorders and a gateway.
    RecordersAndGateway,
    /// Gateways and a broker.
    GatewaysAndBroker,
    /// Writers and a broker.
    WritersAndBroker,
    /// Brokers and one of them.
    Brokers,
    /// Writers and Postgres.
    WritersAndPostgres,
    /// Reporters and Postgres.
    ReportersAndPostgres,
}

impl Between {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::RecordersAndGateway,
        Self::GatewaysAndBroker,
        Self::WritersAndBroker,
        Self::Brokers,
        Self::WritersAndPostgres,
        Self::ReportersAndPostgres,
    ];

    /// Which a fault's target stands for.
    pub fn of(target: usize) -> Self {
        Self::ALL[target % Self::ALL.len()]
    }
}

impl fmt::Display for Between {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RecordersAndGateway => "recorders and a gateway",
            Self::GatewaysAndBroker => "gateways and a broker",
            Self::WritersAndBroker => "writers and a broker",
            Self::Brokers => "brokers",
            Self::WritersAndPostgres => "writers and Postgres",
            Self::ReportersAndPostgres => "reporters and Postgres",
        })
    }
}
