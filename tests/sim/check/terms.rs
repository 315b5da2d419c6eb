//! One leader per term.

use edge_core::consensus::{MemberId, Role};

use super::{Checks, Replica};

impl Checks {
    pub(super) fn leads(&mut self, id: MemberId, run: &Replica) {
        if run.standing.role != Role::Leader {
            return;
        }
        let term = run.standing.term;
        let leader = *self.leaders.entry(term).or_insert(id);
        if leader != id {
            self.breaks("one leader per term", || format!("{leader} and {id} lead term {term}"));
        }
    }
}
