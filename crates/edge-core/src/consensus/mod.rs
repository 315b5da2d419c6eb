//! The brain: Raft as a pure step machine. Inputs go in, outcomes come out; no clock, no disk, no
//! network and no chance but the seed.
//!
//! The shell feeds a [`Member`] with ticks, peers' frames, proposals and the news of its own disk,
//! and does what each [`Outcome`] says: persist, send, apply. Every rule that makes an election
//! safe is in here; what happens outside can only make it late. The rooms:
//!
//! - `types`: the words that the shell and the member share;
//! - `members`, `change`: who belongs to the cluster, and how that changes;
//! - `frame`, `guard`: a peer's bytes, and what of them may reach raft-rs at all;
//! - `tail`: the part of the log that is kept in memory for slow peers;
//! - `start`, `member`, `output`: the disk's word, inputs and outcomes;
//! - `reads`, `hint`, `steward`: what a leader or its heir does by itself;
//! - `mutants`: rules that a test may leave out.

mod broken;
mod chance;
mod change;
mod frame;
mod guard;
mod hint;
mod member;
mod members;
mod mutants;
mod output;
mod reads;
mod refusal;
mod start;
mod steward;
mod tail;
#[cfg(test)]
mod tests;
mod timeout;
mod types;

pub use chance::Chance;
pub use change::Change;
pub use frame::{Glimpse, Said};
pub use member::Member;
pub use members::{MemberInfo, Members};
#[cfg(feature = "mutants")]
pub use mutants::choose;
pub use mutants::{Mutant, mutant};
pub use refusal::{Refusal, StartError};
pub use types::{
    EntryKind, Fetch, HardState, Index, Input, Install, LogEntry, MemberId, Outcome, Persist,
    Progress, Role, Standing, Start, Term, Tuning, install,
};
