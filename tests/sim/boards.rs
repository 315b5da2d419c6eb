//! Boards that run a singleton pod, and the driver that places it: the leader's plans carry its
//! term, a pod moves only when the board that had it says that it has stopped.

use edge_core::consensus::MemberId;

use super::replica::Answer;
use super::state::{Command, Expect, Gone};
use super::world::{Asker, Event, Reply, What, World};

pub(super) const POD: u8 = 10;
pub(super) const ENDPOINTS: u8 = 11;

/// A board that was not heard for so long is silent.
const GRACE: u64 = 150_000;

/// Where boards are among the ends of wires.
pub(super) const BOARD_END: u64 = 100;

/// What the pod's object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pod {
    Pending,
    Bound(usize),
    /// The board is to stop it and to say so.
    Leaving(usize),
    Released,
}

impl Pod {
    pub(super) fn read(value: u64) -> Pod {
        let board = (value >> 8) as usize;
        match value & 0xff {
            1 => Pod::Bound(board),
            2 => Pod::Leaving(board),
            3 => Pod::Released,
            _ => Pod::Pending,
        }
    }

    fn value(self) -> u64 {
        match self {
            Pod::Pending => 0,
            Pod::Bound(board) => (board as u64) << 8 | 1,
            Pod::Leaving(board) => (board as u64) << 8 | 2,
            Pod::Released => 3,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) up: bool,
    pub(super) paused_until: u64,
    server: MemberId,
    seen: u64,
    listing: bool,
    asked_at: u64,
    /// The newest pod that it knows: revision and value.
    pod: (u64, u64),
    pub(super) running: bool,
    /// What it would start after a reboot; on its disk.
    ledger: Option<(u64, u64)>,
    released_at: u64,
}

impl Board {
    pub(super) fn new() -> Board {
        Board {
            up: true,
            paused_until: 0,
            server: 1,
            seen: 0,
            listing: true,
            asked_at: 0,
            pod: (0, 0),
            running: false,
            ledger: None,
            released_at: 0,
        }
    }

    pub(super) fn crash(&mut self) {
        self.up = false;
        self.running = false;
    }

    /// After a reboot it starts what its ledger says, whoever can be reached.
    fn back(&mut self) {
        self.up = true;
        (self.seen, self.listing, self.asked_at) = (0, true, 0);
        self.pod = self.ledger.unwrap_or_default();
        self.running = self.ledger.is_some();
    }

    /// Takes a newer pod; an older one is nothing.
    fn learn(&mut self, me: usize, revision: u64, value: u64) {
        if revision <= self.pod.0 {
            return;
        }
        self.pod = (revision, value);
        self.running = Pod::read(value) == Pod::Bound(me);
        self.ledger = self.running.then_some(self.pod);
    }
}

impl World {
    pub(super) fn board_back(&mut self, number: usize) {
        self.boards[number].back();
        self.note(|| format!("board {number} is back"));
        self.count_pods();
    }

    pub(super) fn count_pods(&mut self) {
        let running = self.boards.iter().filter(|board| board.running).count();
        self.checks.pods(running);
    }

    pub(super) fn board(&mut self, number: usize) {
        let pause = self.chance.range(25_000, 75_000);
        self.after(pause, Event::Board(number));
        let board = &self.boards[number];
        if !board.up || board.paused_until > self.now {
            return;
        }
        let end = BOARD_END + number as u64;
        for id in self.running() {
            if self.cuts.open(end, id) {
                for delay in self.weather.arrivals(&mut self.chance) {
                    self.after(delay, Event::Beat { id, board: number });
                }
            }
        }
        self.follow(number, end);
        self.release(number);
        self.count_pods();
    }

    /// Watches the pod on some server.
    fn follow(&mut self, number: usize, end: u64) {
        let now = self.now;
        let board = &self.boards[number];
        let (id, seen) = (board.server, board.seen);
        let reached = self.cuts.both_open(end, id) && !self.chance.permille(30);
        let run = self.servers.get(&id).filter(|server| reached && server.paused_until <= now);
        let run = run.and_then(|server| server.run.as_ref());
        // A server that no leader is known to serves what it has for a while.
        let lost = self.healing || self.chance.permille(200);
        let run = run.filter(|run| !lost || run.standing.leader.is_some());
        let Some(run) = run else {
            let other = self.some_server();
            self.boards[number].server = other;
            return;
        };
        let board = &mut self.boards[number];
        if board.listing {
            if board.asked_at + 100_000 < now {
                board.asked_at = now;
                let ticket = self.ask(Asker::Board(number), What::List);
                self.after(300, Event::Request { id, ticket, forward: 0 });
            }
            return;
        }
        match run.since(seen) {
            Ok(events) => {
                board.seen = run.state.applied.0;
                for event in events.iter().filter(|event| event.key == POD) {
                    board.learn(number, event.revision, event.value);
                }
            }
            Err(Gone::Compacted) => board.listing = true,
            Err(Gone::Future) => board.server = id % 5 + 1,
        }
    }

    /// Says that the pod has stopped, until somebody has heard it.
    fn release(&mut self, number: usize) {
        let board = &self.boards[number];
        let (revision, value) = board.pod;
        let due = board.released_at + 100_000 < self.now;
        if Pod::read(value) != Pod::Leaving(number) || !due {
            return;
        }
        self.boards[number].released_at = self.now;
        let command = Command {
            key: POD,
            value: Pod::Released.value(),
            expect: Expect::Revision(revision),
            term: 0,
        };
        let id = self.boards[number].server;
        let ticket = self.ask(Asker::Board(number), What::Write(command));
        let delay = self.weather.delay(&mut self.chance);
        self.after(delay, Event::Request { id, ticket, forward: 0 });
    }

    pub(super) fn board_answer(&mut self, number: usize, _ticket: u64, _what: &What, reply: Reply) {
        let board = &mut self.boards[number];
        match reply {
            Reply::List { state } if board.listing && board.up => {
                board.seen = state.applied.0;
                board.listing = false;
                if let Some((revision, value)) = state.keys.get(&POD) {
                    board.learn(number, *revision, *value);
                }
            }
            Reply::Answer(Answer::Refused(_)) => board.released_at = 0,
            _ => {}
        }
        self.count_pods();
    }

    /// A ready leader looks at what it knows and plans one step.
    pub(super) fn drive(&mut self, id: MemberId) {
        let now = self.now;
        let drains = !self.healing && self.chance.permille(60);
        let Some(server) = self.servers.get(&id) else { return };
        let (Some(run), Some((term, since))) = (&server.run, server.ready_since) else { return };
        if !run.standing.ready {
            return;
        }
        let heard = |board: usize| server.beats.get(&board).copied().unwrap_or(0);
        let live: Vec<usize> = (0..3).filter(|board| heard(*board) + GRACE > now).collect();
        let silent = |board: usize| heard(board).max(since) + GRACE <= now;
        let (revision, value) = run.state.keys.get(&POD).copied().unwrap_or_default();
        let (at, shown) = run.state.keys.get(&ENDPOINTS).copied().unwrap_or_default();
        let pod = Pod::read(value);
        let next = match pod {
            Pod::Pending | Pod::Released => self.chance.pick(&live).map(Pod::Bound),
            Pod::Bound(board) if silent(board) || drains => Some(Pod::Leaving(board)),
            Pod::Bound(_) | Pod::Leaving(_) => None,
        };
        let wanted = match pod {
            Pod::Bound(board) if live.contains(&board) => board as u64 + 1,
            _ => 0,
        };
        let mut plans = Vec::new();
        plans.extend(next.map(|pod| (POD, pod.value(), revision)));
        plans.extend((wanted != shown).then_some((ENDPOINTS, wanted, at)));
        for (key, value, revision) in plans {
            let expect = Expect::Revision(revision);
            let command = Command { key, value, expect, term };
            let ticket = self.ask(Asker::Driver, What::Write(command));
            // Between plan and proposal the world goes on.
            let late = if self.chance.permille(200) { 150_000 } else { 2000 };
            let delay = self.chance.range(0, late);
            self.after(delay, Event::Request { id, ticket, forward: 0 });
        }
    }
}
