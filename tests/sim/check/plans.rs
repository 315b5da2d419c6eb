//! A plan of a deposed leader never lands, and a pod changes only as a pod may.

use edge_core::consensus::{LogEntry, MemberId};

use super::super::boards::{POD, Pod};
use super::super::state::Command;
use super::super::stored::Late;
use super::Checks;

/// The rule that two things can break.
const DEPOSED: &str = "a plan of a deposed leader never lands";

impl Checks {
    /// The store did something that was planned in a former term.
    pub(super) fn landed(&mut self, id: MemberId, late: Late) {
        let Late(planned, term, revision) = late;
        self.breaks(DEPOSED, || {
            format!("{id} did at {revision} in term {term} what was planned in {planned}")
        });
    }

    pub(super) fn planned(&mut self, id: MemberId, entry: &LogEntry, command: &Command) {
        if command.term != 0 && command.term != entry.term {
            let (planned, term) = (command.term, entry.term);
            self.breaks(DEPOSED, || {
                format!("{id} applied {command:?} of term {planned} in term {term}")
            });
        }
        if command.key != POD {
            return;
        }
        let earlier = self.agreed.range(..entry.index).rev();
        let mut writes = earlier.filter_map(|(_, agreed)| agreed.write);
        let before = writes.find(|(key, _)| *key == POD).map_or(0, |(_, value)| value);
        let fine = match (Pod::read(before), Pod::read(command.value)) {
            (Pod::Pending | Pod::Released, Pod::Bound(_)) => true,
            (Pod::Bound(from), Pod::Leaving(to)) => from == to,
            (Pod::Leaving(_), Pod::Released) => true,
            _ => false,
        };
        if !fine {
            let (from, to) = (Pod::read(before), Pod::read(command.value));
            self.breaks("no pod on two nodes unless fenced", || format!("{from:?}, then {to:?}"));
        }
    }
}
