//! Which of what was in the cache reached the medium when the power went: nothing, all, all but
//! one, one alone, or whatever chance leaves, each write torn at any sector.

use super::disk::{Event, Record, SECTOR};
use crate::store::Random;

/// What becomes of the writes since the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All are lost.
    Lost,
    /// All came through.
    Kept,
    /// All but this one, counted from the flush.
    Without(usize),
    /// This one alone.
    Only(usize),
    /// Each by chance, whole, torn at its sectors or lost.
    Chance(u64),
}

impl Fate {
    /// One of them, where so many writes may be lost.
    pub(crate) fn draw(pending: usize, random: &mut Random) -> Fate {
        let one = random.below(pending.max(1) as u64) as usize;
        match random.below(8) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Without(one),
            3 => Fate::Only(one),
            _ => Fate::Chance(random.below(u64::MAX)),
        }
    }
}

/// Goes through a record, and makes what a cut at each moment would leave.
pub(crate) struct Cutter<'r> {
    record: &'r Record,
    /// What is durable before `moment`.
    durable: Vec<u8>,
    /// Writes before `moment` that are not.
    pending: Vec<usize>,
    moment: usize,
}

impl<'r> Cutter<'r> {
    pub(crate) fn new(record: &'r Record) -> Cutter<'r> {
        Cutter { record, durable: record.first.clone(), pending: Vec::new(), moment: 0 }
    }

    /// Goes on to a moment, which never lies behind: that many events have happened.
    pub(crate) fn go(&mut self, moment: usize) {
        assert!(moment >= self.moment && moment <= self.record.events.len(), "{moment}");
        while self.moment < moment {
            match &self.record.events[self.moment] {
                Event::Write { durable: false, .. } => self.pending.push(self.moment),
                Event::Write { at, bytes, .. } => {
                    // What lies in the cache for the same place is older.
                    self.durable[*at..at + bytes.len()].copy_from_slice(bytes);
                    self.pending.push(self.moment);
                }
                Event::Flush => {
                    for event in std::mem::take(&mut self.pending) {
                        apply(&mut self.durable, &self.record.events[event], |_| true);
                    }
                }
            }
            self.moment += 1;
        }
    }

    /// Writes that a cut now may lose.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What a cut now leaves.
    pub(crate) fn image(&self, fate: Fate) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut random = Random(match fate {
            Fate::Chance(seed) => seed | 1,
            _ => 1,
        });
        // One draw for the whole cut: else nearly all cuts would keep about a half.
        let share = random.below(101);
        for (number, event) in self.pending.iter().enumerate() {
            let event = &self.record.events[*event];
            let sure = matches!(event, Event::Write { durable: true, .. });
            match fate {
                _ if sure => apply(&mut image, event, |_| true),
                Fate::Lost => {}
                Fate::Kept => apply(&mut image, event, |_| true),
                Fate::Without(other) if number != other => apply(&mut image, event, |_| true),
                Fate::Only(one) if number == one => apply(&mut image, event, |_| true),
                Fate::Without(_) | Fate::Only(_) => {}
                Fate::Chance(_) => match random.below(4) {
                    // Torn: each sector for itself.
                    0 => apply(&mut image, event, |_| random.below(101) < share),
                    _ if random.below(101) < share => apply(&mut image, event, |_| true),
                    _ => {}
                },
            }
        }
        image
    }
}

/// Applies the sectors of a write that came through.
fn apply(image: &mut [u8], event: &Event, mut came: impl FnMut(usize) -> bool) {
    let Event::Write { at, bytes, .. } = event else { return };
    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
        if came(number) {
            let from = at + number * SECTOR;
            image[from..from + sector.len()].copy_from_slice(sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::{Cutter, Fate};

    /// Two writes, a flush, and two more writes, of a sector each.
    fn image(moment: usize, fate: Fate) -> Vec<u8> {
        let disk = Disk::new(vec![0; 2048]);
        disk.write(0, &[1; 512], false);
        disk.write(512, &[2; 512], false);
        disk.flush();
        disk.write(0, &[3; 512], false);
        disk.write(1024, &[4; 512], false);
        disk.write(1536, &[5; 512], true);
        let record = disk.take();
        let mut cutter = Cutter::new(&record);
        cutter.go(moment);
        cutter.image(fate).chunks(512).map(|sector| sector[0]).collect()
    }

    #[test]
    fn a_cut_loses_only_what_was_not_flushed() {
        assert_eq!(image(2, Fate::Lost), [0, 0, 0, 0]);
        assert_eq!(image(2, Fate::Only(1)), [0, 2, 0, 0]);
        assert_eq!(image(3, Fate::Lost), [1, 2, 0, 0]);
        assert_eq!(image(5, Fate::Without(0)), [1, 2, 4, 0]);
        assert_eq!(image(5, Fate::Kept), [3, 2, 4, 0]);
        assert_eq!(image(6, Fate::Lost), [1, 2, 0, 5]);
        for seed in 0..100 {
            let image = image(5, Fate::Chance(seed));
            assert!([1, 3].contains(&image[0]) && image[1] == 2 && [0, 4].contains(&image[2]));
        }
    }
}
