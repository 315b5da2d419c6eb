//! Room for so many at once, of which nobody gets more than a part: a pod that asks for too much
//! finds no room, and the others don't notice.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who may be there at once.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    each: usize,
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    who: IpAddr,
}

impl Places {
    /// Room for `all`, of which each gets `each` at most.
    pub(super) fn new(all: usize, each: usize) -> Arc<Places> {
        Arc::new(Places { all, each, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody, if there is one.
    pub(super) fn take(self: &Arc<Places>, who: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        let mine = taken.get(&who).copied().unwrap_or(0);
        if mine >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(who, mine + 1);
        Some(Place { of: self.clone(), who })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        let left = taken.get(&self.who).map_or(0, |mine| mine.saturating_sub(1));
        match left {
            0 => taken.remove(&self.who),
            left => taken.insert(self.who, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_it_all() {
        let places = Places::new(5, 3);
        let [a, b] = [1, 2].map(|n| IpAddr::from([10, 42, 0, n]));
        let mut kept: Vec<Place> = (0..3).filter_map(|_| places.take(a)).collect();
        assert!(kept.len() == 3 && places.take(a).is_none());
        kept.extend((0..3).filter_map(|_| places.take(b)));
        assert_eq!(kept.len(), 5, "no more than all");
        drop(kept.swap_remove(0));
        assert!(places.take(a).is_some());
        drop(kept);
        assert!(places.taken().is_empty());
    }
}
