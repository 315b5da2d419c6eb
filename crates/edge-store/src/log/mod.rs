//! The log in front: segments of checksummed records, one write and one sync per batch.

pub(crate) mod disk;
mod record;
mod recover;
mod segment;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::disk::Disk;
use self::record::SECTOR;
use self::recover::{Bad, Contents, Reader};
use self::segment::SegmentHeader;
use crate::command::Command;
use crate::env::sync_dir;
use crate::error::{Damage, OpenError};

pub(crate) use self::recover::LogEntry;

/// The encoding buffer gives back what it holds above this.
const BUFFER_KEPT: usize = 64 * 1024;

/// What the log has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
}

/// How the log is kept.
#[derive(Clone)]
pub(crate) struct LogConfig {
    /// Where its segments are.
    pub(crate) dir: PathBuf,
    /// What makes them durable.
    pub(crate) disk: Arc<dyn Disk>,
    /// How large they are.
    pub(crate) segment_bytes: u64,
}

/// The open log.
pub(crate) struct Log {
    config: LogConfig,
    store: u64,
    /// The first index of every segment; the last is the one that is written.
    segments: VecDeque<u64>,
    file: File,
    size: u64,
    end: u64,
    next: u64,
    buffer: Vec<u8>,
    pub(crate) counters: Arc<Counters>,
}

/// Why a batch is not in the log.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// There is no room; no trace of it is left.
    Full(io::Error),
    /// It may or may not be there; the log must not be used again.
    Failed(String),
}

/// What `recover` found.
pub(crate) enum Recovery {
    /// No segment at all.
    Absent,
    /// A whole log, and its entries after the state's index.
    Whole(Log, Vec<LogEntry>),
    /// A damaged one, the entries before the damage, and the highest index seen in it.
    Damaged(Damage, Vec<LogEntry>, u64),
}

impl Log {
    /// Begins a log for the store `store` with the entry `first`.
    pub(crate) fn create(config: LogConfig, store: u64, first: u64) -> Result<Log, OpenError> {
        let header = SegmentHeader { store, first, length: config.segment_bytes };
        let path = segment::path(&config.dir, first);
        let file = segment::create(&*config.disk, &config.dir, header)
            .map_err(OpenError::io("creating", path))?;
        Ok(Log {
            size: config.segment_bytes,
            config,
            store,
            segments: VecDeque::from([first]),
            file,
            end: SECTOR as u64,
            next: first,
            buffer: Vec::new(),
            counters: Arc::default(),
        })
    }

    /// The store that the segments in `dir` belong to, and the first index; `None` without any.
    pub(crate) fn identify(dir: &Path) -> Result<Option<(u64, u64)>, OpenError> {
        let Some((_, path)) = segment::list(dir)?.into_iter().next() else { return Ok(None) };
        let (bytes, _) = segment::read(&path)?;
        match SegmentHeader::decode(&bytes) {
            Some(header) => Ok(Some((header.store, header.first))),
            None => {
                let why = "no log segment that this version knows, and there is no state behind \
                           it; restore a snapshot into an empty directory";
                Err(OpenError::Foreign { path, why: why.to_owned() })
            }
        }
    }

    /// Reads the log back. `applied` is the index that the state behind it holds.
    pub(crate) fn recover(
        config: LogConfig,
        store: u64,
        applied: u64,
    ) -> Result<Recovery, OpenError> {
        let mut segments = segment::list(&config.dir)?;
        if segments.is_empty() {
            return Ok(Recovery::Absent);
        }
        // Whatever a later segment begins behind of is in the state already.
        let needed = segments.iter().rposition(|(first, _)| *first <= applied + 1).unwrap_or(0);
        let behind: Vec<_> = segments.drain(..needed).collect();
        let mut contents = Contents { next: applied + 1, ..Contents::default() };
        let mut size = 0;
        for position in 0..segments.len() {
            let (first, path) = &segments[position];
            let proven = position + 1 < segments.len();
            let (bytes, length) = segment::read(path)?;
            size = length;
            let place = Place { path, first: *first, applied, proven, store, length };
            if let Err(bad) = read_segment(&place, &bytes, position == 0, &mut contents) {
                let damage = damage(&config.dir, path, &bad);
                let highest = segments.last().map_or(0, |(first, _)| *first).max(bad.highest);
                return Ok(Recovery::Damaged(damage, contents.entries, highest));
            }
        }
        let (_, path) = &segments[segments.len() - 1];
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(OpenError::io("opening", path))?;
        let log = Log {
            store,
            segments: segments.iter().map(|(first, _)| *first).collect(),
            file,
            size,
            end: contents.end as u64,
            next: contents.next,
            buffer: Vec::new(),
            counters: Arc::default(),
            config,
        };
        if contents.torn {
            tracing::warn!(
                "store: cutting the unacknowledged remains of a batch off {} at byte {}",
                path.display(),
                log.end
            );
            log.erase(log.size - log.end).map_err(OpenError::io("erasing the end of", path))?;
        }
        for (_, path) in &behind {
            std::fs::remove_file(path).map_err(OpenError::io("removing", path))?;
        }
        Ok(Recovery::Whole(log, contents.entries))
    }

    /// Appends one batch: when this returns, it is durable. Answers the first entry's index.
    pub(crate) fn append(&mut self, term: u64, commands: &[&Command]) -> Result<u64, AppendError> {
        let first = self.next;
        self.buffer.clear();
        record::encode_batch(&mut self.buffer, self.store, term, first, commands);
        let length = self.buffer.len() as u64;
        if self.end + length > self.size {
            self.rotate(length)?;
        }
        let disk = &*self.config.disk;
        if let Err(error) = segment::write_all(disk, &self.file, &self.buffer, self.end) {
            // Part of the batch may lie there, whole enough to be taken for an entry later.
            return Err(match self.erase(length) {
                Ok(()) if is_full(&error) => AppendError::Full(error),
                Ok(()) => AppendError::Failed(format!("writing the log: {error}")),
                Err(second) => AppendError::Failed(format!(
                    "writing the log: {error}; and erasing the rest: {second}"
                )),
            });
        }
        disk.sync(&self.file)
            .map_err(|error| AppendError::Failed(format!("syncing the log: {error}")))?;
        self.counters.bytes.fetch_add(length, Ordering::Relaxed);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.end += length;
        self.next += commands.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        Ok(first)
    }

    /// Whether a commit of the state would let a segment go.
    pub(crate) fn has_old_segments(&self) -> bool {
        self.segments.len() > 1
    }

    /// Removes the segments whose entries are all in the state, except the one being written.
    pub(crate) fn forget(&mut self, committed: u64) -> io::Result<()> {
        while self.segments.len() > 1 && self.segments[1] <= committed + 1 {
            match std::fs::remove_file(segment::path(&self.config.dir, self.segments[0])) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.segments.pop_front(),
            };
        }
        Ok(())
    }

    /// Begins a new segment that has room for `length` bytes.
    fn rotate(&mut self, length: u64) -> Result<(), AppendError> {
        let size = self.config.segment_bytes.max(length + SECTOR as u64);
        let header = SegmentHeader { store: self.store, first: self.next, length: size };
        match segment::create(&*self.config.disk, &self.config.dir, header) {
            Ok(file) => {
                self.file = file;
                self.size = size;
                self.end = SECTOR as u64;
                // The first batch of a segment may have been refused, and come again.
                if self.segments.back() != Some(&self.next) {
                    self.segments.push_back(self.next);
                }
                Ok(())
            }
            Err(error)
                if is_full(&error) && !segment::path(&self.config.dir, self.next).exists() =>
            {
                Err(AppendError::Full(error))
            }
            Err(error) => Err(AppendError::Failed(format!("making a log segment: {error}"))),
        }
    }

    /// Writes zeroes over the next `length` bytes, durably.
    fn erase(&self, length: u64) -> io::Result<()> {
        let disk = &*self.config.disk;
        let zeroes = vec![0; length.min(BUFFER_KEPT as u64) as usize];
        let mut done = 0;
        while done < length {
            let part = &zeroes[..(length - done).min(zeroes.len() as u64) as usize];
            segment::write_all(disk, &self.file, part, self.end + done)?;
            done += part.len() as u64;
        }
        disk.sync(&self.file)
    }
}

/// Where a segment stands among its kind.
struct Place<'a> {
    path: &'a Path,
    first: u64,
    applied: u64,
    proven: bool,
    store: u64,
    length: u64,
}

fn read_segment(
    place: &Place<'_>,
    bytes: &[u8],
    oldest: bool,
    contents: &mut Contents,
) -> Result<(), Bad> {
    let index = contents.next;
    let bad = |what: &str, offset: usize| {
        Err(Bad { offset, index, what: what.to_owned(), highest: index })
    };
    let header = match SegmentHeader::decode(bytes) {
        Some(header) => header,
        None => return bad("a first sector that changed", 0),
    };
    if header.store != place.store {
        return bad("a segment of another store", 0);
    }
    let gap = if oldest { place.first > index } else { place.first != index };
    if header.first != place.first || gap {
        return bad(&format!("a segment that begins with entry {}", header.first), 0);
    }
    let reader = Reader {
        bytes,
        path: place.path,
        seed: place.store,
        first: place.first,
        applied: place.applied,
        proven: place.proven,
    };
    let read = reader.read(contents);
    if place.length < header.length {
        let what = format!("the file's end, where {} bytes should be", header.length);
        let highest = read.map_or_else(|bad| bad.highest, |()| contents.next);
        return Err(Bad { offset: place.length as usize, index: contents.next, what, highest });
    }
    read
}

fn damage(dir: &Path, file: &Path, bad: &Bad) -> Damage {
    Damage {
        file: file.to_owned(),
        offset: bad.offset as u64,
        index: bad.index,
        what: format!("found {}", bad.what),
        consent: consent_path(dir, bad.index),
    }
}

fn consent_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("accept-loss-from-{index}"))
}

/// Renames the segments before `first`, so that they are kept and not read again, and removes
/// the consent to do so.
pub(crate) fn set_aside(dir: &Path, first: u64, consent: &Path) -> Result<(), OpenError> {
    for (index, path) in segment::list(dir)? {
        if index < first {
            let aside = path.with_extension("damaged");
            std::fs::rename(&path, &aside).map_err(OpenError::io("renaming", &path))?;
        }
    }
    std::fs::remove_file(consent).map_err(OpenError::io("removing", consent))?;
    sync_dir(dir)
}

/// Whether the disk has no room, rather than a fault.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
        || error.kind() == io::ErrorKind::WriteZero
}
