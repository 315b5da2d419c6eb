//! At one revision all members have one state, however they came to it.

use edge_core::consensus::MemberId;

use super::{Checks, Replica};

impl Checks {
    pub(super) fn compare_state(&mut self, id: MemberId, run: &Replica) {
        let (index, _) = run.state.applied;
        let Some(agreed) = self.agreed.get(&index) else { return };
        let (digest, other) = (run.state.digest, agreed.digest);
        if digest != other {
            self.breaks("state is equal at an equal revision", || {
                format!("{id} has {digest:x} at {index}, others {other:x}")
            });
        }
    }

    /// The contents themselves, at the end.
    pub(in super::super) fn compare_contents(&mut self, one: &Replica, other: &Replica) {
        let knows = |run: &Replica| run.standing.members == run.state.members;
        let same = knows(one)
            && knows(other)
            && one.state.keys == other.state.keys
            && one.state.members == other.state.members
            && one.state.applied == other.state.applied;
        if !same {
            let of = |run: &Replica| (run.standing.me, run.state.applied, run.state.keys.clone());
            let (one, other) = (of(one), of(other));
            self.breaks("state is equal at an equal revision", || format!("{one:?} and {other:?}"));
        }
    }
}
