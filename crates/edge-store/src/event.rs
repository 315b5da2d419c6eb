//! What the two halves of a member tell each other: the mind, which decides and never waits for
//! a disk, and the writer, which does.

use bytes::Bytes;
use edge_core::consensus::{Change, Index, LogEntry, MemberId, Members, Persist, Start, Term};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::command::{Applied, Command};
use crate::error::{BarrierError, ChangeError, ProposeError, StateError};
use crate::install::Built;
use crate::log;

/// A command and who waits for it.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    /// Its log form.
    pub(crate) data: Bytes,
    pub(crate) answer: oneshot::Sender<Result<Applied, ProposeError>>,
    /// Its place among those that wait, and its bytes.
    pub(crate) _held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Proposal {
    pub(crate) fn answer(self, result: Result<Applied, ProposeError>) {
        // A caller may have stopped waiting.
        let _ = self.answer.send(result);
    }
}

/// Who waits for a change of the members, or for another leader.
pub(crate) type ChangeAnswer = oneshot::Sender<Result<(), ChangeError>>;

/// Who waits for a linearizable read point.
pub(crate) type BarrierAnswer = oneshot::Sender<Result<Index, BarrierError>>;

/// What happens to a mind.
pub(crate) enum Event {
    Tick,
    Propose(Proposal),
    Message {
        from: MemberId,
        bytes: Bytes,
    },
    Barrier(BarrierAnswer),
    Change {
        change: Change,
        answer: ChangeAnswer,
    },
    Transfer {
        to: Option<MemberId>,
        answer: ChangeAnswer,
    },
    Gone(MemberId),
    Unreachable(MemberId),
    SnapshotSent {
        to: MemberId,
        ok: bool,
    },
    /// A fetch ended: the state that was built, or what went wrong.
    Fetched(Result<Built, String>),
    /// The writer did something.
    Done(Done, Status),
    Close(oneshot::Sender<()>),
}

/// What the writer is to do, in this order.
pub(crate) enum Work {
    Persist(Persist),
    Apply(Vec<Committed>),
    /// Make sure that batches of so many bytes fit.
    Room(u64),
    /// Try a commit that failed again.
    Commit,
    Install(Box<Built>),
    /// What was built is not to be used.
    Discard(Box<Built>),
    /// A commit of this store's state ended.
    Committed(u64, Result<(), StateError>),
    /// Nothing comes after this.
    Close,
}

/// A committed entry and who waits for it.
pub(crate) struct Committed {
    pub(crate) entry: LogEntry,
    pub(crate) origin: Option<Origin>,
}

/// Who asked for an entry.
pub(crate) enum Origin {
    Proposal(Proposal),
    Change(ChangeAnswer),
}

/// What the writer did.
pub(crate) enum Done {
    Persisted(u64),
    Applied {
        index: Index,
        term: Term,
        members: Option<Members>,
    },
    /// Room was made.
    Roomy,
    /// There is no room for a batch: nothing of it is there, and the log is as before.
    Full {
        detail: String,
        start: Box<Start>,
    },
    /// There was none to be made.
    NoRoom {
        detail: String,
    },
    /// The disk failed: nothing more may be written.
    Broken {
        detail: String,
    },
    Installed(Box<Start>),
    /// The state and the log are as they were; why, if that is not because all of it was there.
    NotInstalled {
        detail: Option<String>,
        start: Box<Start>,
    },
    /// Only the status is new.
    Nothing,
    Closed,
}

/// How the writer's files stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Bytes that the log takes without a new segment.
    pub(crate) room: u64,
    /// Bytes applied and not committed to the state.
    pub(crate) overlay: usize,
    /// Why the last commit failed for want of room.
    pub(crate) failed: Option<String>,
}

/// The room that a group of proposals takes in the log, at most.
pub(crate) fn room_for(group: &[Proposal]) -> u64 {
    log::bound(group.iter().map(|proposal| proposal.data.len()))
}
