//! Reading a segment back: which entries were acknowledged, where the next batch goes, and
//! whether what can't be read was an unacknowledged batch (cut) or is damage (refused).
//!
//! A batch is written only after the one before is synced. So a record of a later batch, or a
//! later segment, proves that everything before it was synced once: a bad record there is damage.
//! Only the last batch can be torn, and then its end or a sector of it is missing (see `record`).
//! A bad record in the last batch with nothing missing was written whole and changed later: damage.
//! Entries up to the state's own index are not needed any more, wherever they can be told.

use std::path::Path;

use super::record::{self, HEADER, Header, SECTOR, Slot};
use crate::command::Command;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Its index, which is its revision.
    pub(crate) index: u64,
    /// The term of the leader that made it.
    pub(crate) term: u64,
    /// What it asks of the machine.
    pub(crate) command: Command,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The entries after the state's index.
    pub(crate) entries: Vec<LogEntry>,
    /// The index that comes after the last entry.
    pub(crate) next: u64,
    /// Where the next batch goes.
    pub(crate) end: usize,
    /// Whether remains of a torn batch lie there and must be erased.
    pub(crate) torn: bool,
}

/// What can't be read, and is missed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) offset: usize,
    pub(crate) index: u64,
    pub(crate) what: String,
    /// The highest index seen, for revisions are never given out twice.
    pub(crate) highest: u64,
}

/// A segment on the bench.
pub(crate) struct Reader<'a> {
    /// Its bytes; what the file holds behind them is zeroes.
    pub(crate) bytes: &'a [u8],
    pub(crate) path: &'a Path,
    pub(crate) seed: u64,
    /// The first index in it.
    pub(crate) first: u64,
    /// What the state holds already.
    pub(crate) applied: u64,
    /// Whether a later segment proves that this one was synced.
    pub(crate) proven: bool,
}

/// How a look at one record ended.
enum Step {
    /// Go on at this offset with this index of this batch.
    Next(usize, u64, u64),
    /// The log ends before this batch, cleanly or torn.
    End(bool),
}

impl Reader<'_> {
    /// Reads the whole segment. What was read before something bad is in `contents` either way.
    pub(crate) fn read(&self, contents: &mut Contents) -> Result<(), Bad> {
        let (mut at, mut index) = (SECTOR, self.first);
        let mut batch = index;
        let mut pending = Vec::new();
        (contents.next, contents.end, contents.torn) = (batch, at, false);
        loop {
            match self.step(at, index, batch, &mut pending)? {
                Step::End(torn) => {
                    contents.torn = torn || at != contents.end;
                    return Ok(());
                }
                Step::Next(next_at, next_index, next_batch) => {
                    (at, index, batch) = (next_at, next_index, next_batch);
                    if index == batch {
                        contents.entries.append(&mut pending);
                        (contents.next, contents.end) = (batch, at);
                    }
                }
            }
        }
    }

    fn step(
        &self,
        at: usize,
        index: u64,
        batch: u64,
        pending: &mut Vec<LogEntry>,
    ) -> Result<Step, Bad> {
        let slot = record::slot(self.bytes, at, self.seed);
        let header = match slot {
            Slot::Valid(header) if header.index == index && header.batch == batch => header,
            Slot::Valid(_) => return self.skip(at, index, "a record of another place"),
            Slot::Bad if self.stops(at + HEADER, batch) => return Ok(Step::End(true)),
            Slot::Bad => return self.skip(at, index, "a record's header that changed"),
            Slot::Blank => return self.end(at, index, batch),
        };
        let Some(bytes) = record::payload(self.bytes, at, &header, self.seed) else {
            return self.changed(at, index, batch, &header);
        };
        if index > self.applied {
            let Some(command) = Command::decode(bytes) else {
                return Err(self.bad(at, index, "a record that this version does not know"));
            };
            pending.push(LogEntry { index, term: header.term, command });
        }
        Ok(next(at, &header))
    }

    /// There is no header at `at`: the end, if nothing proves that there was one.
    fn end(&self, at: usize, index: u64, batch: u64) -> Result<Step, Bad> {
        if self.was_synced(at, batch) {
            return self.skip(at, index, "nothing where a record was");
        }
        if index <= self.applied {
            let what = format!("the end, though the state has seen entry {}", self.applied);
            return Err(self.bad(at, index, &what));
        }
        Ok(Step::End(!self.is_blank_from(at)))
    }

    /// The record at `at` has its header, and other bytes than were written.
    fn changed(&self, at: usize, index: u64, batch: u64, header: &Header) -> Result<Step, Bad> {
        if index <= self.applied {
            tracing::warn!(
                "store: {} is damaged at byte {at}; the state holds entry {index} already",
                self.path.display()
            );
            return Ok(next(at, header));
        }
        let synced = self.proven || self.was_synced(at + HEADER, batch);
        if !synced && record::is_torn(self.bytes, at, header) {
            return Ok(Step::End(true));
        }
        Err(self.bad(at, index, "a record whose bytes changed after they were written"))
    }

    /// Whether the last batch's write stopped before `from`: nothing at all lies behind.
    fn stops(&self, from: usize, batch: u64) -> bool {
        !self.proven && batch > self.applied && self.is_blank_from(from)
    }

    fn is_blank_from(&self, from: usize) -> bool {
        self.bytes.get(from..).is_none_or(record::is_blank)
    }

    /// Whether the batch that begins with entry `batch` was durable once: the state holds part of
    /// it, or a later batch follows.
    fn was_synced(&self, from: usize, batch: u64) -> bool {
        batch <= self.applied || self.headers(from).any(|(_, later)| later.batch > batch)
    }

    /// The valid headers at or after `from`.
    fn headers(&self, from: usize) -> impl Iterator<Item = (usize, Header)> {
        let first = record::find(self.bytes, from, self.seed);
        std::iter::successors(first, |(at, _)| record::find(self.bytes, at + HEADER, self.seed))
    }

    /// Nothing at `at` can be trusted: go on behind it, if the state holds all that is between.
    fn skip(&self, at: usize, index: u64, what: &str) -> Result<Step, Bad> {
        match record::find(self.bytes, at + 1, self.seed) {
            Some((later_at, later)) if later.index > index && later.index <= self.applied + 1 => {
                tracing::warn!(
                    "store: {} is damaged at byte {at}; the state holds entries {index} to {} \
                     already",
                    self.path.display(),
                    later.index - 1
                );
                Ok(Step::Next(later_at, later.index, later.batch))
            }
            _ => Err(self.bad(at, index, what)),
        }
    }

    fn bad(&self, offset: usize, index: u64, what: &str) -> Bad {
        let highest = self.headers(offset).map(|(_, header)| header.index).max();
        let highest = highest.map_or(index, |seen| seen.max(index));
        Bad { offset, index, what: what.to_owned(), highest }
    }
}

/// Where the record after the one at `at` is expected.
fn next(at: usize, header: &Header) -> Step {
    let index = header.index + 1;
    Step::Next(header.next(at), index, if header.last { index } else { header.batch })
}

#[cfg(test)]
mod tests;
