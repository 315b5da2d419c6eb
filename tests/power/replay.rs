//! Every prefix of the store's calls, and every sector torn, replayed on files that keep no more
//! than was synced.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::calls::{Call, Reader, TRACED};
use super::files::Files;
use super::writer::{Ack, END, WRITES, judge, parse};
use crate::store::{CHILD, Directory, Random, name_of};

/// Seconds that the test may take in CI, its recording not counted; `EDGED_POWER_SECONDS`.
const SECONDS: u64 = 15;
/// Writes of each of the program's lives.
const LIVES: [u64; 3] = [60, 420, 60];
/// Up to so many loose things, every pair of them is lost, and every pair kept.
const PAIRS: usize = 12;
/// Draws at each moment before a sync.
const DRAWS: usize = 6;
/// How many moments are looked at in one go through the calls.
const ROUND: usize = 12;
/// So many of the last calls are no syncs, to see whether that is noticed.
const LIE: usize = 40;
/// Sectors of a larger unit that a disk may tear at.
const LARGE: usize = 8;

/// Runs the program under `strace` until it is done; what it asked of files is added.
fn live(dir: &Path, trace: &Path, writes: u64) -> String {
    let name = name_of(module_path!(), "writes").replace("replay::", "writer::");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-xx", "-s", "33554432", "-e", TRACED, "-e", "signal=none", "-o"]);
    command.arg(trace).arg(std::env::current_exe().unwrap());
    command.args([&*name, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, dir).env(WRITES, writes.to_string()).env(END, "1");
    let output = command.stdin(std::process::Stdio::null()).output().expect("strace runs");
    assert!(output.status.success(), "{output:?}");
    std::fs::read_to_string(trace).expect("a trace")
}

/// Which of the loose things and sectors come through.
#[derive(Debug)]
enum Fate {
    Lost,
    Kept,
    Only(usize),
    Without(usize),
    OnlyPair(usize, usize),
    WithoutPair(usize, usize),
    /// Of the last thing these sectors; everything before came through, or nothing did.
    Torn {
        first: usize,
        end: usize,
        rest: bool,
    },
    /// Of the last thing all but these.
    Hole {
        first: usize,
        end: usize,
    },
    Chance(u64),
}

impl Fate {
    fn left(&self, files: &Files) -> Files {
        let last = files.loose.len().saturating_sub(1);
        let mut random = Random(if let Fate::Chance(seed) = self { seed | 1 } else { 1 });
        let share = random.below(101);
        let mut torn = (usize::MAX, 0);
        files.left(|number, sector| match *self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Only(one) => number == one,
            Fate::Without(one) => number != one,
            Fate::OnlyPair(a, b) => number == a || number == b,
            Fate::WithoutPair(a, b) => number != a && number != b,
            Fate::Torn { first, end, rest } if number == last => {
                (first..end).contains(&sector) || (first == end && rest)
            }
            Fate::Torn { rest, .. } => rest,
            Fate::Hole { first, end } => number != last || !(first..end).contains(&sector),
            Fate::Chance(_) => {
                if torn.0 != number {
                    torn = (number, random.below(3));
                }
                match torn.1 {
                    0 => random.below(101) < share,
                    // Whole or not at all, by the thing's number.
                    _ => Random((share << 32) | (number as u64 * 7919) | 1).below(101) < share,
                }
            }
        })
    }

    /// What is tried after any call: the last write torn at every sector, from both sides, and a
    /// hole at each.
    fn of_a_prefix(files: &Files) -> Vec<Fate> {
        let mut fates = vec![Fate::Lost, Fate::Kept];
        let sectors = files.loose.last().map_or(0, super::files::Loose::sectors);
        for at in 1..sectors {
            for rest in [true, false] {
                fates.push(Fate::Torn { first: 0, end: at, rest });
                fates.push(Fate::Torn { first: at, end: sectors, rest });
            }
        }
        for size in [1, LARGE] {
            if sectors > size {
                let holes = (0..sectors).step_by(size);
                fates.extend(holes.map(|first| Fate::Hole { first, end: first + size }));
            }
        }
        fates
    }

    /// What is tried where most is loose, just before a sync has ended.
    fn of_a_barrier(files: &Files, random: &mut Random) -> Vec<Fate> {
        let loose = files.loose.len();
        let mut fates = Vec::new();
        for one in 0..loose {
            fates.extend([Fate::Only(one), Fate::Without(one)]);
        }
        if loose <= PAIRS {
            for a in 0..loose {
                for b in a + 1..loose {
                    fates.extend([Fate::OnlyPair(a, b), Fate::WithoutPair(a, b)]);
                }
            }
        }
        fates.extend((0..DRAWS).map(|_| Fate::Chance(random.below(u64::MAX))));
        fates
    }
}

/// The recorded calls of all lives.
fn record(root: &Path) -> Vec<Call> {
    let trace = Directory::quick();
    let mut reader = Reader::new(root);
    for writes in LIVES {
        let text = live(&root.join("store"), &trace.0.join("trace"), writes);
        text.lines().for_each(|line| reader.line(line));
        reader.end_of_life();
    }
    reader.calls
}

#[derive(Default)]
struct Tally {
    prefixes: usize,
    states: usize,
    bad: Vec<String>,
}

/// Judges what one fate leaves.
fn try_one(files: &Files, fate: &Fate, acks: &[Ack], root: &Path) -> Result<(), String> {
    let dir = Directory::quick();
    fate.left(files).make(root, &dir.0).map_err(|error| format!("made anew: {error}"))?;
    judge(&dir.0.join("store"), acks)
}

#[test]
fn every_prefix_and_torn_sector_of_the_calls_leaves_the_store_whole() {
    if !crate::board::command::has("strace") {
        eprintln!("SKIPPED: no strace: tests/setup.sh test installs it");
        assert!(std::env::var_os("CI").is_none(), "CI must run every room");
        return;
    }
    let named = std::env::var("EDGED_POWER_SECONDS").ok();
    let seconds = named.map_or(SECONDS, |text| text.parse().expect("a number"));
    let root = Directory::quick();
    let calls = record(&root.0);
    if std::env::var_os("EDGED_POWER_CALLS").is_some() {
        calls.iter().enumerate().for_each(|(number, call)| println!("{number}: {call:?}"));
    }
    // The first start comes first: its files are made there, once. Of the rest, moments are drawn
    // and looked at in rounds, so that what time allows is spread over all of them; a long run has
    // time for each.
    let made = calls.iter().position(|call| !said(call).is_empty()).expect("an acknowledgement");
    let mut order: Vec<usize> = (0..=calls.len()).collect();
    let mut random = Random(super::seed() | 1);
    for at in (made + 1..order.len()).rev() {
        order.swap(at, made + random.below((at - made) as u64 + 1) as usize);
    }
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut tally = Tally::default();
    for round in order.chunks(ROUND) {
        if Instant::now() < deadline {
            tally.round(&calls, round, &mut random, &root.0);
        }
    }
    let Tally { prefixes, states, bad } = tally;
    println!("{prefixes} of {} prefixes, {states} states", order.len());
    assert!(bad.is_empty(), "{} of {states}:\n{}", bad.len(), bad[..bad.len().min(20)].join("\n"));
    assert!(is_found_out(&calls, &root.0), "a disk that only claims to sync is not noticed");
}

impl Tally {
    /// Looks at some moments, from the first call on.
    fn round(&mut self, calls: &[Call], moments: &[usize], random: &mut Random, root: &Path) {
        let mut moments = moments.to_vec();
        moments.sort_unstable();
        let (mut files, mut acks, mut next) = (Files::new(root), Vec::new(), 0);
        for prefix in moments {
            for call in &calls[next..prefix] {
                files.take(call);
                acks.extend(said(call));
            }
            next = prefix;
            let mut fates = Fate::of_a_prefix(&files);
            if matches!(calls.get(prefix), Some(Call::Sync { .. } | Call::SyncDir { .. })) {
                fates.extend(Fate::of_a_barrier(&files, random));
            }
            self.prefixes += 1;
            for fate in fates {
                self.states += 1;
                if let Err(why) = try_one(&files, &fate, &acks, root) {
                    let call = calls.get(prefix);
                    self.bad.push(format!("before call {prefix}, {call:?}, {fate:?}: {why}"));
                }
            }
        }
    }
}

/// What a call says was acknowledged.
fn said(call: &Call) -> Vec<Ack> {
    let Call::Said(text) = call else { return Vec::new() };
    text.lines().filter_map(|line| parse(line, 0)).collect()
}

/// Whether the judge sees what is lost when the log's syncs are but words.
fn is_found_out(calls: &[Call], root: &Path) -> bool {
    let (mut files, mut acks) = (Files::new(root), Vec::new());
    for (number, call) in calls.iter().enumerate() {
        acks.extend(said(call));
        // The last ones of its life: what came before is in the state behind the log.
        if number + LIE < calls.len() || !matches!(call, Call::Sync { .. }) {
            files.take(call);
        }
    }
    try_one(&files, &Fate::Kept, &acks, root).is_ok()
        && try_one(&files, &Fate::Lost, &acks, root).is_err()
}
