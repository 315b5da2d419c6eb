//! New connections at a steady pace while something is lost: which of them came to nothing, which
//! were late, and when each began.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::traffic_places::{Answer, Place, Transport, ask};

/// A connection that takes longer lost a packet: it is sent again after a second.
const LATE: Duration = Duration::from_millis(700);

/// One connection: when it began before or after the loss, and what it came to.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) before: bool,
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) answer: Result<Answer, String>,
}

/// A pace: connections in all, how many of them before the loss, and the time from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) count: u32,
    pub(crate) before: u32,
    pub(crate) every: Duration,
}

/// Connects at a pace from a place, each connection on a thread of its own, and calls `lose` when
/// it is time.
pub(crate) fn under_load(
    place: &Place,
    to: SocketAddr,
    pace: Pace,
    lose: impl FnOnce() + Send,
) -> Vec<Asked> {
    let outcomes = Mutex::new(Vec::new());
    let (begin, mut cut, mut lose) = (Instant::now(), Instant::now(), Some(lose));
    std::thread::scope(|scope| {
        for n in 0..pace.count {
            if n == pace.before
                && let Some(lose) = lose.take()
            {
                cut = Instant::now();
                scope.spawn(lose);
            }
            scope.spawn(|| {
                place.enter();
                let at = Instant::now();
                let answer = ask(Transport::Tcp, to);
                outcomes.lock().expect("outcomes").push((at, at.elapsed(), answer));
            });
            let next = begin + pace.every * (n + 1);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    let mut outcomes = outcomes.into_inner().expect("outcomes");
    outcomes.sort_by_key(|(at, _, _)| *at);
    let asked = outcomes.into_iter().map(|(at, took, answer)| {
        let before = at < cut;
        let at = if before { cut - at } else { at - cut };
        Asked { before, at, took, answer }
    });
    asked.collect()
}

/// How long after the loss the last connection began that failed; none if none did.
pub(crate) fn last_failure(asked: &[Asked]) -> Option<Duration> {
    let failed = asked.iter().filter(|one| !one.before && one.answer.is_err());
    failed.map(|one| one.at).max()
}

/// Those that were answered late, with when they began and how long they took.
pub(crate) fn late(asked: &[Asked]) -> Vec<(Duration, Duration)> {
    let late = asked.iter().filter(|one| !one.before && one.answer.is_ok() && one.took > LATE);
    late.map(|one| (one.at, one.took)).collect()
}
