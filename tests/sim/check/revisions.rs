//! Revisions never fall, none is left out, and each means the same on every member.

use edge_core::consensus::{LogEntry, MemberId};

use super::super::clients::KEYS;
use super::super::state::{Command, Event, Verdict};
use super::{Agreed, Checks};

impl Checks {
    pub(super) fn applies(
        &mut self,
        id: MemberId,
        entry: &LogEntry,
        verdict: Option<Verdict>,
        digest: u64,
        gaps: bool,
    ) {
        let before = self.applied.insert(id, entry.index).unwrap_or(0);
        let follows = entry.index == before + 1 || (gaps && entry.index > before);
        if !follows {
            let index = entry.index;
            self.breaks("revisions never fall", || format!("{id} applied {index} after {before}"));
        }
        if let Some(agreed) = self.agreed.get(&entry.index) {
            if agreed.term != entry.term || agreed.data != entry.data {
                let (index, term, other) = (entry.index, entry.term, agreed.term);
                self.breaks("a revision is the same everywhere", || {
                    format!("{id} applied {index} of term {term}; others of term {other}")
                });
            }
            return;
        }
        let command = Command::decode(&entry.data).filter(|_| verdict == Some(Verdict::Done));
        let write = command.as_ref().map(|command| (command.key, command.value));
        let (term, data) = (entry.term, entry.data.clone());
        self.agreed.insert(entry.index, Agreed { term, data, digest, write });
        let Some(command) = command else { return };
        self.planned(id, entry, &command);
        let (key, value, revision) = (command.key, command.value, entry.index);
        if u64::from(key) < KEYS {
            self.happened(value, revision);
            self.truth.insert(revision, Event { revision, key, value });
        }
    }
}
