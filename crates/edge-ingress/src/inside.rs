//! Places of connections that have sent a whole request. Nobody takes the last ones for itself: an
//! address has at most as many as are left for all others, which is half of them when it is alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All places, and who has how many.
#[derive(Debug)]
pub(super) struct Inside {
    all: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    by: HashMap<u128, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    inside: Arc<Inside>,
    of: Option<u128>,
}

impl Inside {
    /// So many places.
    pub(super) fn new(all: usize) -> Arc<Inside> {
        Arc::new(Inside { all, held: Mutex::default() })
    }

    /// A place for a client's address, or for somebody of this board (`None`), who has no share.
    pub(super) fn enter(self: &Arc<Inside>, of: Option<u128>) -> Option<Seat> {
        let mut held = self.held();
        let left = self.all.saturating_sub(held.count);
        let has = of.and_then(|of| held.by.get(&of).copied()).unwrap_or(0);
        if left == 0 || has >= left {
            return None;
        }
        held.count += 1;
        if let Some(of) = of {
            *held.by.entry(of).or_default() += 1;
        }
        Some(Seat { inside: self.clone(), of })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.held().count
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.inside.held();
        held.count -= 1;
        let Some(of) = self.of else { return };
        if let Some(has) = held.by.get_mut(&of) {
            *has -= 1;
            if *has == 0 {
                held.by.remove(&of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_to_others_and_nothing_is_kept_of_it() {
        let inside = Inside::new(8);
        let mine: Vec<Seat> = std::iter::from_fn(|| inside.enter(Some(1))).collect();
        assert_eq!(mine.len(), 4);
        let other: Vec<Seat> = std::iter::from_fn(|| inside.enter(Some(2))).collect();
        assert_eq!(other.len(), 2);
        let own: Vec<Seat> = std::iter::from_fn(|| inside.enter(None)).collect();
        assert_eq!(
            (own.len(), inside.count()),
            (2, 8),
            "the board itself may have all that is left"
        );
        drop((mine, other, own));
        assert_eq!((inside.count(), inside.held().by.len()), (0, 0));
    }
}
