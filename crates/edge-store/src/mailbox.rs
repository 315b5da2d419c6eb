//! A queue between two threads that says how full it is, and wakes the one that reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A queue. Its bounds are its users': they look at what waits before they add.
pub(crate) struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    closed: AtomicBool,
    /// The reader is to look, though nothing may wait for it.
    nudged: AtomicBool,
    filled: Condvar,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Mailbox<T> {
        Mailbox {
            queue: Mutex::default(),
            closed: AtomicBool::new(false),
            nudged: AtomicBool::new(false),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds these and wakes the reader; drops them once nobody reads any more.
    pub(crate) fn put(&self, items: impl IntoIterator<Item = T>) {
        let mut queue = self.lock();
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let before = queue.len();
        queue.extend(items);
        if queue.len() > before {
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Ends the wait of the reader, or its next one. Unlike something that was put, this is not
    /// taken by whoever else takes what waits.
    pub(crate) fn nudge(&self) {
        let queue = self.lock();
        self.nudged.store(true, Ordering::Release);
        drop(queue);
        self.filled.notify_one();
    }

    /// Takes everything that waits.
    pub(crate) fn take(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.lock())
    }

    /// Nobody will read any more.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        self.closed.store(true, Ordering::Release);
        let left = std::mem::take(&mut *queue);
        drop(queue);
        self.filled.notify_all();
        drop(left);
    }

    /// Waits until there is something, or until then, or until it is closed or nudged. Answers
    /// whether it was anything but the time.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        let mut queue = self.lock();
        while queue.is_empty()
            && !self.nudged.swap(false, Ordering::AcqRel)
            && !self.closed.load(Ordering::Acquire)
        {
            match until {
                None => {
                    queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.filled.wait_timeout(queue, left);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        true
    }
}
