//! Deliberate bugs, for the simulator to catch. Without the feature `mutants` every question is
//! answered `false` at compile time and nothing of this is in a program.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A vote is sent before it is on the disk.
    VoteBeforePersist,
    /// A follower acknowledges entries before they are on the disk.
    AckBeforeSync,
    /// A lone leader speaks before its term is on the disk.
    LoneTermBeforePersist,
    /// A leader answers a read without asking a majority whether it still leads.
    ReadWithoutQuorum,
    /// Entries are applied when they are durable here, not when they are committed.
    ApplyBeforeCommit,
    /// A leader counts its own copy as a majority.
    CommitAlone,
    /// A snapshot drops the log's tail even if it matches.
    TailDropped,
    /// A change of the members holds from when it is logged.
    ChangeAtAppend,
    /// The vote is forgotten at a restart.
    VoteForgotten,
    /// A conflicting tail stays on the disk.
    NotTruncated,
    /// An append is taken without comparing the term before it.
    TermNotChecked,
    /// A command's term is not compared with its entry's.
    CommandTermIgnored,
    /// A restart applies what the state has already.
    AppliedTwice,
    /// A snapshot claims more than it contains.
    SnapshotWithoutTail,
    /// A watch goes on over a gap in the history.
    WatchGap,
    /// Entries that are sent again go out with the place of a message that waited.
    EntriesMisplaced,
    /// A new leader calls itself ready before it has applied its own term's first entry.
    ReadyTooEarly,
}

impl Mutant {
    /// All of them.
    pub const ALL: &'static [Mutant] = &[
        Mutant::VoteBeforePersist,
        Mutant::AckBeforeSync,
        Mutant::LoneTermBeforePersist,
        Mutant::ReadWithoutQuorum,
        Mutant::ApplyBeforeCommit,
        Mutant::CommitAlone,
        Mutant::TailDropped,
        Mutant::ChangeAtAppend,
        Mutant::VoteForgotten,
        Mutant::NotTruncated,
        Mutant::TermNotChecked,
        Mutant::CommandTermIgnored,
        Mutant::AppliedTwice,
        Mutant::SnapshotWithoutTail,
        Mutant::WatchGap,
        Mutant::EntriesMisplaced,
        Mutant::ReadyTooEarly,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Leaves one rule out on this thread, or none.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}

/// Whether this rule is left out.
#[cfg(feature = "mutants")]
pub fn mutant(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(mutant)
}

/// Whether this rule is left out: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn mutant(_: Mutant) -> bool {
    false
}
