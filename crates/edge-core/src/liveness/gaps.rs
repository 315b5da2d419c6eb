//! How regular a board's beats come in: the mean of the gaps between them and how far they stray
//! from it, as TCP measures its round trips (Jacobson and Karels, RFC 6298), in integers.

/// Gaps that must have been seen before they say anything.
const ENOUGH: u32 = 4;

/// A gap moves the mean by one part in this many.
const MEAN_PARTS: i64 = 8;

/// A stray gap widens the deviation by one part in this many …
const WIDEN_PARTS: i64 = 2;

/// … and a regular one narrows it by one in this many: a link that has stalled once is given the
/// same time again for some tens of beats, where TCP would forget it at once.
const NARROW_PARTS: i64 = 64;

/// Deviations that a gap may stray before it tells of trouble.
const DEVIATIONS: i64 = 4;

/// Thousandths of a millisecond, so that slow narrowing is not lost to rounding.
const SCALE: i64 = 1000;

/// The measured link to one board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    seen: u32,
    mean: i64,
    deviation: i64,
}

impl Gaps {
    /// Takes in one gap, in milliseconds.
    pub(super) fn take(&mut self, gap_ms: i64) {
        let gap = gap_ms.max(0).saturating_mul(SCALE);
        if self.seen == 0 {
            self.mean = gap;
        } else {
            let stray = (gap - self.mean).abs();
            let parts = if stray > self.deviation { WIDEN_PARTS } else { NARROW_PARTS };
            self.deviation += (stray - self.deviation) / parts;
            self.mean += (gap - self.mean) / MEAN_PARTS;
        }
        self.seen = self.seen.saturating_add(1);
    }

    /// The longest gap that is still ordinary, in milliseconds; `None` before enough is known.
    pub(super) fn ordinary_ms(&self) -> Option<i64> {
        (self.seen >= ENOUGH).then(|| (self.mean + DEVIATIONS * self.deviation) / SCALE)
    }
}
