//! The invariants, one file each. They see what servers do, say and answer, and note the first
//! rule that is broken.

mod acknowledged;
mod healing;
mod linear;
mod plans;
mod promises;
mod revisions;
mod singleton;
mod state;
mod terms;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use edge_core::consensus::{Index, MemberId, Term};

use super::replica::Replica;
use super::state::Event;

/// A broken rule.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) rule: &'static str,
    pub(super) what: String,
}

/// What is agreed on at an index, by whoever applied it first.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub(super) term: Term,
    pub(super) data: Bytes,
    pub(super) digest: u64,
    /// The write, if it happened.
    pub(super) write: Option<(u8, u64)>,
}

/// Everything the invariants remember.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) broken: Option<Broken>,
    /// Nobody writes any more: the end is near.
    pub(super) quiet: bool,
    pub(super) agreed: BTreeMap<Index, Agreed>,
    /// The writes that watchers of the clients' keys must see.
    pub(super) truth: BTreeMap<Index, Event>,
    pub(super) leaders: BTreeMap<Term, MemberId>,
    /// Per term and voter, for whom it voted.
    pub(super) votes: BTreeMap<(Term, MemberId), MemberId>,
    pub(super) applied: BTreeMap<MemberId, Index>,
    /// Per term, the highest revision that it acknowledged.
    pub(super) acknowledged_in: BTreeMap<Term, Index>,
    pub(super) ready: BTreeSet<(Term, MemberId)>,
    /// Per key, the newest revision that anybody was told; and of all keys.
    pub(super) told: BTreeMap<u8, Index>,
    pub(super) told_of_all: Index,
    pub(super) values: BTreeMap<u64, Option<Index>>,
    pub(super) never: BTreeSet<u64>,
    pub(super) acknowledged: u64,
    pub(super) watched: u64,
}

impl Checks {
    /// Notes a broken rule; the first one counts.
    pub(super) fn breaks(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { rule, what: what() });
        }
    }

    /// A server has started.
    pub(super) fn started(&mut self, id: MemberId, run: &Replica) {
        self.applied.insert(id, run.state.applied.0);
        self.compare_state(id, run);
    }

    /// A server has done something and says `outbox` because of it.
    pub(super) fn observe(
        &mut self,
        id: MemberId,
        run: &mut Replica,
        outbox: &[(MemberId, Bytes)],
    ) {
        self.leads(id, run);
        for late in std::mem::take(&mut run.late) {
            self.landed(id, late);
        }
        if let Some(why) = run.failed.take() {
            self.breaks("votes and entries survive", || format!("{id}: {why}"));
        }
        for (to, bytes) in outbox.iter().filter(|_| !run.is_stored()) {
            self.promises(id, *to, run, bytes);
        }
        let gaps = run.is_stored();
        for (entry, verdict, digest) in std::mem::take(&mut run.applied) {
            self.applies(id, &entry, verdict, digest, gaps);
        }
        let before = self.applied.insert(id, run.state.applied.0).unwrap_or(0);
        if before > run.state.applied.0 {
            let now = run.state.applied.0;
            self.breaks("revisions never fall", || format!("{id}: {now} after {before}"));
        }
        self.compare_state(id, run);
        self.is_ready(id, run);
    }
}
