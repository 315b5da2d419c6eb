//! Which lines of a log are left out: those that were said often enough within the hour, and those
//! that are too many altogether. What is written later says how many there were.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The same line is written so often …
const SAME: u32 = 10;
/// … within this time.
const WINDOW: Duration = Duration::from_secs(60 * 60);
/// Lines that are remembered.
const REMEMBERED: usize = 256;
/// So many lines may come at once …
const BURST: u32 = 1000;
/// … and another after each of these: 600 in an hour, 100 kB or so.
const REFILL: Duration = Duration::from_secs(6);

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written, with something said at its end.
    Write { also: Option<String> },
    /// It is left out.
    Drop,
}

struct Known {
    line: u64,
    since: Duration,
    written: u32,
    left_out: u32,
}

/// What was written lately.
pub(super) struct Repeats {
    known: VecDeque<Known>,
    /// Lines that may be written now.
    left: u32,
    /// When one more was last allowed.
    refilled: Duration,
    /// Lines left out because there were too many of all sorts.
    crowded: u32,
}

impl Default for Repeats {
    fn default() -> Repeats {
        Repeats { known: VecDeque::new(), left: BURST, refilled: Duration::ZERO, crowded: 0 }
    }
}

impl Repeats {
    /// Judges a line at a moment of some steady clock.
    pub(super) fn judge(&mut self, line: &[u8], now: Duration) -> Verdict {
        self.refill(now);
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let said = self.said(hasher.finish(), now);
        let repeated = match said {
            None => return Verdict::Drop,
            Some(left_out) => left_out,
        };
        if self.left == 0 {
            self.crowded = self.crowded.saturating_add(1);
            return Verdict::Drop;
        }
        self.left -= 1;
        let crowded = std::mem::take(&mut self.crowded);
        let mut also = Vec::new();
        if repeated > 0 {
            also.push(format!("{repeated} more times within the last hour or so"));
        }
        if crowded > 0 {
            also.push(format!("{crowded} lines were left out before this one"));
        }
        Verdict::Write { also: (!also.is_empty()).then(|| also.join("; ")) }
    }

    /// How often the line was left out since it was last written; `None` when it is now.
    fn said(&mut self, line: u64, now: Duration) -> Option<u32> {
        let Some(at) = self.known.iter().position(|known| known.line == line) else {
            if self.known.len() == REMEMBERED {
                self.known.pop_front();
            }
            self.known.push_back(Known { line, since: now, written: 1, left_out: 0 });
            return Some(0);
        };
        let known = &mut self.known[at];
        if now.saturating_sub(known.since) >= WINDOW {
            let left_out = known.left_out;
            *known = Known { line, since: now, written: 1, left_out: 0 };
            return Some(left_out);
        }
        if known.written < SAME {
            known.written += 1;
            return Some(0);
        }
        known.left_out = known.left_out.saturating_add(1);
        None
    }

    fn refill(&mut self, now: Duration) {
        let due = now.saturating_sub(self.refilled).as_secs() / REFILL.as_secs();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due > 0 {
            self.left = self.left.saturating_add(due).min(BURST);
            self.refilled += REFILL.saturating_mul(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: u32 = 24 * 60 * 60;

    fn written(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Write { .. })
    }

    #[test]
    fn a_line_of_every_second_is_ten_an_hour() {
        let mut repeats = Repeats::default();
        let mut lines = 0;
        for second in 0..DAY {
            let verdict = repeats.judge(b" WARN the leader is away", SECOND * second);
            lines += u32::from(written(&verdict));
            if second == 3600 {
                let also = Some("3590 more times within the last hour or so".to_owned());
                assert_eq!(verdict, Verdict::Write { also });
            }
        }
        assert_eq!(lines, 24 * SAME);
        assert_eq!(
            repeats.judge(b" WARN something else", SECOND * DAY),
            Verdict::Write { also: None },
        );
    }

    #[test]
    fn lines_that_differ_are_bounded_altogether() {
        let mut repeats = Repeats::default();
        let mut lines = 0;
        let hours = 2 * 60 * 60;
        for second in 0..hours {
            for n in 0..10 {
                let line = format!(" WARN pod {second}-{n}");
                lines += u32::from(written(&repeats.judge(line.as_bytes(), SECOND * second)));
            }
        }
        assert!(lines <= BURST + hours / 6, "{lines} lines in two hours");
        assert!(repeats.known.len() <= REMEMBERED);
        let Verdict::Write { also: Some(also) } =
            repeats.judge(b" INFO calm", SECOND * (hours + 60))
        else {
            panic!("it is written");
        };
        assert!(also.ends_with("lines were left out before this one"), "{also}");
    }
}
