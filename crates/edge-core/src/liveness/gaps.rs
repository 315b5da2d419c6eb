//! How regular a board's beats come in: the longest gaps between two of them, of the last tens of
//! beats. Who waits as long as a link is known to stall, and a little longer, is seldom wrong about
//! it. What happened once says little: a cable that was pulled, a board that hung. It takes a
//! second such gap to be waited for any longer than [`ONCE_MS`].
//!
//! Mean and deviation, as TCP measures them, doubled every stall: after a single gap of 1.3 s, a
//! dead board was believed in for 2.4 s, and after one of 2 s for all that the settings allow.

/// Gaps that must have been seen before they say anything.
const ENOUGH: u32 = 4;

/// A gap is forgotten after as many others, and after twice as many at the latest.
const KEPT: u32 = 32;

/// A gap may be longer than the longest so far by one part in this many.
const SPARE_PARTS: i64 = 8;

/// A single long gap is worth no more patience than this.
const ONCE_MS: i64 = 1400;

/// The longest gap of some, and the longest of the rest.
type Longest = [i64; 2];

/// The measured link to one board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    seen: u32,
    /// Of those that are counted now, and how many these are.
    now: Longest,
    counted: u32,
    /// Of the [`KEPT`] before them.
    before: Longest,
}

fn add([first, second]: Longest, gap: i64) -> Longest {
    if gap > first { [gap, first] } else { [first, second.max(gap)] }
}

impl Gaps {
    /// Takes in one gap, in milliseconds.
    pub(super) fn take(&mut self, gap_ms: i64) {
        if self.counted == KEPT {
            (self.before, self.now, self.counted) = (self.now, [0, 0], 0);
        }
        self.now = add(self.now, gap_ms);
        self.counted += 1;
        self.seen = self.seen.saturating_add(1);
    }

    /// The longest gap that is still ordinary, in milliseconds; `None` before enough is known.
    pub(super) fn ordinary_ms(&self) -> Option<i64> {
        let [once, twice] = self.before.into_iter().fold(self.now, add);
        let spare = |gap: i64| gap.saturating_add(gap / SPARE_PARTS);
        (self.seen >= ENOUGH).then(|| spare(twice).max(spare(once).min(ONCE_MS)))
    }
}
