//! Seeded chance: what the laboratory draws, it can draw again from the same seed.

use std::time::Duration;

/// The house's generator, with what the laboratory draws of it.
#[derive(Clone)]
pub(crate) struct Chance(edge_core::consensus::Chance);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(edge_core::consensus::Chance::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// From 0 to 1, 1 excluded.
    pub(crate) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Up to this long.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.part())
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
