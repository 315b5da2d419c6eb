//! Where connections wait until they have shown who they are. There is room for so many of one
//! address, and for so many in all; who comes when it is full takes the place of whoever has waited
//! longest, so that connections that only sit there keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often it is said that connections were pushed out, in milliseconds.
const SAY_MS: u64 = 60_000;

/// How many connections may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// From one address.
    pub each: usize,
    /// In all.
    pub all: usize,
}

/// Connections that have not shown who they are; `T` ends one of them when it is dropped.
#[derive(Debug)]
pub struct Porch<T> {
    room: Room,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    next: u64,
    waiting: BTreeMap<u64, (Option<u128>, T)>,
    pushed: u64,
    said: Option<(u64, u64)>,
}

/// A place on the porch, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place<T> {
    porch: Arc<Porch<T>>,
    number: u64,
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let left = self.porch.state().waiting.remove(&self.number);
        // What it held may do anything as it ends: not under the lock.
        drop(left);
    }
}

impl<T> Porch<T> {
    /// An empty one.
    pub fn new(room: Room) -> Arc<Porch<T>> {
        let state = State { next: 0, waiting: BTreeMap::new(), pushed: 0, said: None };
        Arc::new(Porch { room, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, from an IPv6 address (or an IPv4 one mapped to that); `None`: this
    /// board itself, which counts in all only. Gives whoever had to make room for it.
    pub fn enter(self: &Arc<Self>, address: Option<u128>, held: T) -> (Place<T>, Option<T>) {
        let from = address.map(network);
        let mut state = self.state();
        let out = state.full(from, self.room);
        let out = out.and_then(|number| state.waiting.remove(&number));
        state.pushed += u64::from(out.is_some());
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, (from, held));
        drop(state);
        (Place { porch: self.clone(), number }, out.map(|(_, held)| held))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// How many were pushed out so far.
    pub fn pushed(&self) -> u64 {
        self.state().pushed
    }

    /// How many were pushed out since this was last said, if it is time to say it. `now` is in
    /// milliseconds since any moment.
    pub fn news(&self, now: u64) -> Option<u64> {
        let mut state = self.state();
        let (at, pushed) = state.said.unwrap_or((0, 0));
        let due = state.said.is_none() || now.saturating_sub(at) >= SAY_MS;
        let more = state.pushed - pushed;
        (due && more > 0).then(|| {
            state.said = Some((now, state.pushed));
            more
        })
    }
}

impl<T> State<T> {
    /// Who must leave before one more from there can come.
    fn full(&self, from: Option<u128>, room: Room) -> Option<u64> {
        let of = |known: &Option<u128>| from.is_some() && *known == from;
        let mut neighbours = self.waiting.iter().filter(|(_, (known, _))| of(known));
        let oldest = neighbours.next().map(|(number, _)| *number);
        if 1 + neighbours.count() >= room.each && oldest.is_some() {
            return oldest;
        }
        let oldest = self.waiting.keys().next().copied();
        oldest.filter(|_| self.waiting.len() >= room.all)
    }
}

/// Whoever has one IPv6 address has its whole /64.
fn network(address: u128) -> u128 {
    match address >> 32 {
        0xffff => address,
        _ => address >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { each: 2, all: 4 };
    const ONE: Option<u128> = Some(0xffff_0a00_0001);
    const TWO: Option<u128> = Some(0xffff_0a00_0002);

    #[test]
    fn the_oldest_of_an_address_makes_room_for_its_next() {
        let porch = Porch::new(ROOM);
        let (_a, out) = porch.enter(ONE, 'a');
        assert_eq!(out, None);
        let (_b, _) = porch.enter(TWO, 'b');
        let (c, _) = porch.enter(ONE, 'c');
        let (_d, out) = porch.enter(ONE, 'd');
        assert_eq!(out, Some('a'), "not the other address's");
        drop(c);
        assert_eq!(porch.enter(ONE, 'e').1, None, "there is room after one left");
        assert_eq!(porch.pushed(), 1);
    }

    #[test]
    fn the_oldest_of_all_makes_room_when_all_is_full() {
        let porch = Porch::new(ROOM);
        let held: Vec<_> = (0..4_u8).map(|n| porch.enter(Some(u128::from(n) << 64), n).0).collect();
        assert_eq!(porch.enter(ONE, 9).1, Some(0));
        drop(held);
        // This board itself may have as many as there are.
        let held: Vec<_> = (0..4).map(|n| porch.enter(None, n)).collect();
        assert!(held.iter().all(|(_, out)| out.is_none()));
        assert_eq!(porch.enter(None, 9).1, Some(0));
    }

    #[test]
    fn neighbours_in_a_network_of_ipv6_are_one() {
        let porch = Porch::new(ROOM);
        let held: Vec<_> = (1..=3).map(|n| porch.enter(Some((7 << 64) | n), n)).collect();
        assert_eq!(held[2].1, Some(1));
    }

    #[test]
    fn it_is_said_once_a_minute() {
        let porch = Porch::new(Room { each: 1, all: 1 });
        let (_a, _) = porch.enter(ONE, ());
        assert_eq!(porch.news(5), None);
        let (_b, _) = porch.enter(ONE, ());
        assert_eq!(porch.news(5), Some(1));
        let (_c, _) = porch.enter(ONE, ());
        assert_eq!(porch.news(60_004), None);
        assert_eq!(porch.news(60_005), Some(1));
        assert_eq!(porch.news(200_000), None);
    }
}
