//! The logical export: keys and values as records with checksums, for replication and backup.
//! LMDB files move neither between word sizes nor between page sizes; this does.
//!
//! `edgesnp2`, index, term, the members, the CRC32 of these; per key its lengths, revision, bytes
//! and their CRC32; then an end mark with the number of keys and the CRC32 of everything before.
//! Numbers are little-endian.

use std::io::{self, Read, Write};

use edge_core::consensus::{Members, Mutant, mutant};

use crate::entry::Revision;
use crate::error::SnapshotError;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::machine::Head;
use crate::read;
use crate::shared::Shared;

const MAGIC: &[u8; 8] = b"edgesnp2";
const END: u32 = u32::MAX;
/// A stamped revision may make a stored value a little longer than a proposed one.
const STAMP_MAX: usize = 20;
/// Sixty-four members with long names and addresses fit.
const MEMBERS_BYTES_MAX: usize = 64 * 1024;

/// Writes the newest revision of everything; answers that, and the number of keys.
pub(crate) fn write(
    shared: &Shared,
    out: &mut dyn Write,
) -> Result<(Revision, u64), SnapshotError> {
    let out = std::cell::RefCell::new(Summed { inner: out, sum: crc32fast::Hasher::new() });
    let mut count = 0u64;
    let tail = std::cell::Cell::new(0);
    let revision = read::visit(
        shared,
        |head| {
            let mut out = out.borrow_mut();
            tail.set(head.index);
            out.put(MAGIC)?;
            let members = head.members.encode();
            let mut bytes = head.index.to_le_bytes().to_vec();
            bytes.extend_from_slice(&head.term.to_le_bytes());
            bytes.extend_from_slice(&(members.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&members);
            out.put(&bytes)?;
            out.put(&record_sum(&bytes, &[]).to_le_bytes())
        },
        |key, revision, value| {
            if mutant(Mutant::SnapshotWithoutTail) && revision == tail.get() {
                return Ok(());
            }
            let mut out = out.borrow_mut();
            let mut head = Vec::with_capacity(16 + key.len());
            head.extend_from_slice(&(key.len() as u32).to_le_bytes());
            head.extend_from_slice(&(value.len() as u32).to_le_bytes());
            head.extend_from_slice(&revision.to_le_bytes());
            head.extend_from_slice(key.as_bytes());
            out.put(&head)?;
            out.put(value)?;
            count += 1;
            out.put(&record_sum(&head, value).to_le_bytes())
        },
    )?;
    let mut out = out.into_inner();
    out.put(&END.to_le_bytes())?;
    out.put(&count.to_le_bytes())?;
    let sum = out.sum.clone().finalize();
    out.put(&sum.to_le_bytes())?;
    out.inner.flush().map_err(SnapshotError::Write)?;
    Ok((revision, count))
}

fn record_sum(head: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(value);
    hasher.finalize()
}

struct Summed<'a> {
    inner: &'a mut dyn Write,
    sum: crc32fast::Hasher,
}

impl Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.sum.update(bytes);
        self.inner.write_all(bytes).map_err(SnapshotError::Write)
    }
}

/// One object of a snapshot: key, revision and value.
pub(crate) type Record = (String, Revision, Vec<u8>);

/// Reads a snapshot, and believes nothing that its checksums do not prove.
pub(crate) struct Reader<'a> {
    inner: &'a mut dyn Read,
    sum: crc32fast::Hasher,
    offset: u64,
    count: u64,
    newest: Revision,
}

impl<'a> Reader<'a> {
    /// Reads what the snapshot is of.
    pub(crate) fn begin(inner: &'a mut dyn Read) -> Result<(Reader<'a>, Head), SnapshotError> {
        let sum = crc32fast::Hasher::new();
        let mut reader = Reader { inner, sum, offset: 0, count: 0, newest: 0 };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(reader.corrupt("it does not begin as a snapshot of this version does"));
        }
        let mut bytes = reader.take(20)?;
        let number = |at: usize| {
            bytes[at..].first_chunk::<8>().map_or(0, |number| u64::from_le_bytes(*number))
        };
        let (index, term) = (number(0), number(8));
        let length = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) as usize;
        if length > MEMBERS_BYTES_MAX {
            return Err(reader.corrupt("a list of members that can't be"));
        }
        let members = reader.take(length)?;
        bytes.extend_from_slice(&members);
        if reader.u32()? != record_sum(&bytes, &[]) {
            return Err(reader.corrupt("a head that changed"));
        }
        let Some(members) = Members::decode(&members) else {
            return Err(reader.corrupt("a list of members that this version does not know"));
        };
        reader.newest = index;
        Ok((reader, Head { index, term, members }))
    }

    /// The next record; `None` at the end, which proves that everything was there.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, SnapshotError> {
        match self.record()? {
            Some(record) => {
                self.count += 1;
                Ok(Some(record))
            }
            None => self.end().map(|()| None),
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; count];
        self.inner.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt("it ends too early"),
            _ => SnapshotError::Input(error),
        })?;
        self.sum.update(&bytes);
        self.offset += count as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        let (low, high) = (self.u32()?, self.u32()?);
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn record(&mut self) -> Result<Option<Record>, SnapshotError> {
        let key_length = self.u32()?;
        if key_length == END {
            return Ok(None);
        }
        let (value_length, revision) = (self.u32()?, self.u64()?);
        let (key_length, value_length) = (key_length as usize, value_length as usize);
        if !(1..=KEY_BYTES_MAX).contains(&key_length)
            || value_length > VALUE_BYTES_MAX + STAMP_MAX
            || revision > self.newest
        {
            return Err(self.corrupt("a record that can't be"));
        }
        let (key, value) = (self.take(key_length)?, self.take(value_length)?);
        let mut head = (key_length as u32).to_le_bytes().to_vec();
        head.extend_from_slice(&(value_length as u32).to_le_bytes());
        head.extend_from_slice(&revision.to_le_bytes());
        head.extend_from_slice(&key);
        if self.u32()? != record_sum(&head, &value) {
            return Err(self.corrupt("a record that changed"));
        }
        let key = String::from_utf8(key).map_err(|_| self.corrupt("a key that is no text"))?;
        Ok(Some((key, revision, value)))
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
        if self.u64()? != self.count {
            return Err(self.corrupt("not as many records as it says"));
        }
        let sum = self.sum.clone().finalize();
        if self.u32()? != sum {
            return Err(self.corrupt("its checksum"));
        }
        Ok(())
    }

    fn corrupt(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Corrupt { offset: self.offset, what }
    }
}
