//! The run's only chance: everything that happens follows from the seed.

/// The house's generator, with what the simulator draws of it.
#[derive(Clone)]
pub(super) struct Chance(edge_core::consensus::Chance);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(edge_core::consensus::Chance::new(seed ^ 0x5eed_0f0f_1234_9876))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// From `low` to `high`, both included.
    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True this often in a thousand.
    pub(super) fn permille(&mut self, often: u64) -> bool {
        self.next() % 1000 < often
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[(self.next() % from.len() as u64) as usize])
    }
}
