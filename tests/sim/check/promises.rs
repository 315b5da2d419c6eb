//! Votes, terms and acknowledgements are on the disk before anybody hears of them.

use bytes::Bytes;
use edge_core::consensus::{Glimpse, MemberId, Said};

use super::{Checks, Replica};

const RULE: &str = "votes and entries survive";

impl Checks {
    pub(super) fn promises(&mut self, id: MemberId, to: MemberId, run: &Replica, bytes: &Bytes) {
        let Some(Glimpse { said, term, index }) = Glimpse::of(bytes) else { return };
        let hard = run.disk.hard;
        let broken = match said {
            Said::Vote => hard.term < term || (hard.term == term && hard.vote != to),
            Said::Candidacy => hard.term < term || (hard.term == term && hard.vote != id),
            Said::Leads => hard.term < term,
            Said::Has => hard.term < term || (hard.term == term && run.disk.last() < index),
            Said::Other => false,
        };
        let voted = match said {
            Said::Vote => Some(to),
            Said::Candidacy => Some(id),
            _ => None,
        };
        if let Some(voted) = voted {
            let first = *self.votes.entry((term, id)).or_insert(voted);
            if first != voted {
                self.breaks(RULE, || format!("{id} votes for {first} and {voted} in {term}"));
            }
        }
        if broken {
            let last = run.disk.last();
            self.breaks(RULE, || {
                format!("{id} tells {to} {said:?} {index} of {term}; on disk {hard:?}, log {last}")
            });
        }
    }
}
