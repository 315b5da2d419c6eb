//! The log in front: segments of checksummed records, one write and one sync per batch.

pub(crate) mod disk;
mod read;
mod record;
mod recover;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edge_core::consensus::{HardState, Index, LogEntry};

use self::disk::{Disk, DiskFile};
use self::read::{Place, is_behind, read_segment};
use self::record::{Batch, SECTOR};
use self::recover::{Bad, Contents};
use self::segment::{NotMade, SegmentHeader, SegmentName};
use crate::error::{Damage, OpenError};

pub(crate) use self::record::bound;
pub(crate) use self::recover::Outlived;

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
    /// The segments; the last is the one that is written.
    segments: VecDeque<SegmentName>,
    file: DiskFile,
    size: u64,
    end: u64,
    /// The index after the last entry.
    next: Index,
    /// The number of the next batch.
    batch: u64,
    /// What a restart would find.
    hard: HardState,
    buffer: Vec<u8>,
    pub(crate) counters: Arc<Counters>,
}

/// Why a batch is not in the log.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// There is no room; no trace of it is left.
    Full(io::Error),
    /// The disk refused room that it had granted; no trace of the batch is left.
    Refused(io::Error),
    /// It may or may not be there; the log must not be used again.
    Failed(String),
}

/// What `recover` found.
pub(crate) enum Recovery {
    /// No segment at all.
    Absent,
    /// A whole log, and its entries after the state's index, committed or not.
    Whole(Log, Vec<LogEntry>),
    /// A damaged one, the entries before the damage, and the highest index seen in it.
    Damaged(Damage, Vec<LogEntry>, u64),
}

impl Log {
    /// Begins a log for the store `store` behind what the state has.
    pub(crate) fn create(config: LogConfig, store: u64, state: Outlived) -> Result<Log, OpenError> {
        let name = SegmentName { batch: state.batch + 1, next: state.applied + 1 };
        let header = SegmentHeader { store, name, length: config.segment_bytes };
        let path = segment::path(&config.dir, name);
        config.disk.make_dir(&config.dir).map_err(OpenError::io("creating", &config.dir))?;
        let file = segment::create(&*config.disk, &config.dir, header)
            .map_err(io::Error::from)
            .map_err(OpenError::io("creating", path))?;
        Ok(Log {
            size: config.segment_bytes,
            config,
            store,
            segments: VecDeque::from([name]),
            file,
            end: SECTOR as u64,
            next: name.next,
            batch: name.batch,
            hard: state.hard,
            buffer: Vec::new(),
            counters: Arc::default(),
        })
    }

    /// The store that the segments in a directory belong to, and the index that the first of them
    /// begins with; `None` without any.
    pub(crate) fn identify(config: &LogConfig) -> Result<Option<(u64, Index)>, OpenError> {
        let disk = &*config.disk;
        config.disk.make_dir(&config.dir).map_err(OpenError::io("creating", &config.dir))?;
        let listed = segment::list(disk, &config.dir)?;
        let Some((_, path)) = listed.into_iter().next() else { return Ok(None) };
        let (bytes, _) = segment::read(disk, &path)?;
        match SegmentHeader::decode(&bytes) {
            Some(header) => Ok(Some((header.store, header.name.next))),
            None => {
                let why = "no log segment that this version knows, and there is no state behind \
                           it; restore a snapshot into an empty directory";
                Err(OpenError::Foreign { path, why: why.to_owned() })
            }
        }
    }

    /// Reads the log back. `state` is what the state behind it has kept.
    pub(crate) fn recover(
        config: LogConfig,
        store: u64,
        state: Outlived,
    ) -> Result<Recovery, OpenError> {
        let disk = config.disk.clone();
        let mut segments = segment::list(&*disk, &config.dir)?;
        // Whatever a later segment begins behind of is in the state already.
        let needed = segments.iter().rposition(|(name, _)| is_behind(&state, *name)).unwrap_or(0);
        let behind: Vec<_> = segments.drain(..needed).collect();
        let Some((first, _)) = segments.first() else { return Ok(Recovery::Absent) };
        let mut contents = Contents::new(state, first.batch, first.next);
        let mut size = 0;
        for position in 0..segments.len() {
            let (name, path) = &segments[position];
            let proven = position + 1 < segments.len();
            let (bytes, length) = segment::read(&*disk, path)?;
            size = length;
            let place = Place { path, name: *name, state, proven, store, length };
            if let Err(bad) = read_segment(&place, &bytes, position == 0, &mut contents) {
                let damage = damage(&config.dir, path, &bad);
                let highest = segments.last().map_or(0, |(name, _)| name.next).max(bad.highest);
                return Ok(Recovery::Damaged(damage, contents.entries, highest));
            }
        }
        let (_, path) = &segments[segments.len() - 1];
        let file = disk.open(path, false).map_err(OpenError::io("opening", path))?;
        let log = Log {
            store,
            segments: segments.iter().map(|(name, _)| *name).collect(),
            file,
            size,
            end: contents.end as u64,
            next: contents.next,
            batch: contents.batch,
            hard: contents.hard,
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
        } else {
            // What a killed process had written need not be on the disk, and counts from here on.
            disk.sync(&log.file).map_err(OpenError::io("syncing", path))?;
        }
        disk.sync_dir(&log.config.dir).map_err(OpenError::io("syncing", &log.config.dir))?;
        for (_, path) in &behind {
            disk.remove(path).map_err(OpenError::io("removing", path))?;
        }
        Ok(Recovery::Whole(log, contents.entries))
    }

    /// Term, vote and commit as a restart would find them. The commit may be behind.
    pub(crate) fn hard(&self) -> HardState {
        self.hard
    }

    /// The number of the last batch that is durable.
    pub(crate) fn synced(&self) -> u64 {
        self.batch - 1
    }

    /// The index after the last entry.
    pub(crate) fn next(&self) -> Index {
        self.next
    }

    /// The bytes that batches can take before a new segment is needed.
    pub(crate) fn room(&self) -> u64 {
        self.size - self.end
    }

    /// Makes a batch durable: `entries`, contiguous, from `from` on, replace what the log has
    /// there. A commit that moved is not written alone: it is no promise to anybody.
    pub(crate) fn append(
        &mut self,
        hard: HardState,
        from: Option<Index>,
        entries: &[LogEntry],
    ) -> Result<(), AppendError> {
        let from = entries.first().map(|entry| entry.index).or(from).unwrap_or(self.next);
        let voted = (hard.term, hard.vote) != (self.hard.term, self.hard.vote);
        if !voted && entries.is_empty() && from >= self.next {
            return Ok(());
        }
        let new = (voted || entries.is_empty()).then_some(hard);
        let number = self.batch;
        let batch = Batch { number, hard: new, from, commit: hard.commit, entries };
        self.buffer.clear();
        record::encode_batch(&mut self.buffer, self.store, &batch);
        let length = self.buffer.len() as u64;
        if self.end + length > self.size {
            self.rotate(length)?;
        }
        let disk = &*self.config.disk;
        if let Err(error) = segment::write_all(disk, &self.file, &self.buffer, self.end) {
            // Part of the batch may lie there, whole enough to be taken for an entry later.
            return Err(match self.erase(length) {
                Ok(()) if is_full(&error) => AppendError::Refused(error),
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
        self.next = from + entries.len() as u64;
        self.batch += 1;
        self.hard = hard;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        Ok(())
    }

    /// Whether a commit of the state would let a segment go.
    pub(crate) fn has_old_segments(&self) -> bool {
        self.segments.len() > 1
    }

    /// Removes the segments that a commit of the state has outlived, except the one being written.
    pub(crate) fn forget(&mut self, state: &Outlived) -> io::Result<()> {
        while self.segments.len() > 1 && is_behind(state, self.segments[1]) {
            let path = segment::path(&self.config.dir, self.segments[0]);
            match self.config.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.segments.pop_front(),
            };
        }
        Ok(())
    }

    /// Makes sure that batches of `length` bytes in all can be appended.
    pub(crate) fn make_room(&mut self, length: u64) -> Result<(), AppendError> {
        if self.end + length > self.size { self.rotate(length) } else { Ok(()) }
    }

    /// Nothing more goes into this segment: what room it has left is not there.
    pub(crate) fn leave_segment(&mut self) {
        self.end = self.size;
    }

    /// Begins a new segment that has room for `length` bytes.
    fn rotate(&mut self, length: u64) -> Result<(), AppendError> {
        let size = self.config.segment_bytes.max(length + SECTOR as u64);
        let name = SegmentName { batch: self.batch, next: self.next };
        let disk = self.config.disk.clone();
        let failed =
            |error: io::Error| AppendError::Failed(format!("making a log segment: {error}"));
        if let Some(last) = self.segments.back().copied()
            && last.batch == self.batch
            && last != name
        {
            // Nothing was ever written to it: its first batch was refused, and comes changed.
            self.segments.pop_back();
            self.end = self.size;
            disk.remove(&segment::path(&self.config.dir, last)).map_err(failed)?;
            disk.sync_dir(&self.config.dir).map_err(failed)?;
        }
        let header = SegmentHeader { store: self.store, name, length: size };
        match segment::create(&*disk, &self.config.dir, header) {
            Ok(file) => {
                self.file = file;
                self.size = size;
                self.end = SECTOR as u64;
                if self.segments.back() != Some(&name) {
                    self.segments.push_back(name);
                }
                Ok(())
            }
            Err(NotMade::Unnamed(error)) if is_full(&error) => Err(AppendError::Full(error)),
            Err(NotMade::Unnamed(error) | NotMade::Unknown(error)) => Err(failed(error)),
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

fn damage(dir: &Path, file: &Path, bad: &Bad) -> Damage {
    Damage {
        file: file.to_owned(),
        offset: bad.offset as u64,
        index: bad.index,
        what: format!("found {}", bad.what),
        consent: consent_path(dir, bad.index),
        alone: true,
    }
}

fn consent_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("accept-loss-from-{index}"))
}

/// Renames the segments that begin before `first`, so that they are kept and not read again, and
/// removes the consent to do so.
pub(crate) fn set_aside(config: &LogConfig, first: Index, consent: &Path) -> Result<(), OpenError> {
    let disk = &*config.disk;
    for (name, path) in segment::list(disk, &config.dir)? {
        if name.next < first {
            let aside = path.with_extension("damaged");
            disk.rename(&path, &aside).map_err(OpenError::io("renaming", &path))?;
        }
    }
    disk.remove(consent).map_err(OpenError::io("removing", consent))?;
    disk.sync_dir(&config.dir).map_err(OpenError::io("syncing", &config.dir))
}

/// Removes the segments of the store `store`; answers how many of others are left.
pub(crate) fn remove_of(config: &LogConfig, store: u64) -> Result<usize, OpenError> {
    let disk = &*config.disk;
    let mut left = 0;
    for (_, path) in segment::list(disk, &config.dir)? {
        let (bytes, _) = segment::read(disk, &path)?;
        if SegmentHeader::decode(&bytes).is_some_and(|header| header.store == store) {
            disk.remove(&path).map_err(OpenError::io("removing", &path))?;
        } else {
            left += 1;
        }
    }
    disk.sync_dir(&config.dir).map_err(OpenError::io("syncing", &config.dir))?;
    Ok(left)
}

/// Whether the disk has no room, rather than a fault.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
        || error.kind() == io::ErrorKind::WriteZero
}

#[cfg(test)]
mod tests;
