//! One direction of one cable: what happens to a frame on it. Pure, so that the switch is only
//! reading and writing.

use std::time::{Duration, Instant};

use super::chance::Chance;

/// Bytes that may wait for a slow link; a home router has about this much.
const QUEUE: u64 = 256 * 1024;

/// What a direction does to frames. The default is a perfect cable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Weather {
    /// Nothing gets through, not even what is on its way.
    pub(crate) cut: bool,
    /// Every frame takes at least this long.
    pub(crate) delay: Duration,
    /// And up to this much more, each its own: frames may overtake each other, as in netem.
    pub(crate) jitter: Duration,
    /// The part of the frames that is lost, 0 to 1. An offloaded frame is lost as a whole.
    pub(crate) loss: f64,
    /// Bytes a second; more waits in a queue of 256 KiB, and more than that is lost.
    pub(crate) rate: Option<u64>,
}

/// What crossed a direction, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) lost: u64,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Now,
    At(Instant),
    Lost,
}

/// A direction.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) weather: Weather,
    pub(crate) count: Count,
    /// When a slow link will have sent what waits for it.
    free_at: Option<Instant>,
}

impl Link {
    /// Decides about a frame of `bytes` that comes in now.
    pub(crate) fn offer(&mut self, now: Instant, bytes: usize, chance: &mut Chance) -> Fate {
        let Weather { cut, delay, jitter, loss, rate } = self.weather;
        if cut || (loss > 0.0 && chance.part() < loss) {
            self.count.lost += 1;
            return Fate::Lost;
        }
        let mut due = now;
        if let Some(rate) = rate {
            let begin = self.free_at.map_or(now, |at| at.max(now));
            let waiting = begin.duration_since(now).as_secs_f64() * rate as f64;
            if waiting > QUEUE as f64 {
                self.count.lost += 1;
                return Fate::Lost;
            }
            due = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.free_at = Some(due);
        }
        due += delay;
        if !jitter.is_zero() {
            due += chance.up_to(jitter);
        }
        if due == now { Fate::Now } else { Fate::At(due) }
    }

    /// Whether a frame that was on its way arrives; counts it.
    pub(crate) fn arrives(&mut self, bytes: usize) -> bool {
        if self.weather.cut {
            self.count.lost += 1;
            return false;
        }
        self.count.frames += 1;
        self.count.bytes += u64::try_from(bytes).expect("64 bits");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_link_spaces_frames_and_drops_what_it_cannot_queue() {
        let now = Instant::now();
        let mut chance = Chance::new(1);
        let mut link = Link::default();
        assert_eq!(link.offer(now, 1000, &mut chance), Fate::Now);
        link.weather.rate = Some(100_000);
        let ms = |n| Fate::At(now + Duration::from_millis(n));
        assert_eq!(link.offer(now, 1000, &mut chance), ms(10));
        assert_eq!(link.offer(now, 1000, &mut chance), ms(20));
        let taken = (0..1000).filter(|_| link.offer(now, 1000, &mut chance) != Fate::Lost);
        assert_eq!(taken.count(), 261);
        link.weather.cut = true;
        assert!(!link.arrives(1000), "what is on its way does not arrive over a cut cable");
    }
}
