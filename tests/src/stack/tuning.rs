//! What the servers of a stack are set up for.

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// Many that start quickly and stay small.
    Tests,
    /// One that is fast: with the memory that a server of its own would have.
    Benchmarks,
}

impl Tuning {
    /// A broker's Java options. No performance data, as the JVM would leave its file behind when
    /// killed.
    pub(super) const fn jvm_options(self) -> &'static [&'static str] {
        match self {
            Self::Tests => &[
                "-Xms256m",
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
            ],
            Self::Benchmarks => &["-Xms512m", "-Xmx512m", "-XX:-UsePerfData"],
        }
    }

    /// Postgres' settings that differ from its own. `fsync` and `synchronous_commit` stay on.
    pub(super) const fn postgres_settings(self) -> &'static [&'static str] {
        match self {
            // Tests run in parallel, each with its services.
            Self::Tests => &["max_connections=200"],
            // Checkpoints come between measurements, not in them.
            Self::Benchmarks => &[
                "shared_buffers=1GB",
                "max_wal_size=16GB",
                "checkpoint_timeout=1h",
                "wal_compression=on",
            ],
        }
    }
}
