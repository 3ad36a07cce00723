//! What is known of one thing that batches say.

/// Where something stands that a batch says which was not refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Statement {
    /// A batch that says it was acknowledged.
    pub(super) acknowledged: bool,
    /// Kafka holds a record that says it.
    pub(super) in_kafka: bool,
}

impl Statement {
    /// Whether the tables must hold it; otherwise they must not.
    pub(super) fn counts(self) -> bool {
        self.acknowledged || self.in_kafka
    }

    /// Whether Kafka must hold it and does not.
    pub(super) fn is_missing(self) -> bool {
        self.acknowledged && !self.in_kafka
    }
}
