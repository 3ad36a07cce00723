//! What can go wrong, by name.

mod words;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use words::{Between, Blow, Service, Step, Trouble};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A service's process is hit at any moment.
    Hit(Service, Blow),
    /// A service's process is hit between two effects.
    HitAt(Step, Blow),
    /// A service drains (SIGTERM) and is started again.
    Terminate(Service),
    /// One broker is hit.
    Broker(Blow),
    /// Two of three brokers are hit at once: below min.insync.replicas.
    TwoBrokers(Blow),
    /// A broker is stopped in good order and started again.
    BrokerRestart,
    /// Every partition gets another leader.
    LeaderMove,
    /// A broker comes back with an empty disk while the other two are in sync.
    EmptiedBroker,
    /// Postgres stops without a checkpoint and recovers.
    PostgresRestart,
    /// All of the services' sessions are terminated.
    SessionsTerminated,
    /// A table is locked for longer than the statement time-out.
    TableLocked,
    /// A second session takes row locks in the other order.
    Deadlock,
    /// Statements fail with a serialization failure.
    SerializationFailure,
    /// The disk of the tables is full.
    DiskFull,
    /// The primary dies and its standby takes over.
    FailOver,
    /// Connections between two parts are in trouble.
    Network(Trouble),
    /// Consumers join and leave every few seconds.
    Churn,
    /// Everything is restarted in good order, one after the other.
    RollingRestart,
    /// A writer of the previous build joins the group and leaves.
    PreviousWriter,
    /// Records that cannot be read. (Events that cannot be written the fleet sends all the while.)
    Poison,
    /// A gateway's clock is hours off.
    ClockOff,
}

/// What a fault takes for itself while it lasts: no two faults share any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The brokers and what lies between them.
    Kafka,
    /// The database servers.
    Postgres,
    /// What lies between other parts.
    Network,
    /// The group's membership beyond the standing writers.
    Group,
    /// The stream's content.
    Stream,
    /// One gateway.
    Gateway(usize),
    /// One writer.
    Writer(usize),
    /// The reporter.
    Reporter,
}

/// What services depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// The brokers, and what lies between them.
    Kafka,
    /// The database servers.
    Postgres,
    /// Connections between two parts.
    Connections(Between),
}

impl Need {
    /// Everything.
    #[cfg(test)]
    pub(super) const ALL: [Self; 7] = [
        Self::Kafka,
        Self::Postgres,
        Self::Connections(Between::RecordersAndGateway),
        Self::Connections(Between::GatewaysAndBroker),
        Self::Connections(Between::WritersAndBroker),
        Self::Connections(Between::WritersAndPostgres),
        Self::Connections(Between::ReportersAndPostgres),
    ];
}

/// Gateways of a fault run.
pub const GATEWAYS: usize = 2;
/// Writers of a fault run.
pub const WRITERS: usize = 3;

impl Kind {
    /// All kinds.
    pub fn all() -> Vec<Self> {
        let services = [Service::Gateway, Service::Writer];
        let with_blow = |make: &dyn Fn(Blow) -> Self| Blow::ALL.map(make);
        let mut all: Vec<Self> = Vec::new();
        for service in services {
            all.extend(with_blow(&|blow| Self::Hit(service, blow)));
            all.push(Self::Terminate(service));
        }
        for step in Step::ALL {
            all.extend(with_blow(&|blow| Self::HitAt(step, blow)));
        }
        all.extend(with_blow(&Self::Broker));
        all.extend(with_blow(&Self::TwoBrokers));
        all.extend(Trouble::ALL.map(Self::Network));
        all.extend([
            Self::BrokerRestart,
            Self::LeaderMove,
            Self::EmptiedBroker,
            Self::PostgresRestart,
            Self::SessionsTerminated,
            Self::TableLocked,
            Self::Deadlock,
            Self::SerializationFailure,
            Self::DiskFull,
            Self::FailOver,
            Self::Churn,
            Self::RollingRestart,
            Self::PreviousWriter,
            Self::Poison,
            Self::ClockOff,
        ]);
        all
    }

    /// Whether it kills or freezes a process.
    pub const fn is_kill_or_freeze(self) -> bool {
        matches!(self, Self::Hit(..) | Self::HitAt(..) | Self::Broker(_) | Self::TwoBrokers(_))
    }

    /// Whether it kills services, so that they may be found ended by SIGKILL.
    pub const fn kills_services(self) -> bool {
        matches!(self, Self::Hit(_, Blow::Kill) | Self::HitAt(_, Blow::Kill))
    }

    /// Whether it troubles connections.
    pub const fn is_network(self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// What it takes, when it chooses instance `target`.
    pub fn tracks(self, target: usize) -> Vec<Track> {
        let one = |service| match service {
            Service::Gateway => vec![Track::Gateway(target % GATEWAYS)],
            Service::Writer => vec![Track::Writer(target % WRITERS)],
        };
        match self {
            Self::Hit(service, _) | Self::Terminate(service) => one(service),
            // Partitions only go when the group changes, and then from any of them.
            Self::HitAt(Step::OnRevoke, _) => {
                [Track::Group].into_iter().chain((0..WRITERS).map(Track::Writer)).collect()
            }
            Self::HitAt(step, _) => one(step.service()),
            Self::ClockOff => one(Service::Gateway),
            Self::Broker(_)
            | Self::TwoBrokers(_)
            | Self::BrokerRestart
            | Self::LeaderMove
            | Self::EmptiedBroker => vec![Track::Kafka],
            Self::PostgresRestart
            | Self::SessionsTerminated
            | Self::TableLocked
            | Self::Deadlock
            | Self::SerializationFailure
            | Self::DiskFull
            | Self::FailOver => vec![Track::Postgres],
            Self::Network(_) => match Between::of(target) {
                // A broker that the others do not reach is as good as gone.
                Between::Brokers => vec![Track::Kafka, Track::Network],
                _ => vec![Track::Network],
            },
            Self::Churn | Self::PreviousWriter => vec![Track::Group],
            Self::Poison => vec![Track::Stream],
            Self::RollingRestart => [Track::Kafka, Track::Postgres, Track::Group, Track::Reporter]
                .into_iter()
                .chain((0..GATEWAYS).map(Track::Gateway))
                .chain((0..WRITERS).map(Track::Writer))
                .collect(),
        }
    }

    /// What it takes away from the services, when it chooses instance `target`. A rolling restart
    /// gives everything back before it asks a service to drain.
    pub fn takes_away(self, target: usize) -> Vec<Need> {
        if self == Self::RollingRestart {
            return Vec::new();
        }
        let need = |track| match track {
            Track::Kafka => Some(Need::Kafka),
            Track::Postgres => Some(Need::Postgres),
            Track::Network => Some(Need::Connections(Between::of(target))),
            _ => None,
        };
        self.tracks(target).into_iter().filter_map(need).collect()
    }

    /// How long it lasts, to lay out a schedule; what it does decides in the end.
    pub const fn expected(self) -> Duration {
        Duration::from_secs(match self {
            Self::Poison | Self::SessionsTerminated => 1,
            Self::HitAt(..) => 8,
            Self::Hit(..) | Self::Terminate(_) | Self::PostgresRestart | Self::LeaderMove => 5,
            Self::Churn | Self::PreviousWriter | Self::Network(Trouble::HalfOpen) => 15,
            Self::Network(_) | Self::TableLocked | Self::SerializationFailure | Self::DiskFull => 8,
            Self::Broker(_) | Self::BrokerRestart | Self::Deadlock | Self::ClockOff => 12,
            Self::EmptiedBroker | Self::FailOver | Self::TwoBrokers(_) => 20,
            Self::RollingRestart => 60,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Hit(service, blow) => {
                return write!(formatter, "{}-{}", service.name(), blow.name());
            }
            Self::HitAt(step, blow) => {
                return write!(
                    formatter,
                    "{}-{}-{}",
                    step.service().name(),
                    blow.name(),
                    step.name()
                );
            }
            Self::Terminate(service) => return write!(formatter, "{}-terminate", service.name()),
            Self::Broker(blow) => return write!(formatter, "broker-{}", blow.name()),
            Self::TwoBrokers(blow) => return write!(formatter, "two-brokers-{}", blow.name()),
            Self::Network(trouble) => return write!(formatter, "network-{}", trouble.name()),
            Self::BrokerRestart => "broker-restart",
            Self::LeaderMove => "leader-move",
            Self::EmptiedBroker => "emptied-broker",
            Self::PostgresRestart => "postgres-restart",
            Self::SessionsTerminated => "sessions-terminated",
            Self::TableLocked => "table-locked",
            Self::Deadlock => "deadlock",
            Self::SerializationFailure => "serialization-failure",
            Self::DiskFull => "disk-full",
            Self::FailOver => "fail-over",
            Self::Churn => "churn",
            Self::RollingRestart => "rolling-restart",
            Self::PreviousWriter => "previous-writer",
            Self::Poison => "poison",
            Self::ClockOff => "clock-off",
        };
        formatter.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::all().into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::all().iter().map(ToString::to_string).collect();
            format!("no such kind of fault; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_is_understood() {
        let names: BTreeSet<_> = Kind::all().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Kind::all().len());
        for kind in Kind::all() {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("meteorite".parse::<Kind>().is_err());
    }
}
