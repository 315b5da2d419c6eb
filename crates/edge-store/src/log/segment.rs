//! One segment file: its name, its first sector, and how it comes to be.
//!
//! A segment has its full length from the moment it has its name, so a shorter file was cut by
//! something else than a power failure. Its name has the number of its first batch and the index
//! that the log went on with when it was made; batches are numbered on when the log is truncated,
//! so names are never given twice.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::record::{SECTOR, checksum, is_blank};
use crate::command::Input;
use crate::error::OpenError;

const MAGIC: [u8; 8] = *b"edgelog2";
const MAGIC_FORMER: [u8; 8] = *b"edgelog1";
const SUFFIX: &str = ".log";
const UNFINISHED: &str = ".new";

/// What the first sector of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store that it belongs to.
    pub(crate) store: u64,
    /// Where it stands in the log.
    pub(crate) name: SegmentName,
    /// The file's length.
    pub(crate) length: u64,
}

/// Where a segment stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// The number of its first batch.
    pub(crate) batch: u64,
    /// The index after the log's last entry when it was made.
    pub(crate) next: u64,
}

impl SegmentHeader {
    fn encode(&self) -> [u8; SECTOR] {
        let mut out = [0; SECTOR];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.store.to_le_bytes());
        out[16..24].copy_from_slice(&self.name.batch.to_le_bytes());
        out[24..32].copy_from_slice(&self.name.next.to_le_bytes());
        out[32..40].copy_from_slice(&self.length.to_le_bytes());
        let sum = checksum(0, &out[0..40]);
        out[40..44].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the first sector.
    pub(crate) fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let mut input = Input(bytes);
        let covered = bytes.get(0..40)?;
        if input.take(8)? != MAGIC {
            return None;
        }
        let (store, batch, next, length) = (input.u64()?, input.u64()?, input.u64()?, input.u64()?);
        let name = SegmentName { batch, next };
        (input.u32()? == checksum(0, covered)).then_some(SegmentHeader { store, name, length })
    }
}

/// Whether a first sector is one that edged wrote before its log was replicated.
pub(crate) fn is_former(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC_FORMER)
}

/// The path of a segment.
pub(crate) fn path(dir: &Path, name: SegmentName) -> PathBuf {
    dir.join(format!("{:020}-{}{SUFFIX}", name.batch, name.next))
}

fn parse(file: &str) -> Option<SegmentName> {
    let (batch, next) = file.strip_suffix(SUFFIX)?.split_once('-')?;
    Some(SegmentName { batch: batch.parse().ok()?, next: next.parse().ok()? })
}

/// The segments in a directory, in order. Unfinished ones are removed; one of a former version is
/// refused.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<(SegmentName, PathBuf)>, OpenError> {
    let mut found = Vec::new();
    for path in disk.list(dir).map_err(OpenError::io("listing", dir))? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if name.ends_with(UNFINISHED) {
            disk.remove(&path).map_err(OpenError::io("removing", &path))?;
        } else if let Some(name) = parse(&name) {
            found.push((name, path));
        } else if name.ends_with(SUFFIX) {
            let (bytes, _) = read(disk, &path)?;
            if is_former(&bytes) {
                let why = "the log of an earlier version, from before boards formed clusters; \
                           save its objects with that version, then start with an empty directory";
                return Err(OpenError::Foreign { path, why: why.to_owned() });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A segment's bytes up to its empty rest, and the file's length. What is left out is zeroes.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<(Vec<u8>, u64), OpenError> {
    const CHUNK: usize = 64 * 1024;
    let failed = || OpenError::io("reading", path);
    let file = disk.open(path, false).map_err(failed())?;
    let mut chunk = vec![0; CHUNK];
    let (mut bytes, mut length) = (Vec::new(), 0);
    loop {
        let mut count = 0;
        while count < CHUNK {
            match disk.read_at(&file, &mut chunk[count..], length + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        if count == 0 {
            return Ok((bytes, length));
        }
        if !is_blank(&chunk[..count]) {
            bytes.resize(length as usize, 0);
            bytes.extend_from_slice(&chunk[..count]);
        }
        length += count as u64;
    }
}

/// Why there is no new segment.
#[derive(Debug)]
pub(crate) enum NotMade {
    /// Nothing has its name that had not before.
    Unnamed(io::Error),
    /// It may have its name, now or after the next start.
    Unknown(io::Error),
}

impl From<NotMade> for io::Error {
    fn from((NotMade::Unnamed(error) | NotMade::Unknown(error)): NotMade) -> io::Error {
        error
    }
}

/// Makes a segment; it has its name only once all of it is durable.
pub(crate) fn create(
    disk: &dyn Disk,
    dir: &Path,
    header: SegmentHeader,
) -> Result<DiskFile, NotMade> {
    let target = path(dir, header.name);
    let unfinished = target.with_extension("new");
    let made = fill(disk, &unfinished, header)
        .and_then(|file| disk.rename(&unfinished, &target).map(|()| file.renamed(&target)));
    let file = made.map_err(|error| {
        // Gives the room back; if that fails too, the next start does it.
        let _ = disk.remove(&unfinished);
        NotMade::Unnamed(error)
    })?;
    disk.sync_dir(dir).map_err(NotMade::Unknown)?;
    Ok(file)
}

fn fill(disk: &dyn Disk, path: &Path, header: SegmentHeader) -> io::Result<DiskFile> {
    let file = disk.open(path, true)?;
    disk.allocate(&file, header.length)?;
    write_all(disk, &file, &header.encode(), 0)?;
    disk.sync(&file)?;
    Ok(file)
}

/// Writes all of `bytes`, however the disk splits it.
pub(crate) fn write_all(
    disk: &dyn Disk,
    file: &DiskFile,
    mut bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.write_at(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
