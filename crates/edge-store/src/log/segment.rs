//! One segment file: its name, its first sector, and how it comes to be.
//!
//! A segment has its full length from the moment it has its name, so a shorter file was cut by
//! something else than a power failure.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::record::{SECTOR, checksum, is_blank};
use crate::command::Input;
use crate::env::sync_dir;
use crate::error::OpenError;

const MAGIC: [u8; 8] = *b"edgelog1";
const SUFFIX: &str = ".log";
const UNFINISHED: &str = ".new";

/// What the first sector of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store that it belongs to.
    pub(crate) store: u64,
    /// The index of its first record.
    pub(crate) first: u64,
    /// The file's length.
    pub(crate) length: u64,
}

impl SegmentHeader {
    fn encode(&self) -> [u8; SECTOR] {
        let mut out = [0; SECTOR];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.store.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.to_le_bytes());
        out[24..32].copy_from_slice(&self.length.to_le_bytes());
        let sum = checksum(0, &out[0..32]);
        out[32..36].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the first sector.
    pub(crate) fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let mut input = Input(bytes);
        let covered = bytes.get(0..32)?;
        if input.take(8)? != MAGIC {
            return None;
        }
        let (store, first, length) = (input.u64()?, input.u64()?, input.u64()?);
        (input.u32()? == checksum(0, covered)).then_some(SegmentHeader { store, first, length })
    }
}

/// The name of the segment that begins with entry `first`.
pub(crate) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SUFFIX}"))
}

/// The segments in a directory, in order: first index and path. Unfinished ones are removed.
pub(crate) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let failed = || OpenError::io("listing", dir);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if name.ends_with(UNFINISHED) {
            std::fs::remove_file(&path).map_err(OpenError::io("removing", &path))?;
        } else if let Some(first) = name.strip_suffix(SUFFIX).and_then(|text| text.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A segment's bytes up to its empty rest, and the file's length. What is left out is zeroes.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, u64), OpenError> {
    const CHUNK: usize = 64 * 1024;
    let failed = || OpenError::io("reading", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut chunk = vec![0; CHUNK];
    let (mut bytes, mut length) = (Vec::new(), 0);
    loop {
        let mut count = 0;
        while count < CHUNK {
            match file.read(&mut chunk[count..]) {
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

/// Makes a segment; it has its name only once all of it is durable.
pub(crate) fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader) -> io::Result<File> {
    let target = path(dir, header.first);
    let unfinished = target.with_extension("new");
    let made = fill(disk, &unfinished, header).and_then(|file| {
        std::fs::rename(&unfinished, &target)?;
        sync_dir(dir).map_err(|error| match error {
            OpenError::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        Ok(file)
    });
    if made.is_err() {
        // Gives the room back; if that fails too, the next start does it.
        let _ = std::fs::remove_file(&unfinished);
    }
    made
}

fn fill(disk: &dyn Disk, path: &Path, header: SegmentHeader) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    disk.allocate(&file, header.length)?;
    write_all(disk, &file, &header.encode(), 0)?;
    disk.sync(&file)?;
    Ok(file)
}

/// Writes all of `bytes`, however the disk splits it.
pub(crate) fn write_all(
    disk: &dyn Disk,
    file: &File,
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
