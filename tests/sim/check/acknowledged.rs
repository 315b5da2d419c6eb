//! No acknowledged write is lost: whoever leads and calls itself ready has every one of them, and
//! each is what all have agreed on at its revision.

use edge_core::consensus::{Index, MemberId, Term};

use super::super::clients::Call;
use super::super::state::Command;
use super::{Checks, Replica};

const RULE: &str = "no acknowledged write is lost";

impl Checks {
    pub(in super::super) fn acknowledged(
        &mut self,
        call: &Call,
        command: &Command,
        revision: Index,
        term: Term,
    ) {
        self.acknowledged += 1;
        let highest = self.acknowledged_in.entry(term).or_default();
        *highest = revision.max(*highest);
        let agreed = self.agreed.get(&revision);
        let fits = agreed.is_some_and(|agreed| {
            (agreed.term == term || agreed.term == 0)
                && agreed.write == Some((command.key, command.value))
        });
        if !fits {
            let found = format!("{:?}", agreed.map(|agreed| (agreed.term, agreed.write)));
            self.breaks(RULE, || format!("{command:?} at {revision} of {term}: there is {found}"));
        }
        self.wrote(call, revision);
    }

    pub(super) fn is_ready(&mut self, id: MemberId, run: &Replica) {
        let term = run.standing.term;
        if !run.standing.ready || !self.ready.insert((term, id)) {
            return;
        }
        let applied = run.state.applied.0;
        let before = self.acknowledged_in.range(..term).map(|(_, index)| *index).max();
        if before.is_some_and(|index| index > applied) {
            self.breaks(RULE, || {
                format!("{id} leads {term} and has {applied}; {before:?} was acknowledged")
            });
        }
    }
}
