//! What was promised, clause by clause.

/// A way in which the promise can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// An acknowledged event is nowhere, and Kafka does not hold it: the gateway's fault, or
    /// Kafka's.
    LostBeforeKafka,
    /// An acknowledged event has no row although Kafka holds it: the writer's fault.
    LostAfterKafka,
    /// An event of an unknown batch has no row although Kafka holds it: the writer's fault.
    Stranded,
    /// An event has a row, and Kafka does not hold it as it was sent: unless it was changed, Kafka
    /// has lost it once a writer had read it.
    StoredNotInKafka,
    /// What Kafka holds under an event's id is not what was sent: the gateway's fault.
    ChangedBeforeKafka,
    /// Kafka holds an event that was never sent, or under an id that is not its own.
    InventedInKafka,
    /// Kafka holds an event although it was refused.
    RefusedInKafka,
    /// An event that was sent has more than one row, or one under an id that is not its own.
    Doubled,
    /// An event's row is not what was sent.
    Changed,
    /// A row's event was never sent.
    Invented,
    /// An event has a row although it was refused.
    RefusedStored,
    /// An event has a row although the database refuses its type.
    UnwritableStored,
    /// What an acknowledged batch says of its replay, its user or a page state, or the page itself,
    /// is not in Kafka.
    StatementMissing,
    /// Kafka holds of a replay, a user or a page state what no batch has said that may be there.
    StatementUnexpected,
    /// A record of a topic cannot be read, though nobody has put it there who meant it not to be.
    Unreadable,
    /// A batch's record is not keyed by its replay: batches of one replay are not in one partition.
    Misplaced,
    /// A record that must be in the dead letters is not.
    LetterMissing,
    /// A dead letter is not the record that it says it is.
    LetterChanged,
    /// A dead letter names other events than the unwritable ones.
    LetterMisnamed,
    /// A dead letter of a record that could be written, or of none.
    LetterUnexpected,
    /// A record that cannot be read was acknowledged, and Kafka does not hold it.
    GarbageLost,
    /// A row of `users` holds other than the merged values.
    User,
    /// A row of `replays` holds other than the merged values.
    Replay,
    /// A row of `webstates` is missing, is there for no reason, or has another time of capture.
    Webstate,
    /// A page that Kafka has acknowledged, or holds, has no content.
    PageMissing,
    /// A page's content is not that of its hash.
    PageChanged,
    /// Records of a partition that the writers have not committed, or that they have committed and
    /// that are not there.
    Uncommitted,
}

impl Clause {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::LostBeforeKafka,
        Self::LostAfterKafka,
        Self::Stranded,
        Self::StoredNotInKafka,
        Self::ChangedBeforeKafka,
        Self::InventedInKafka,
        Self::RefusedInKafka,
        Self::Doubled,
        Self::Changed,
        Self::Invented,
        Self::RefusedStored,
        Self::UnwritableStored,
        Self::StatementMissing,
        Self::StatementUnexpected,
        Self::Unreadable,
        Self::Misplaced,
        Self::LetterMissing,
        Self::LetterChanged,
        Self::LetterMisnamed,
        Self::LetterUnexpected,
        Self::GarbageLost,
        Self::User,
        Self::Replay,
        Self::Webstate,
        Self::PageMissing,
        Self::PageChanged,
        Self::Uncommitted,
    ];

    /// What is counted under it, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::LostBeforeKafka => "events lost, not in Kafka",
            Self::LostAfterKafka => "events lost, in Kafka",
            Self::Stranded => "unknown events in Kafka, not written",
            Self::StoredNotInKafka => "events stored, not in Kafka",
            Self::ChangedBeforeKafka => "events changed in Kafka",
            Self::InventedInKafka => "events invented in Kafka",
            Self::RefusedInKafka => "refused events in Kafka",
            Self::Doubled => "events doubled",
            Self::Changed => "events changed",
            Self::Invented => "events invented",
            Self::RefusedStored => "refused events stored",
            Self::UnwritableStored => "unwritable events stored",
            Self::StatementMissing => "statements missing in Kafka",
            Self::StatementUnexpected => "unexpected statements in Kafka",
            Self::Unreadable => "records of gateways unreadable",
            Self::Misplaced => "records not keyed by their replay",
            Self::LetterMissing => "dead letters missing",
            Self::LetterChanged => "dead letters changed",
            Self::LetterMisnamed => "dead letters naming other events or errors",
            Self::LetterUnexpected => "dead letters of nothing dead",
            Self::GarbageLost => "unreadable records lost",
            Self::User => "users not as merged",
            Self::Replay => "replays not as merged",
            Self::Webstate => "page states not as merged",
            Self::PageMissing => "pages without content",
            Self::PageChanged => "pages with other content",
            Self::Uncommitted => "records not committed",
        }
    }
}
