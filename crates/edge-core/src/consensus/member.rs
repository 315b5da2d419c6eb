//! A member: inputs in, outcomes out.

use super::types::{Input, Outcome, Standing, Start, StartError, Tuning};
use super::{Index, Install, MemberId, Term};

/// One voice of the cluster. See the module's page for what the shell owes it.
pub struct Member {
    standing: Standing,
    start: Start,
}

impl Member {
    /// Begins with what the disk holds. `seed` decides the election timeouts.
    pub fn new(
        me: MemberId,
        start: Start,
        _tuning: Tuning,
        _seed: u64,
    ) -> Result<Member, StartError> {
        let standing = Standing { me, members: start.members.clone(), ..Standing::default() };
        Ok(Member { standing, start })
    }

    /// Takes one input. Never blocks; no peer's bytes make it panic.
    pub fn step(&mut self, _input: Input) {}

    /// What is to be done now. Call it until it gives `None` after each step or batch of steps.
    pub fn outcome(&mut self) -> Option<Outcome> {
        None
    }

    /// Where this member stands.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Whether ticks change anything: alone, nothing waits for time.
    pub fn needs_ticks(&self) -> bool {
        true
    }

    /// [`super::install`] for this member's own log. Stop it before acting on the answer.
    pub fn install(&self, index: Index, term: Term) -> Install {
        super::install(&self.start, index, term)
    }
}
