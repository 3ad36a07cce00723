//! The services that run all the while, unless a fault is at work on them.

use super::kind::{GATEWAYS, Service, Track, WRITERS};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Gateway `number` (from 0).
    Gateway(usize),
    /// Writer `number` (from 0).
    Writer(usize),
    /// The reporter.
    Reporter,
}

impl Standing {
    /// All.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::gateways().chain(Self::writers()).chain([Self::Reporter])
    }

    /// The gateways.
    pub(super) fn gateways() -> impl Iterator<Item = Self> {
        (0..GATEWAYS).map(Self::Gateway)
    }

    /// The writers.
    pub(super) fn writers() -> impl Iterator<Item = Self> {
        (0..WRITERS).map(Self::Writer)
    }

    /// The one that a fault's target stands for.
    pub(super) fn of(service: Service, target: usize) -> Self {
        match service {
            Service::Gateway => Self::Gateway(target % GATEWAYS),
            Service::Writer => Self::Writer(target % WRITERS),
        }
    }

    /// What it is called.
    pub(super) fn name(self) -> String {
        match self {
            Self::Gateway(number) => format!("gateway-{}", number + 1),
            Self::Writer(number) => format!("writer-{}", number + 1),
            Self::Reporter => "reporter".to_owned(),
        }
    }

    /// What whoever works on it takes.
    pub(super) fn track(self) -> Track {
        match self {
            Self::Gateway(number) => Track::Gateway(number),
            Self::Writer(number) => Track::Writer(number),
            Self::Reporter => Track::Reporter,
        }
    }
}
