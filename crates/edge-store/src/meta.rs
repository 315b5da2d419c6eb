//! What a commit of the state says of itself: whose it is, and how far it has come.

use edge_core::consensus::{HardState, Index, MemberId, Members, Term};

use crate::command::Input;
use crate::log::Outlived;

const VERSION: u8 = 2;

/// Written with the objects, in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The number that this store's files carry.
    pub(crate) store: u64,
    /// The member it belongs to; 0 for none yet.
    pub(crate) me: MemberId,
    /// The last entry in it, and its term.
    pub(crate) applied: (Index, Term),
    /// The members as of that entry.
    pub(crate) members: Members,
    /// Term, vote and commit as they were durable then.
    pub(crate) hard: HardState,
    /// The number of the log's last batch that was synced then.
    pub(crate) batch: u64,
    /// The number of the store that this one was made of: its log does not count any more.
    pub(crate) prior: u64,
}

impl Meta {
    /// What the log needs to know of it.
    pub(crate) fn outlived(&self) -> Outlived {
        Outlived { applied: self.applied.0, batch: self.batch, hard: self.hard }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for number in [
            self.store,
            self.me,
            self.applied.0,
            self.applied.1,
            self.hard.term,
            self.hard.vote,
            self.hard.commit,
            self.batch,
            self.prior,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.members.encode());
        out
    }

    /// Reads what `encode` wrote; `None` is anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut input = Input(bytes);
        if input.take(1)? != [VERSION] {
            return None;
        }
        let (store, me) = (input.u64()?, input.u64()?);
        let applied = (input.u64()?, input.u64()?);
        let hard = HardState { term: input.u64()?, vote: input.u64()?, commit: input.u64()? };
        let (batch, prior) = (input.u64()?, input.u64()?);
        let members = Members::decode(input.0)?;
        Some(Meta { store, me, applied, members, hard, batch, prior })
    }
}
