//! After healing everything goes on, and comes to the same everywhere: desired = observed.

use edge_core::consensus::MemberId;

use super::super::boards::{ENDPOINTS, POD, Pod};
use super::super::world::World;
use super::Checks;

const RULE: &str = "after healing, desired = observed";

impl World {
    fn ready_leader(&self) -> Option<MemberId> {
        let ready = |id: &MemberId| {
            self.servers[id]
                .run
                .as_ref()
                .filter(|run| run.standing.ready)
                .map(|run| (run.standing.term, *id))
        };
        self.leaders().iter().filter_map(ready).max().map(|(_, id)| id)
    }

    pub(in super::super) fn judge_progress(&mut self) {
        let leader = self.ready_leader();
        let stuck = self.clients.iter().position(|client| client.acknowledged_since_heal == 0);
        if leader.is_none() || stuck.is_some() {
            let standings = self.standings();
            self.checks.breaks(RULE, || {
                format!("leader {leader:?}, client without an answer {stuck:?}; {standings}")
            });
        }
    }

    pub(in super::super) fn standings(&self) -> String {
        let of = |(id, server): (&MemberId, &super::super::world::Server)| {
            let standing = server.run.as_ref().map(|run| &run.standing)?;
            let voters = standing.members.voters();
            Some(format!(
                "{id}: {:?} term {} leader {:?} applied {} committed {} last {} voters {voters:?}",
                standing.role,
                standing.term,
                standing.leader,
                standing.applied,
                standing.committed,
                standing.last
            ))
        };
        self.servers.iter().filter_map(of).collect::<Vec<_>>().join("; ")
    }

    pub(in super::super) fn judge_sameness(&mut self) {
        let standings = self.standings();
        let Some(leader) = self.ready_leader() else {
            return self.checks.breaks(RULE, || format!("nobody leads; {standings}"));
        };
        let Some(best) = self.servers.get(&leader).and_then(|server| server.run.as_ref()) else {
            return;
        };
        let checks: &mut Checks = &mut self.checks;
        for info in best.state.members.all() {
            let run = self.servers.get(&info.id).and_then(|server| server.run.as_ref());
            match run {
                Some(run) => checks.compare_contents(best, run),
                None => checks.breaks(RULE, || format!("{} does not run", info.id)),
            }
        }
        if best.state.members.learners().iter().any(|id| best.state.members.rising().contains(id)) {
            checks.breaks(RULE, || format!("a learner was not promoted; {standings}"));
        }
        let pod = best.state.keys.get(&POD).map_or(Pod::Pending, |(_, value)| Pod::read(*value));
        let shown = best.state.keys.get(&ENDPOINTS).map_or(0, |(_, value)| *value);
        let runs = self.boards.iter().position(|board| board.running);
        let fine =
            matches!(pod, Pod::Bound(board) if runs == Some(board) && shown == board as u64 + 1);
        if !fine {
            let boards = &self.boards;
            checks.breaks(RULE, || {
                format!("{pod:?} runs on {runs:?}, endpoints {shown}: {boards:?}; {standings}")
            });
        }
        let applied = best.state.applied.0;
        for (who, watcher) in self.watchers.iter().enumerate() {
            let (seen, server) = (watcher.seen, watcher.server);
            let member = best.state.members.contains(server);
            if member && seen != applied {
                checks
                    .breaks(RULE, || format!("watcher {who} on {server} saw {seen} of {applied}"));
            }
        }
    }
}
