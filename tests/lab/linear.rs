//! Whether a register's history is linearizable: Wing and Gong's search with Lowe's memory of
//! configurations ("Testing for linearizability", 2017), as Porcupine does it. Knows values
//! only: it does not take the server's word for any order. Since a value is written at most
//! once, it can't come back: an order that leaves a value which somebody has yet to see is given
//! up at once, and that is what keeps the search short when outcomes are unknown.

use std::collections::{HashMap, HashSet};

use super::chance::Chance;

/// Configurations that are looked at before the search gives up undecided.
const BUDGET: usize = 5_000_000;

/// What a call does to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It holds this value.
    Read(u64),
    Write(u64),
    /// It held `from`, and holds `to` from then on.
    Swap {
        from: u64,
        to: u64,
    },
}

impl Step {
    fn on(self, state: u64) -> Option<u64> {
        match self {
            Step::Read(value) => (value == state).then_some(state),
            Step::Write(value) => Some(value),
            Step::Swap { from, to } => (from == state).then_some(to),
        }
    }

    /// The value that it saw.
    fn sees(self) -> Option<u64> {
        match self {
            Step::Read(value) | Step::Swap { from: value, .. } => Some(value),
            Step::Write(_) => None,
        }
    }
}

/// How many calls that are not yet in the order saw each value.
struct Unseen(HashMap<u64, usize>);

impl Unseen {
    fn new(calls: &[Call]) -> Unseen {
        let mut unseen = Unseen(HashMap::new());
        for value in calls.iter().filter_map(|call| call.step.sees()) {
            unseen.count(value, 1);
        }
        unseen
    }

    fn count(&mut self, value: u64, change: isize) {
        let count = self.0.entry(value).or_insert(0);
        *count = count.checked_add_signed(change).expect("as many as were counted");
    }

    /// What a call turns the state into, if it can come next.
    fn next(&self, step: Step, state: u64) -> Option<u64> {
        let next = step.on(state)?;
        let left = self.0.get(&state).copied().unwrap_or(0);
        let own = usize::from(step.sees() == Some(state));
        (next == state || left == own).then_some(next)
    }
}

/// A call that happened between its begin and its end; without an end, at any time after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) step: Step,
    pub(crate) begin: u64,
    pub(crate) end: Option<u64>,
}

/// A place in the time line: a call's begin or end, in a list from which both can be taken out
/// and put back.
#[derive(Clone, Copy)]
struct Place {
    call: usize,
    is_end: bool,
    before: usize,
    after: usize,
}

/// The time line. Place 0 is the list's head.
struct Line {
    places: Vec<Place>,
    /// The two places of each call.
    of: Vec<(usize, usize)>,
}

impl Line {
    fn new(calls: &[Call]) -> Line {
        let mut times: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        for (n, call) in calls.iter().enumerate() {
            times.push((call.begin, false, n));
            times.push((call.end.unwrap_or(u64::MAX), true, n));
        }
        // Begins before ends of the same moment: such calls may have overlapped.
        times.sort_unstable();
        let mut places = vec![Place { call: usize::MAX, is_end: true, before: 0, after: 1 }];
        let mut of = vec![(0, 0); calls.len()];
        for (n, (_, is_end, call)) in times.into_iter().enumerate() {
            places.push(Place { call, is_end, before: n, after: n + 2 });
            if is_end { of[call].1 = n + 1 } else { of[call].0 = n + 1 }
        }
        let last = places.len() - 1;
        places[last].after = 0;
        Line { places, of }
    }

    fn take(&mut self, call: usize) {
        for at in [self.of[call].0, self.of[call].1] {
            let Place { before, after, .. } = self.places[at];
            self.places[before].after = after;
            self.places[after].before = before;
        }
    }

    fn put_back(&mut self, call: usize) {
        for at in [self.of[call].1, self.of[call].0] {
            let Place { before, after, .. } = self.places[at];
            self.places[before].after = at;
            self.places[after].before = at;
        }
    }
}

/// Finds an order of the calls in which each takes effect between its begin and its end. No value
/// may be written twice, nor `first` at all.
///
/// # Errors
/// Says, in words, up to where an order could be found, or that the search was given up.
pub(crate) fn check(calls: &[Call], first: u64) -> Result<(), String> {
    // A set of calls is known by the exclusive or of their random names: two sets with the same
    // name are as unlikely as a guessed key.
    let mut chance = Chance::new(0x5eed);
    let mut name = || u128::from(chance.next()) << 64 | u128::from(chance.next());
    let names: Vec<u128> = calls.iter().map(|_| name()).collect();
    let mut line = Line::new(calls);
    let mut unseen = Unseen::new(calls);
    let mut seen: HashSet<(u128, u64)> = HashSet::new();
    let mut taken: Vec<(usize, u64)> = Vec::new();
    let (mut set, mut state, mut longest) = (0_u128, first, 0);
    let mut at = line.places[0].after;
    while line.places[0].after != 0 {
        let Place { call, is_end, after, .. } = line.places[at];
        if is_end {
            // This call should have taken effect by now: the last choice was wrong.
            let Some((last, before)) = taken.pop() else {
                return Err(explain(calls, call, longest));
            };
            set ^= names[last];
            state = before;
            if let Some(value) = calls[last].step.sees() {
                unseen.count(value, 1);
            }
            line.put_back(last);
            at = line.places[line.of[last].0].after;
            continue;
        }
        if let Some(next) = unseen.next(calls[call].step, state)
            && seen.insert((set ^ names[call], next))
        {
            if seen.len() > BUDGET {
                return Err(format!("undecided after {BUDGET} configurations"));
            }
            taken.push((call, state));
            longest = longest.max(taken.len());
            if let Some(value) = calls[call].step.sees() {
                unseen.count(value, -1);
            }
            set ^= names[call];
            state = next;
            line.take(call);
            at = line.places[0].after;
            continue;
        }
        at = after;
    }
    Ok(())
}

fn explain(calls: &[Call], stuck: usize, longest: usize) -> String {
    let call = &calls[stuck];
    let end = call.end.unwrap_or(u64::MAX);
    let near = calls.iter().filter(|other| {
        other.begin <= end && other.end.unwrap_or(u64::MAX) >= call.begin.saturating_sub(1)
    });
    let near: Vec<String> = near.take(20).map(|other| format!("  {other:?}")).collect();
    let total = calls.len();
    let near = near.join("\n");
    format!("no order of {total} calls ({longest} at best); stuck at {call:?} beside\n{near}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(step: Step, begin: u64, end: u64) -> Call {
        Call { step, begin, end: (end > 0).then_some(end) }
    }

    #[test]
    fn orders_that_exist_are_found() {
        use Step::{Read, Swap, Write};
        let overlapping = [
            call(Write(1), 0, 10),
            call(Write(2), 1, 9),
            call(Read(2), 2, 3),
            call(Read(1), 4, 12),
            call(Swap { from: 1, to: 3 }, 11, 13),
            call(Read(3), 14, 15),
        ];
        assert_eq!(check(&overlapping, 0), Ok(()));
        // A write whose outcome nobody was told takes effect long after.
        let late = [call(Write(1), 0, 0), call(Read(0), 5, 6), call(Read(1), 7, 8)];
        assert_eq!(check(&late, 0), Ok(()));
        assert_eq!(check(&[], 0), Ok(()));
    }

    #[test]
    fn orders_that_do_not_exist_are_not() {
        use Step::{Read, Swap, Write};
        let stale = [call(Write(1), 0, 1), call(Write(2), 2, 3), call(Read(1), 4, 5)];
        assert!(check(&stale, 0).is_err());
        let lost = [call(Write(1), 0, 1), call(Read(0), 2, 3)];
        assert!(check(&lost, 0).is_err());
        let two_winners =
            [call(Swap { from: 0, to: 1 }, 0, 5), call(Swap { from: 0, to: 2 }, 0, 5)];
        assert!(check(&two_winners, 0).is_err());
        let flicker = [call(Write(1), 0, 10), call(Read(1), 1, 2), call(Read(0), 3, 4)];
        assert!(check(&flicker, 0).is_err());
        let early = [call(Read(1), 0, 1), call(Write(1), 2, 0)];
        assert!(check(&early, 0).is_err());
    }

    /// Histories made from a real order are accepted; the same with one read turned stale is
    /// not. Long ones, with eight clients at a time, to see that the search is quick.
    #[test]
    fn long_histories_are_judged_in_time() {
        for seed in 0..20 {
            let mut chance = Chance::new(seed);
            let (mut calls, mut state, mut free) = (Vec::new(), 0, [0_u64; 8]);
            for n in 1..=4000_u64 {
                // The moment at which it takes effect, and an interval around it.
                let (moment, client) = (n * 10, chance.below(8));
                let begin = free[client].max(moment.saturating_sub(chance.next() % 60));
                if begin > moment {
                    continue;
                }
                let end = moment + chance.next() % 60;
                free[client] = end + 1;
                let step = match chance.below(3) {
                    0 => Step::Write(n),
                    1 => Step::Swap { from: state, to: n },
                    _ => Step::Read(state),
                };
                state = step.on(state).expect("it follows the order");
                let known = chance.below(50) > 0;
                calls.push(Call { step, begin, end: known.then_some(end) });
            }
            assert_eq!(check(&calls, 0), Ok(()), "seed {seed}");
            let reads = calls.iter().rposition(|c| matches!(c.step, Step::Read(_)));
            let at = reads.expect("there are reads");
            calls[at].step = Step::Read(0);
            assert!(check(&calls, 0).is_err(), "seed {seed}");
        }
    }
}
