//! The words that the shell and a member share.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::change::Change;
use super::members::Members;
use super::refusal::Refusal;

/// A member's identity: the first 8 bytes of its public key's hash. Never 0.
pub type MemberId = u64;

/// A leader's time in office. Every log entry, bind and node command carries one.
pub type Term = u64;

/// A position in the log; a store's revision.
pub type Index = u64;

/// What a member must not forget: its term, its vote in it (0: none), and what it knew as
/// committed when it last wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term that was seen.
    pub term: Term,
    /// For whom this member voted in it; 0 for nobody.
    pub vote: MemberId,
    /// The highest index known as committed. It may be old, it is never wrong.
    pub commit: Index,
}

/// What a log entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The store's; without data, a leader's first entry, which changes nothing.
    Command,
    /// A change of the members: [`Members::after`] reads it.
    Members,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bytes.
    pub data: Bytes,
}

/// How quick and how large things are. All members should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Milliseconds between two [`Input::Tick`]s.
    pub tick_ms: u64,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Ticks for which who heard a leader refuses another: an election comes a little later.
    pub election_ticks: usize,
    /// An append message is closed above this many bytes; one entry always fits.
    pub max_message_bytes: usize,
    /// Bytes of log kept in memory for peers that lag; those that lag more fetch a snapshot.
    pub tail_bytes: usize,
    /// What stays of it once every member has everything.
    pub tail_bytes_idle: usize,
    /// Bytes of proposals without a majority yet; more are refused as [`Refusal::Busy`].
    pub max_uncommitted_bytes: usize,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            tick_ms: 100,
            heartbeat_ticks: 3,
            election_ticks: 10,
            max_message_bytes: 128 * 1024,
            tail_bytes: 4 * 1024 * 1024,
            tail_bytes_idle: 256 * 1024,
            max_uncommitted_bytes: 16 * 1024 * 1024,
        }
    }
}

/// What a member begins with: what its disk holds.
///
/// A founder starts with `members` = itself and `applied` = (0, 0); one that joins starts with
/// everything empty, and its first leader has it fetch a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The last hard state that was persisted.
    pub hard: HardState,
    /// The members as of `applied`.
    pub members: Members,
    /// The last entry that is in the durable state, and its term.
    pub applied: (Index, Term),
    /// The durable log after `applied`, contiguous.
    pub entries: Vec<LogEntry>,
}

/// What happens to a member.
#[derive(Clone, Debug)]
pub enum Input {
    /// `Tuning::tick_ms` have passed.
    Tick,
    /// A peer's frame, as its `Outcome::send` had it.
    Message {
        /// Who sent it, as the bus proved.
        from: MemberId,
        /// The frame.
        bytes: Bytes,
    },
    /// Asks for an entry. Answered by `placed` or `refused`.
    Propose {
        /// The caller's word for it.
        ticket: u64,
        /// The entry's bytes; not empty.
        data: Bytes,
    },
    /// Asks for a linearizable read point. Answered by `reads` or `refused`, or never when
    /// messages get lost for good: the shell bounds the time.
    Read {
        /// The caller's word for it.
        ticket: u64,
    },
    /// Asks for a change of the members. Answered as a proposal is.
    Change {
        /// The caller's word for it.
        ticket: u64,
        /// The change.
        change: Change,
    },
    /// The leader hands over: to this member, or to the one that has most of the log.
    Transfer {
        /// The heir.
        to: Option<MemberId>,
    },
    /// Whether this member has a reason not to lead, such as a full disk. It votes and follows as
    /// ever, but takes no lead that is handed over, and asks for votes only when nobody else has
    /// for several election timeouts. Whether it hands over is the caller's to say.
    Shy(bool),
    /// Two brokers saw this member's last will. If it leads, its heirs hurry; else nothing.
    Gone {
        /// The member.
        member: MemberId,
    },
    /// Every `Persist` up to this number is on the disk, synced.
    Persisted {
        /// The number.
        number: u64,
    },
    /// Every entry up to this one is in the state.
    Applied {
        /// The entry.
        index: Index,
        /// Its term.
        term: Term,
        /// The members as the state has them, if one of the entries changed them. The member
        /// keeps its own count, by the same rule.
        members: Option<Members>,
    },
    /// What was last sent to this member did not arrive.
    Unreachable {
        /// The member.
        member: MemberId,
    },
    /// At the leader: this member has fetched its snapshot, or failed to.
    SnapshotSent {
        /// The other end.
        to: MemberId,
        /// Whether it went well.
        ok: bool,
    },
    /// What this member was to fetch did not come or was not needed, whatever it is by now: a
    /// frame tells the one who offered it, and offers count again.
    FetchFailed,
    /// Entries up to this one need not be kept in memory for peers.
    Compact {
        /// The last of them.
        upto: Index,
    },
}

/// What the shell must do. All of it is independent but for what the fields say.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// To write and sync, in the order of the numbers.
    pub persist: Option<Persist>,
    /// Safe to send now: what had to wait for a disk comes after `Input::Persisted`.
    pub send: Vec<(MemberId, Bytes)>,
    /// Committed and durable here, in order, each once.
    pub apply: Vec<LogEntry>,
    /// Proposals that are in the log now, not committed yet: ticket, index, term. One holds if an
    /// entry with this index *and* term is applied, and never if the index has another term.
    pub placed: Vec<(u64, Index, Term)>,
    /// What was not done: ticket and reason.
    pub refused: Vec<(u64, Refusal)>,
    /// Reads that are linearizable once the state has applied this index: ticket and index.
    pub reads: Vec<(u64, Index)>,
    /// A snapshot to install; see [`install`].
    pub fetch: Option<Fetch>,
}

/// One write to the log. Written in the order of the numbers and synced, then reported with
/// [`Input::Persisted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number; they rise.
    pub number: u64,
    /// The hard state, if it must be written.
    pub hard: Option<HardState>,
    /// The log's entries from here on give way to `entries`.
    pub truncate_from: Option<Index>,
    /// To append, contiguous.
    pub entries: Vec<LogEntry>,
}

/// A snapshot that this member needs: taken at `index` or later, from `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Who has it.
    pub from: MemberId,
    /// What it must contain at least.
    pub index: Index,
    /// The term of the entry at `index`.
    pub term: Term,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Not in the members that it knows: not yet, or no longer.
    #[default]
    Outside,
    /// It follows and has no vote.
    Learner,
    /// It follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads its term; see [`Standing::ready`].
    Leader,
}

/// How far another member has come, as the leader sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its log agrees with the leader's up to here.
    pub matched: Index,
    /// It was heard of in the last election timeout.
    pub active: bool,
    /// It has to fetch a snapshot, or is fetching it.
    pub snapshot: bool,
}

/// Where a member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The member itself.
    pub me: MemberId,
    /// Its term.
    pub term: Term,
    /// Who leads it, if that is known.
    pub leader: Option<MemberId>,
    /// What this member is.
    pub role: Role,
    /// It leads and has applied its own term's first entry: its state is the newest there is.
    pub ready: bool,
    /// To whom the leader hands over.
    pub transferee: Option<MemberId>,
    /// The members, as of what was applied.
    pub members: Members,
    /// The last applied, committed and logged index.
    pub applied: Index,
    /// See `applied`.
    pub committed: Index,
    /// See `applied`.
    pub last: Index,
    /// How far each other member is; empty unless this one leads.
    pub progress: BTreeMap<MemberId, Progress>,
    /// Frames that were dropped because they made no sense.
    pub malformed: u64,
    /// Why this member takes no part, if that is its own disk's doing, and what to do.
    pub trouble: Option<String>,
}

/// What a snapshot means for a member's own log; see [`install`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// The log has the snapshot's last entry: keep everything; it will be committed forward.
    NotNeeded,
    /// The state becomes the snapshot's and the whole log gives way. The hard state is kept.
    Replace,
}

/// Whether a snapshot taken at (`index`, `term`) may replace what a member has.
///
/// Entries behind `index` may have been acknowledged and count towards a majority, so they may
/// only go if they can't be committed. That is so exactly if the log's own entry at `index` is
/// absent or of another term: whatever is committed behind a committed entry stands in a log that
/// has that entry.
pub fn install(own: &Start, index: Index, term: Term) -> Install {
    if own.applied.0 >= index {
        return Install::NotNeeded;
    }
    if super::mutant(super::Mutant::TailDropped) {
        return Install::Replace;
    }
    match own.entries.iter().find(|entry| entry.index == index) {
        Some(entry) if entry.term == term => Install::NotNeeded,
        _ => Install::Replace,
    }
}
