//! A disk with a write-back cache: what is written may be lost until a flush has ended, and it
//! remembers everything that was asked of it, in order.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// Something that changed what the disk holds, or what of it is durable.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes at an offset; durable at once if so asked (FUA).
    Write { at: usize, bytes: Vec<u8>, durable: bool },
    /// All that was written before is durable.
    Flush,
}

/// The disk as its user sees it, and how it came to be so.
pub(crate) struct Disk {
    length: usize,
    state: Mutex<State>,
}

struct State {
    /// As it was before the first event.
    first: Vec<u8>,
    /// As its user sees it.
    now: Vec<u8>,
    events: Vec<Event>,
}

/// All that happened to a disk.
pub(crate) struct Record {
    /// As it was before the first event.
    pub(crate) first: Vec<u8>,
    /// In the order in which the disk was asked.
    pub(crate) events: Vec<Event>,
}

impl Disk {
    /// A disk that holds an image, all of it durable.
    pub(crate) fn new(image: Vec<u8>) -> Disk {
        let state = State { now: image.clone(), first: image, events: Vec::new() };
        Disk { length: state.now.len(), state: Mutex::new(state) }
    }

    /// Bytes that it has.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of a range that lies on the disk.
    fn inside(&self, at: u64, length: usize) -> Range<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.length);
        from..from.saturating_add(length).min(self.length)
    }

    /// What is there; shorter at the disk's end.
    pub(crate) fn read(&self, at: u64, length: usize) -> Vec<u8> {
        self.state().now[self.inside(at, length)].to_vec()
    }

    /// Takes bytes into the cache, or past it.
    pub(crate) fn write(&self, at: u64, bytes: &[u8], durable: bool) {
        let range = self.inside(at, bytes.len());
        let bytes = bytes[..range.len()].to_vec();
        let mut state = self.state();
        state.now[range.clone()].copy_from_slice(&bytes);
        state.events.push(Event::Write { at: range.start, bytes, durable });
    }

    /// Makes the cache durable.
    pub(crate) fn flush(&self) {
        self.state().events.push(Event::Flush);
    }

    /// How many events there were: the moment, for whoever notes an acknowledgement.
    pub(crate) fn moment(&self) -> usize {
        self.state().events.len()
    }

    /// Whether something would be lost if the power went now.
    pub(crate) fn is_dirty(&self) -> bool {
        matches!(self.state().events.last(), Some(Event::Write { durable: false, .. }))
    }

    /// Takes the record so far; from here on what the disk holds now is where it began.
    pub(crate) fn take(&self) -> Record {
        let mut state = self.state();
        let events = std::mem::take(&mut state.events);
        let now = state.now.clone();
        Record { first: std::mem::replace(&mut state.first, now), events }
    }

    /// Puts another image in place of what it holds: the power was cut, and this was left.
    pub(crate) fn restore(&self, image: &[u8]) {
        let mut state = self.state();
        state.now.copy_from_slice(image);
        state.first.copy_from_slice(image);
        state.events.clear();
    }
}
