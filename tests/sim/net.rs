//! The wires, as the bus has them: what is sent may be lost, doubled, late and out of order.

use std::collections::BTreeSet;

use super::chance::Chance;

/// How bad it is at the moment; times in microseconds, chances in thousandths.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) twice: u64,
    pub(super) delay: (u64, u64),
    pub(super) spike: (u64, u64),
    pub(super) sync: (u64, u64),
    pub(super) slow_sync: (u64, u64),
}

impl Weather {
    pub(super) fn fair() -> Weather {
        Weather {
            loss: 0,
            twice: 0,
            delay: (200, 800),
            spike: (0, 0),
            sync: (300, 1500),
            slow_sync: (0, 0),
        }
    }

    pub(super) fn any(chance: &mut Chance) -> Weather {
        let often = |chance: &mut Chance, most: u64| match chance.range(0, 2) {
            0 => 0,
            _ => chance.range(0, most),
        };
        Weather {
            loss: often(chance, 200),
            twice: often(chance, 200),
            delay: (100, chance.range(300, 8000)),
            spike: (often(chance, 100), chance.range(10_000, 150_000)),
            sync: (200, chance.range(500, 6000)),
            slow_sync: (often(chance, 60), chance.range(20_000, 300_000)),
        }
    }

    /// When something sent now arrives: never, once or twice.
    pub(super) fn arrivals(&self, chance: &mut Chance) -> Vec<u64> {
        if chance.permille(self.loss) {
            return Vec::new();
        }
        let copies = if chance.permille(self.twice) { 2 } else { 1 };
        (0..copies).map(|_| self.delay(chance)).collect()
    }

    pub(super) fn delay(&self, chance: &mut Chance) -> u64 {
        let spike = if chance.permille(self.spike.0) { chance.range(0, self.spike.1) } else { 0 };
        chance.range(self.delay.0, self.delay.1) + spike
    }

    pub(super) fn sync(&self, chance: &mut Chance) -> u64 {
        let slow = chance.permille(self.slow_sync.0);
        let more = if slow { chance.range(0, self.slow_sync.1) } else { 0 };
        chance.range(self.sync.0, self.sync.1) + more
    }
}

/// Which ends can't hear which.
#[derive(Default)]
pub(super) struct Cuts(BTreeSet<(u64, u64)>);

impl Cuts {
    pub(super) fn one_way(&mut self, from: u64, to: u64) {
        self.0.insert((from, to));
    }

    pub(super) fn isolate(&mut self, end: u64, all: &[u64]) {
        for other in all.iter().filter(|other| **other != end) {
            self.one_way(end, *other);
            self.one_way(*other, end);
        }
    }

    pub(super) fn split(&mut self, side: &[u64], all: &[u64]) {
        for inside in side {
            for outside in all.iter().filter(|end| !side.contains(end)) {
                self.one_way(*inside, *outside);
                self.one_way(*outside, *inside);
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.0.clear();
    }

    pub(super) fn open(&self, from: u64, to: u64) -> bool {
        !self.0.contains(&(from, to))
    }

    pub(super) fn both_open(&self, one: u64, other: u64) -> bool {
        self.open(one, other) && self.open(other, one)
    }
}
