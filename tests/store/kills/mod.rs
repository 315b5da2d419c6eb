//! Three stores in processes of their own, over a wire that loses, doubles, delays and reorders,
//! killed at any moment, one, two or all of them, also while they start, or stopped for a while.
//! After each round all hold the same, and everything that was acknowledged.
//!
//! `EDGE_KILLS_SECONDS` runs it for that long, `EDGE_KILLS_SEED` from another seed. The directory
//! of a run that fails is kept.

mod member;
mod wire;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use edge_core::consensus::MemberId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::wire::Router;
use super::{Directory, Random, child, name_of};

/// Tells a child who it is.
const LIFE: &str = "EDGE_KILLS_LIFE";
const MEMBERS: [MemberId; 3] = [1, 2, 3];
/// The parent's place among the addresses.
const PARENT: MemberId = 0;
const REGISTERS: u64 = 4;

/// How long the part of every test run takes.
const SECONDS: u64 = 8;
/// How long a cluster may take to be one again: elections need tenths of a second.
const SOON: Duration = Duration::from_secs(30);

fn address(base: &Path, id: MemberId) -> PathBuf {
    base.join(format!("wire-{id}"))
}

fn register(number: u64) -> String {
    format!("register/{number}")
}

/// What parent and children say to each other.
#[derive(Clone, Debug, PartialEq)]
enum Say {
    /// Write, or stop writing.
    Work(bool),
    /// Say what you hold.
    Show(u64),
    /// A register was written at a revision.
    Written(u64, u64),
    /// What a member holds.
    Shown { question: u64, revision: u64, digest: u64, voters: u64, registers: Vec<u64> },
}

impl Say {
    fn encode(&self) -> Vec<u8> {
        let numbers = match self {
            Say::Work(work) => vec![1, u64::from(*work)],
            Say::Show(question) => vec![2, *question],
            Say::Written(number, revision) => vec![3, *number, *revision],
            Say::Shown { question, revision, digest, voters, registers } => {
                let mut numbers = vec![4, *question, *revision, *digest, *voters];
                numbers.extend(registers);
                numbers
            }
        };
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Say {
        let number = |part: &[u8]| u64::from_le_bytes(part.try_into().unwrap());
        let numbers: Vec<u64> = bytes.chunks(8).map(number).collect();
        match numbers[..] {
            [1, work] => Say::Work(work == 1),
            [2, question] => Say::Show(question),
            [3, number, revision] => Say::Written(number, revision),
            [4, question, revision, digest, voters, ref registers @ ..] => {
                let registers = registers.to_vec();
                Say::Shown { question, revision, digest, voters, registers }
            }
            _ => panic!("{numbers:?}"),
        }
    }
}

/// The three, their wire and what was heard of them.
struct Field {
    base: Directory,
    router: Router,
    heard: Receiver<(MemberId, Say)>,
    children: BTreeMap<MemberId, Child>,
    random: Random,
    segment_bytes: u64,
    acknowledged: BTreeMap<u64, u64>,
    kills: u64,
    writes: u64,
    question: u64,
}

impl Field {
    fn new(seed: u64, segment_bytes: u64) -> Field {
        let base = Directory::quick();
        let (router, heard) = Router::new(&base.0, seed);
        let mut field = Field {
            base,
            router,
            heard,
            children: BTreeMap::new(),
            random: Random(seed),
            segment_bytes,
            acknowledged: BTreeMap::new(),
            kills: 0,
            writes: 0,
            question: 0,
        };
        MEMBERS.into_iter().for_each(|id| field.start(id));
        field.same(|voters| voters == MEMBERS.len() as u64);
        field
    }

    fn start(&mut self, id: MemberId) {
        let log = self.base.0.join(format!("log-{id}"));
        let log: File = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let sync = [0, 300, 4000][self.random.below(3) as usize];
        let seed = self.random.below(1 << 40);
        let life = format!("{id} {} {seed} {sync}", self.segment_bytes);
        let mut command = child(&name_of(member_module(), "lives"), &self.base.0);
        command.env(LIFE, life).stdout(Stdio::null()).stderr(log);
        self.children.insert(id, command.spawn().unwrap());
        self.router.tell(id, &Say::Work(true));
    }

    fn kill(&mut self, id: MemberId) {
        let Some(mut child) = self.children.remove(&id) else { return };
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "member {id} ended: {}", self.last_words(id));
        child.kill().unwrap();
        child.wait().unwrap();
        self.kills += 1;
    }

    fn last_words(&self, id: MemberId) -> String {
        std::fs::read_to_string(self.base.0.join(format!("log-{id}"))).unwrap_or_default()
    }

    fn wait(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.random.below(most + 1)));
    }

    fn some(&mut self) -> MemberId {
        MEMBERS[self.random.below(3) as usize]
    }

    fn fault(&mut self) {
        let (one, other) = (self.some(), self.some());
        match self.random.below(6) {
            0 => {
                self.kill(one);
                self.wait(400);
                self.start(one);
            }
            1 => {
                for _ in 0..2 {
                    self.kill(one);
                    self.start(one);
                    self.wait(300);
                }
            }
            2 => {
                MEMBERS.into_iter().for_each(|id| self.kill(id));
                for position in 0..3 {
                    self.wait(150);
                    self.start(MEMBERS[(one as usize + position) % 3]);
                }
            }
            3 => {
                self.kill(one);
                self.wait(60);
                self.kill(other);
                self.wait(300);
                self.start(one);
                if other != one {
                    self.wait(100);
                    self.start(other);
                }
            }
            // What waits for a stopped one comes all at once.
            4 => self.stop(one),
            _ => self.wait(200),
        }
    }

    fn stop(&mut self, id: MemberId) {
        let pid = Pid::from_raw(self.children[&id].id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        self.wait(300);
        kill(pid, Signal::SIGCONT).unwrap();
    }

    /// Faults while everybody writes; then all must hold the same.
    fn round(&mut self) {
        for id in MEMBERS {
            self.router.tell(id, &Say::Work(true));
        }
        let weather = [(0, 0, 0), (20, 50, 5), (100, 100, 30)][self.random.below(3) as usize];
        self.router.weather(weather);
        self.wait(150);
        for _ in 0..=self.random.below(3) {
            self.fault();
            self.wait(250);
        }
        self.router.weather((0, 0, 0));
        self.same(|_| true);
    }

    /// Stops the writing and waits until all three stand at one revision, with as many voters as
    /// they should be. Whoever has just been started may not have heard yet what is committed.
    fn same(&mut self, voters: impl Fn(u64) -> bool) {
        let begun = Instant::now();
        let mut last = BTreeMap::new();
        while begun.elapsed() < SOON {
            self.question += 1;
            for id in MEMBERS {
                self.router.tell(id, &Say::Work(false));
                self.router.tell(id, &Say::Show(self.question));
                let ended = self.children.get_mut(&id).unwrap().try_wait().unwrap();
                assert!(ended.is_none(), "member {id} ended: {}", self.last_words(id));
            }
            let shown = self.listen();
            if self.meet(&shown, &voters) {
                return;
            }
            last = shown;
        }
        panic!("they do not meet: {last:?}; {}", MEMBERS.map(|id| self.last_words(id)).join("\n"));
    }

    /// What the three answer to the last question.
    fn listen(&mut self) -> BTreeMap<MemberId, Say> {
        let (mut shown, until) = (BTreeMap::new(), Instant::now() + Duration::from_millis(60));
        while shown.len() < 3 {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((from, say)) = self.heard.recv_timeout(left) else { break };
            match say {
                Say::Written(register, revision) => {
                    self.writes += 1;
                    let newest = self.acknowledged.entry(register).or_default();
                    *newest = revision.max(*newest);
                }
                Say::Shown { question, .. } if question == self.question => {
                    shown.insert(from, say);
                }
                _ => {}
            }
        }
        shown
    }

    /// Whether all stand at one revision and have what was acknowledged. At one revision they may
    /// not hold different things.
    fn meet(&self, shown: &BTreeMap<MemberId, Say>, voters: &impl Fn(u64) -> bool) -> bool {
        let mut held = Vec::new();
        for say in shown.values() {
            let Say::Shown { revision, digest, voters: count, registers, .. } = say else {
                panic!("{say:?}")
            };
            let has = |(number, newest): (&u64, &u64)| registers[*number as usize] >= *newest;
            if !voters(*count) || !self.acknowledged.iter().all(has) {
                return false;
            }
            held.push((*revision, *digest));
        }
        let first = held.first().copied().unwrap_or_default();
        let level = held.len() == MEMBERS.len() && held.iter().all(|(at, _)| *at == first.0);
        assert!(!level || held.iter().all(|each| *each == first), "they differ: {shown:?}");
        level
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let kept = self.base.0.with_extension("kept");
            let _ = std::fs::rename(&self.base.0, &kept);
            eprintln!("everything is kept in {}", kept.display());
        }
    }
}

fn member_module() -> &'static str {
    concat!(module_path!(), "::member")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn members_killed_at_any_moment_stay_the_same() {
    let seconds = number("EDGE_KILLS_SECONDS").unwrap_or(SECONDS);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut seed = number("EDGE_KILLS_SEED").unwrap_or(1);
    let (mut rounds, mut kills, mut writes) = (0, 0, 0);
    while Instant::now() < until {
        let segment_bytes = [8, 64, 4096][(seed % 3) as usize] * 1024;
        eprintln!("seed {seed}: segments of {segment_bytes} bytes");
        let mut field = Field::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, segment_bytes);
        for _ in 0..40 {
            field.round();
            rounds += 1;
            if Instant::now() >= until {
                break;
            }
        }
        (kills, writes) = (kills + field.kills, writes + field.writes);
        println!("{rounds} rounds, {kills} kills, {writes} acknowledged writes");
        seed += 1;
    }
    assert!(writes > 50, "only {writes} writes");
}
