//! How a record lies in a segment, and how a missing one is told from a damaged one.
//!
//! A batch is what one write and one sync made durable. It begins on a sector; its records lie
//! behind each other, the last one is marked. A header never straddles two sectors and a record
//! ends in a few filler bytes, so under the assumption that a disk writes a sector whole or not
//! at all, every sector that belongs to a record holds something other than zeroes, and a sector
//! of zeroes inside a record was never written. A write that a full disk or a kill cut short
//! leaves zeroes from some byte on, and so no fillers.

use edge_core::consensus::{EntryKind, HardState, LogEntry};

use crate::command::Input;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// The size of a record's header.
pub(crate) const HEADER: usize = 48;
/// Records begin on multiples of this.
const ALIGN: usize = 16;
const FILLER: u8 = 0xee;
const FILLER_MIN: usize = 8;
const MAGIC: u32 = 0x9c3a_71e5;
const LAST: u32 = 1;
const KIND_SHIFT: u32 = 8;
const BEHIND_UNKNOWN: u32 = u32::MAX;
/// What a record may take beside its bytes: header, fillers, and room lost at a sector's end.
const RECORD_OVERHEAD: u64 = (HEADER + FILLER_MIN + ALIGN + HEADER) as u64;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry of the replicated log.
    Entry(EntryKind),
    /// The member's own term and vote. The log goes on with the record's index.
    Hard,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::Entry(EntryKind::Command) => 0,
            Kind::Entry(EntryKind::Members) => 1,
            Kind::Hard => 2,
        }
    }

    fn from_number(number: u32) -> Option<Kind> {
        match number {
            0 => Some(Kind::Entry(EntryKind::Command)),
            1 => Some(Kind::Entry(EntryKind::Members)),
            2 => Some(Kind::Hard),
            _ => None,
        }
    }
}

/// What stands before a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The length of the bytes that follow.
    pub(crate) length: u32,
    /// Their checksum.
    pub(crate) checksum: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// The entry's index: it ends the log that was before there. A batch may so begin anew at an
    /// index that an earlier one had.
    pub(crate) index: u64,
    /// The term of the leader that made the entry; of a hard state, its own.
    pub(crate) term: u64,
    /// The number of its batch; batches are numbered without gaps.
    pub(crate) batch: u64,
    /// How far behind `index` the last entry is that was known to be committed.
    pub(crate) behind: u32,
    /// Whether it ends its batch.
    pub(crate) last: bool,
}

/// What is found where a record is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing was ever written here.
    Blank,
    /// Something was written, and it is no header any more.
    Bad,
    /// A header.
    Valid(Header),
}

impl Header {
    fn encode(&self, seed: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let flags = (self.kind.number() << KIND_SHIFT) | if self.last { LAST } else { 0 };
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        out[12..16].copy_from_slice(&self.length.to_le_bytes());
        out[16..20].copy_from_slice(&flags.to_le_bytes());
        out[20..24].copy_from_slice(&self.behind.to_le_bytes());
        out[24..32].copy_from_slice(&self.index.to_le_bytes());
        out[32..40].copy_from_slice(&self.term.to_le_bytes());
        out[40..48].copy_from_slice(&self.batch.to_le_bytes());
        let sum = checksum(seed, &out[8..]);
        out[4..8].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], seed: u64) -> Option<Header> {
        let mut input = Input(bytes);
        let (magic, sum, body) = (input.u32()?, input.u32()?, input.0);
        if magic != MAGIC || sum != checksum(seed, body) {
            return None;
        }
        let (checksum, length) = (input.u32()?, input.u32()?);
        let (flags, behind) = (input.u32()?, input.u32()?);
        let (index, term, batch) = (input.u64()?, input.u64()?, input.u64()?);
        let (kind, last) = (Kind::from_number(flags >> KIND_SHIFT)?, flags & LAST != 0);
        Some(Header { length, checksum, kind, index, term, batch, behind, last })
    }

    /// The last entry that was known to be committed when this was written; 0 if none was.
    pub(crate) fn commit(&self) -> u64 {
        match self.behind {
            BEHIND_UNKNOWN => 0,
            behind => self.index.saturating_sub(u64::from(behind)),
        }
    }

    /// Where the bytes end of the record whose header is at `at`, fillers included.
    pub(crate) fn end(&self, at: usize) -> usize {
        (at + HEADER + self.length as usize + FILLER_MIN).next_multiple_of(ALIGN)
    }

    /// Where the next record's header is, if this one's is at `at`.
    pub(crate) fn next(&self, at: usize) -> usize {
        let end = self.end(at);
        if self.last { end.next_multiple_of(SECTOR) } else { place(end) }
    }
}

/// Looks for a header at `at`.
pub(crate) fn slot(bytes: &[u8], at: usize, seed: u64) -> Slot {
    let Some(found) = bytes.get(at..at + HEADER) else { return Slot::Blank };
    if let Some(header) = Header::decode(found, seed) {
        return Slot::Valid(header);
    }
    // A flipped bit in the empty rest of a segment is no header that went bad.
    let magic = u32::from_le_bytes([found[0], found[1], found[2], found[3]]);
    let set = found.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let blank = magic.count_ones() < (magic ^ MAGIC).count_ones() && set < 8;
    if blank { Slot::Blank } else { Slot::Bad }
}

/// The record's bytes, if they are what was written.
pub(crate) fn payload<'a>(
    bytes: &'a [u8],
    at: usize,
    header: &Header,
    seed: u64,
) -> Option<&'a [u8]> {
    let start = at + HEADER;
    let payload = bytes.get(start..start + header.length as usize)?;
    (checksum(seed, payload) == header.checksum).then_some(payload)
}

/// The first valid header at or after `from`.
pub(crate) fn find(bytes: &[u8], from: usize, seed: u64) -> Option<(usize, Header)> {
    let first = MAGIC.to_le_bytes();
    (from.next_multiple_of(ALIGN)..bytes.len().saturating_sub(HEADER - 1))
        .step_by(ALIGN)
        .filter(|at| bytes[*at..*at + 4] == first)
        .find_map(|at| Header::decode(&bytes[at..at + HEADER], seed).map(|header| (at, header)))
}

/// Whether part of the record whose header is at `at` was never written: its end, if a write
/// stopped, or any whole sector, if the power did.
pub(crate) fn is_torn(bytes: &[u8], at: usize, header: &Header) -> bool {
    let end = header.end(at);
    // Behind `bytes` there are only zeroes.
    if bytes.get(end - FILLER_MIN..end).is_none_or(is_blank) {
        return true;
    }
    let mut from = (at + 1).next_multiple_of(SECTOR);
    while from < end {
        let to = (from + SECTOR).min(end);
        if is_blank(&bytes[from..to]) {
            return true;
        }
        from = to;
    }
    false
}

/// Whether nothing was ever written there.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What one write and one sync make durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    /// Its number.
    pub(crate) number: u64,
    /// Term and vote, if they changed.
    pub(crate) hard: Option<HardState>,
    /// The index that the log goes on with.
    pub(crate) from: u64,
    /// The last entry that is known to be committed.
    pub(crate) commit: u64,
    /// The entries, contiguous, beginning with `from`.
    pub(crate) entries: &'a [LogEntry],
}

/// The most bytes that a batch of entries with these lengths takes.
pub(crate) fn bound(lengths: impl Iterator<Item = usize>) -> u64 {
    let records = lengths.map(|length| length as u64 + RECORD_OVERHEAD).sum::<u64>();
    records + 2 * RECORD_OVERHEAD + SECTOR as u64
}

/// Appends a batch, which has a hard state or entries. `out` is empty and lands on a sector.
pub(crate) fn encode_batch(out: &mut Vec<u8>, seed: u64, batch: &Batch<'_>) {
    let vote = batch.hard.map(|hard| hard.vote.to_le_bytes());
    let hard = batch
        .hard
        .iter()
        .zip(&vote)
        .map(|(hard, vote)| (Kind::Hard, batch.from, hard.term, &vote[..]));
    let entries = batch
        .entries
        .iter()
        .map(|entry| (Kind::Entry(entry.kind), entry.index, entry.term, &entry.data[..]));
    let mut left = hard.len() + entries.len();
    for (kind, index, term, data) in hard.chain(entries) {
        left -= 1;
        let at = place(out.len());
        out.resize(at + HEADER, 0);
        out.extend_from_slice(data);
        let behind = u32::try_from(index.saturating_sub(batch.commit));
        let header = Header {
            length: data.len() as u32,
            checksum: checksum(seed, data),
            kind,
            index,
            term,
            batch: batch.number,
            behind: if batch.commit == 0 {
                BEHIND_UNKNOWN
            } else {
                behind.unwrap_or(BEHIND_UNKNOWN)
            },
            last: left == 0,
        };
        out[at..at + HEADER].copy_from_slice(&header.encode(seed));
        out.resize(header.end(at), FILLER);
    }
    out.resize(out.len().next_multiple_of(SECTOR), 0);
}

/// Where a header can stand at or after `end`.
fn place(end: usize) -> usize {
    let at = end.next_multiple_of(ALIGN);
    if at % SECTOR > SECTOR - HEADER { at.next_multiple_of(SECTOR) } else { at }
}

/// CRC32 that only this store's files agree with, so that nothing else looks like a record.
pub(crate) fn checksum(seed: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}
