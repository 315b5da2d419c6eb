//! The logical export: keys and values as records with checksums, for replication and backup.
//! LMDB files move neither between word sizes nor between page sizes; this does.
//!
//! `edgesnp1`, revision; per key its lengths, revision, bytes and their CRC32; then an end mark
//! with the number of keys and the CRC32 of everything before. Numbers are little-endian.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::entry::Revision;
use crate::env::{Env, Lock, sync_dir};
use crate::error::{OpenError, SnapshotError};
use crate::limits::{KEY_BYTES_MAX, OVERLAY_BYTES_SOFT, SEGMENT_BYTES, VALUE_BYTES_MAX};
use crate::log::disk::RealDisk;
use crate::log::{Log, LogConfig};
use crate::read;
use crate::store::{Shared, fresh_id};

const MAGIC: &[u8; 8] = b"edgesnp1";
/// Lies in a directory while it is restored into.
pub(crate) const UNFINISHED: &str = "restoring";
const END: u32 = u32::MAX;
/// A stamped revision may make a stored value a little longer than a proposed one.
const STAMP_MAX: usize = 20;

/// Writes the newest revision of everything.
pub(crate) fn write(shared: &Shared, out: &mut dyn Write) -> Result<Revision, SnapshotError> {
    let out = std::cell::RefCell::new(Summed { inner: out, sum: crc32fast::Hasher::new() });
    let mut count = 0u64;
    let revision = read::visit(
        shared,
        |revision| {
            let mut out = out.borrow_mut();
            out.put(MAGIC)?;
            out.put(&revision.to_le_bytes())
        },
        |key, revision, value| {
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
    Ok(revision)
}

/// Makes a store in the empty or absent directory `dir` from a snapshot, and answers its revision.
/// What is left of an interrupted restore does not open.
pub fn restore(dir: &Path, input: &mut dyn Read) -> Result<Revision, SnapshotError> {
    let target = SnapshotError::Target;
    let log_dir = dir.join("log");
    fs::create_dir_all(dir).map_err(OpenError::io("creating", dir)).map_err(target)?;
    let mut listing = fs::read_dir(dir).map_err(OpenError::io("listing", dir)).map_err(target)?;
    if listing.next().is_some() {
        let why = "not empty; restore into an empty directory".to_owned();
        return Err(target(OpenError::Foreign { path: dir.to_owned(), why }));
    }
    let marker = dir.join(UNFINISHED);
    fs::write(&marker, b"").map_err(OpenError::io("creating", &marker)).map_err(target)?;
    fs::create_dir(&log_dir).map_err(OpenError::io("creating", &log_dir)).map_err(target)?;
    let lock = Lock::take(dir).map_err(target)?;
    let env = Env::open(dir, lock).map_err(target)?;
    let failed = |error| SnapshotError::Target(OpenError::State(error));
    let id = fresh_id().map_err(target)?;
    let mut reader = Reader { inner: input, sum: crc32fast::Hasher::new(), offset: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(reader.corrupt("it does not begin as a snapshot does"));
    }
    let revision = reader.u64()?;
    let (mut entries, mut bytes, mut count) = (Vec::new(), 0, 0);
    while let Some((key, at, value)) = reader.record(revision)? {
        bytes += key.len() + value.len();
        count += 1;
        entries.push((key, at, value));
        if bytes >= OVERLAY_BYTES_SOFT {
            env.fill(&entries).map_err(failed)?;
            (entries, bytes) = (Vec::new(), 0);
        }
    }
    reader.end(count)?;
    env.fill(&entries).map_err(failed)?;
    env.initialise(id, revision).map_err(target)?;
    let config = LogConfig { dir: log_dir, disk: Arc::new(RealDisk), segment_bytes: SEGMENT_BYTES };
    Log::create(config, id, revision + 1).map_err(target)?;
    fs::remove_file(&marker).map_err(OpenError::io("removing", &marker)).map_err(target)?;
    sync_dir(dir).map_err(target)?;
    Ok(revision)
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

struct Reader<'a> {
    inner: &'a mut dyn Read,
    sum: crc32fast::Hasher,
    offset: u64,
}

impl Reader<'_> {
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

    fn record(
        &mut self,
        newest: Revision,
    ) -> Result<Option<(String, Revision, Vec<u8>)>, SnapshotError> {
        let key_length = self.u32()?;
        if key_length == END {
            return Ok(None);
        }
        let (value_length, revision) = (self.u32()?, self.u64()?);
        let (key_length, value_length) = (key_length as usize, value_length as usize);
        if !(1..=KEY_BYTES_MAX).contains(&key_length)
            || value_length > VALUE_BYTES_MAX + STAMP_MAX
            || revision > newest
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

    fn end(&mut self, count: u64) -> Result<(), SnapshotError> {
        if self.u64()? != count {
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
