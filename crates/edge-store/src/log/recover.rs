//! Reading a segment back: what was acknowledged, where the next batch goes, and whether what
//! can't be read was an unacknowledged batch (cut) or is damage (refused).
//!
//! A batch is written only after the one before is synced. So a record of a later batch, a later
//! segment, or the number of a synced batch that the state has kept, proves that everything
//! before it was synced once: a bad record there is damage. Only the last batch can be torn, and
//! then its end or a sector of it is missing (see `record`). A bad record in the last batch with
//! nothing missing was written whole and changed later: damage.
//!
//! A record with index *n* ends the log at *n* - 1 before it adds to it, so that a batch may
//! replace the entries of earlier ones. What the state has outlived is not needed any more: its
//! entries up to the state's own index, and terms and votes up to the state's own batch.

use std::path::Path;

use bytes::Bytes;
use edge_core::consensus::{HardState, LogEntry};

use super::record::{self, HEADER, Header, Kind, SECTOR, Slot};

/// What the state behind the log has kept, all of one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlived {
    /// The index of the last entry in it.
    pub(crate) applied: u64,
    /// The number of the last batch that was synced before.
    pub(crate) batch: u64,
    /// Term, vote and commit as they were then.
    pub(crate) hard: HardState,
}

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The entries after the state's index.
    pub(crate) entries: Vec<LogEntry>,
    /// The index that comes after the last entry.
    pub(crate) next: u64,
    /// The number of the next batch.
    pub(crate) batch: u64,
    /// Term, vote and the highest index known to be committed.
    pub(crate) hard: HardState,
    /// Where the next batch goes.
    pub(crate) end: usize,
    /// Whether remains of a torn batch lie there and must be erased.
    pub(crate) torn: bool,
}

impl Contents {
    /// What a log that begins with batch `batch` and entry `next` adds to.
    pub(crate) fn new(outlived: Outlived, batch: u64, next: u64) -> Contents {
        Contents { next, batch, hard: outlived.hard, ..Contents::default() }
    }

    fn add(&mut self, outlived: &Outlived, record: Pending) {
        let Pending { header, data } = record;
        let kept = header.index.saturating_sub(outlived.applied + 1);
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.hard.commit = self.hard.commit.max(header.commit());
        match header.kind {
            Kind::Hard => {
                let vote = data.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
                if header.batch > outlived.batch {
                    self.hard.term = header.term;
                    self.hard.vote = vote.unwrap_or_default();
                }
            }
            Kind::Entry(kind) => {
                if header.index > outlived.applied {
                    let (term, index) = (header.term, header.index);
                    self.entries.push(LogEntry { term, index, kind, data });
                }
            }
        }
    }
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
    pub(crate) outlived: Outlived,
    /// Whether a later segment proves that this one was synced.
    pub(crate) proven: bool,
}

/// Which index a record may have.
#[derive(Clone, Copy)]
enum Want {
    /// At the beginning of a batch: any that does not leave a gap.
    UpTo(u64),
    /// Within a batch.
    Exactly(u64),
}

impl Want {
    fn fits(self, index: u64) -> bool {
        match self {
            Want::UpTo(most) => (1..=most).contains(&index),
            Want::Exactly(wanted) => index == wanted,
        }
    }

    /// The first index that may be missing with a record here.
    fn index(self) -> u64 {
        match self {
            Want::UpTo(index) | Want::Exactly(index) => index,
        }
    }
}

/// A place in the segment, and what is expected there.
#[derive(Clone, Copy)]
struct Cursor {
    at: usize,
    batch: u64,
    want: Want,
}

/// A record of a batch whose end was not seen yet.
struct Pending {
    header: Header,
    data: Bytes,
}

/// How a look at one record ended.
enum Step {
    /// It is whole.
    Record(Header),
    /// It is not needed: go on here. Whether that ends the batch.
    Skip(Cursor, bool),
    /// The log ends before this batch, cleanly or torn.
    End(bool),
}

impl Reader<'_> {
    /// Reads the whole segment. What was read before something bad is in `contents` either way.
    pub(crate) fn read(&self, contents: &mut Contents) -> Result<(), Bad> {
        let mut pending: Vec<Pending> = Vec::new();
        let want = Want::UpTo(contents.next);
        let mut cursor = Cursor { at: SECTOR, batch: contents.batch, want };
        (contents.end, contents.torn) = (SECTOR, false);
        loop {
            let ends = match self.step(cursor)? {
                Step::End(torn) => {
                    contents.torn = torn || cursor.at != contents.end;
                    return self.check_end(cursor, contents);
                }
                Step::Skip(later, ends) => {
                    if later.batch != cursor.batch {
                        pending.clear();
                    }
                    cursor = later;
                    ends
                }
                Step::Record(header) => {
                    let from = cursor.at + HEADER;
                    let data = &self.bytes[from..from + header.length as usize];
                    pending.push(Pending { header, data: Bytes::copy_from_slice(data) });
                    cursor.at = header.next(cursor.at);
                    cursor.want = Want::Exactly(after(&header));
                    header.last
                }
            };
            if ends {
                pending.drain(..).for_each(|record| contents.add(&self.outlived, record));
                contents.next = cursor.want.index();
                contents.end = cursor.at;
                contents.batch = cursor.batch + 1;
                cursor.batch = contents.batch;
                cursor.want = Want::UpTo(contents.next);
            }
        }
    }

    /// The log must reach what the state has seen of it.
    fn check_end(&self, cursor: Cursor, contents: &Contents) -> Result<(), Bad> {
        let applied = self.outlived.applied;
        if !self.proven && contents.next <= applied {
            let what = format!("the end, though the state has seen entry {applied}");
            return Err(self.bad(Cursor { want: Want::UpTo(contents.next), ..cursor }, &what));
        }
        Ok(())
    }

    fn step(&self, cursor: Cursor) -> Result<Step, Bad> {
        let Cursor { at, batch, want } = cursor;
        let header = match record::slot(self.bytes, at, self.seed) {
            Slot::Valid(header) if want.fits(header.index) && header.batch == batch => header,
            Slot::Valid(_) => return self.skip(cursor, "a record of another place"),
            Slot::Bad if self.stops(at + HEADER, batch) => return Ok(Step::End(true)),
            Slot::Bad => return self.skip(cursor, "a record's header that changed"),
            Slot::Blank if self.is_hole(at, batch) => {
                return self.skip(cursor, "nothing where a record was");
            }
            Slot::Blank => return Ok(Step::End(!self.is_blank_from(at))),
        };
        match record::payload(self.bytes, at, &header, self.seed) {
            Some(_) => Ok(Step::Record(header)),
            None => self.changed(cursor, &header),
        }
    }

    /// The record here has its header, and other bytes than were written.
    fn changed(&self, cursor: Cursor, header: &Header) -> Result<Step, Bad> {
        let Cursor { at, batch, .. } = cursor;
        let needed = header.kind != Kind::Hard && header.index > self.outlived.applied;
        if self.outlived_to(batch) && !needed {
            tracing::warn!(
                "store: {} is damaged at byte {at}; the state holds entry {} already",
                self.path.display(),
                header.index
            );
            let want = Want::Exactly(after(header));
            return Ok(Step::Skip(Cursor { at: header.next(at), batch, want }, header.last));
        }
        let synced = self.proven || self.was_synced(at + HEADER, batch);
        if !synced && record::is_torn(self.bytes, at, header) {
            return Ok(Step::End(true));
        }
        Err(self.bad(cursor, "a record whose bytes changed after they were written"))
    }

    fn outlived_to(&self, batch: u64) -> bool {
        batch <= self.outlived.batch
    }

    /// Whether the last batch's write stopped before `from`: nothing at all lies behind.
    fn stops(&self, from: usize, batch: u64) -> bool {
        !self.proven && !self.outlived_to(batch) && self.is_blank_from(from)
    }

    fn is_blank_from(&self, from: usize) -> bool {
        self.bytes.get(from..).is_none_or(record::is_blank)
    }

    /// Whether this batch was durable once: the state says so, or a later batch follows.
    fn was_synced(&self, from: usize, batch: u64) -> bool {
        self.outlived_to(batch) || self.headers(from).any(|(_, later)| later.batch > batch)
    }

    /// Whether a batch was durable and belongs where nothing is. In a segment that another one
    /// follows, the state may have seen batches that are in that one: its name says if any lack.
    fn is_hole(&self, at: usize, batch: u64) -> bool {
        let later = self.headers(at).any(|(_, later)| later.batch > batch);
        later || (!self.proven && self.outlived_to(batch))
    }

    /// The valid headers at or after `from`.
    fn headers(&self, from: usize) -> impl Iterator<Item = (usize, Header)> {
        let first = record::find(self.bytes, from, self.seed);
        std::iter::successors(first, |(at, _)| record::find(self.bytes, at + HEADER, self.seed))
    }

    /// Nothing here can be trusted: go on behind it, if the state has outlived what is between.
    /// The record found there ends the log before itself, so that whatever lies between and
    /// counts has a lower index.
    fn skip(&self, cursor: Cursor, what: &str) -> Result<Step, Bad> {
        let (at, outlived) = (cursor.at, &self.outlived);
        match record::find(self.bytes, at + 1, self.seed) {
            Some((later_at, later))
                if later.batch >= cursor.batch
                    && later.batch <= outlived.batch + 1
                    && later.index <= outlived.applied + 1 =>
            {
                tracing::warn!(
                    "store: {} is damaged at byte {at}; the state holds what was there already",
                    self.path.display()
                );
                let want = Want::Exactly(later.index);
                Ok(Step::Skip(Cursor { at: later_at, batch: later.batch, want }, false))
            }
            _ => Err(self.bad(cursor, what)),
        }
    }

    fn bad(&self, cursor: Cursor, what: &str) -> Bad {
        let (offset, index) = (cursor.at, cursor.want.index());
        let highest = self.headers(offset).map(|(_, header)| header.index).max();
        let highest = highest.map_or(index, |seen| seen.max(index));
        Bad { offset, index, what: what.to_owned(), highest }
    }
}

/// The index that the log goes on with behind a record.
fn after(header: &Header) -> u64 {
    match header.kind {
        Kind::Hard => header.index,
        Kind::Entry(_) => header.index + 1,
    }
}

#[cfg(test)]
mod tests;
