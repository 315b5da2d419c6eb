//! The world: what is in it, its clock, and what happens next.

use std::collections::BTreeMap;

use bytes::Bytes;
use edge_core::consensus::{Fetch, MemberId, MemberInfo, Members, Tuning};

use super::boards::Board;
use super::chance::Chance;
use super::check::Checks;
use super::clients::Client;
use super::net::{Cuts, Weather};
use super::replica::{Answer, Disk, Replica, Snapshot};
use super::state::{Command, State, fold};
use super::stored::Kept;
use super::watchers::Watcher;

/// A tick of the brains, in microseconds: times are a fifth of what they are on boards.
pub(super) const TICK: u64 = 20_000;

/// What happens, and to whom. `life` tells a restarted server from what it was before.
#[derive(Clone)]
pub(super) enum Event {
    Deliver {
        from: MemberId,
        to: MemberId,
        bytes: Bytes,
    },
    Tick {
        id: MemberId,
        life: u64,
    },
    Work {
        id: MemberId,
        life: u64,
    },
    Fetched {
        id: MemberId,
        life: u64,
        fetch: Fetch,
        snapshot: Option<Box<Snapshot>>,
    },
    Drive {
        id: MemberId,
        life: u64,
    },
    /// A server that took several things at once looks at what comes of them.
    Settle {
        id: MemberId,
        life: u64,
    },
    /// A write or a read comes to a server. Followers pass on what `forward` says.
    Request {
        id: MemberId,
        ticket: u64,
        forward: u8,
    },
    Respond {
        ticket: u64,
        reply: Reply,
    },
    Client(usize),
    Watch(usize),
    Board(usize),
    Beat {
        id: MemberId,
        board: usize,
    },
    BoardBack(usize),
    Gone {
        id: MemberId,
        member: MemberId,
    },
    Restart(MemberId),
    Mend,
    /// The founder of a stored cluster takes the next member in.
    Grow,
    Fault,
    Heal,
    Judge,
}

/// What comes back from a server.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Answer(Answer),
    /// A read's key as it was, and the state it was read from.
    Read {
        found: (u64, u64),
        applied: u64,
    },
    /// A list, for those who can't go on watching.
    List {
        state: Box<State>,
    },
}

/// What was asked for with a ticket.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) who: Asker,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Client(usize),
    Watcher(usize),
    Board(usize),
    Driver,
    Admin,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Write(Command),
    Read(u8),
    List,
}

/// A server: running or not, paused or not.
pub(super) struct Server {
    pub(super) run: Option<Replica>,
    pub(super) disk: Option<Disk>,
    pub(super) life: u64,
    pub(super) paused_until: u64,
    pub(super) working: bool,
    /// It left the cluster for good.
    pub(super) left: bool,
    /// When each board was last heard, and since when this server leads and is ready.
    pub(super) beats: BTreeMap<usize, u64>,
    pub(super) ready_since: Option<(u64, u64)>,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(super) servers: BTreeMap<MemberId, Server>,
    pub(super) cuts: Cuts,
    pub(super) weather: Weather,
    pub(super) tuning: Tuning,
    /// Decides which servers take several things at once; in every second world none does.
    pub(super) haste: Option<Chance>,
    pub(super) clients: Vec<Client>,
    pub(super) watchers: Vec<Watcher>,
    pub(super) boards: Vec<Board>,
    pub(super) asks: BTreeMap<u64, Ask>,
    pub(super) ticket: u64,
    pub(super) value: u64,
    pub(super) checks: Checks,
    pub(super) healing: bool,
    pub(super) healed_at: u64,
    pub(super) done: bool,
    pub(super) trace: u64,
    pub(super) events: u64,
    pub(super) fetched: u64,
    pub(super) log: Option<Vec<String>>,
}

pub(super) fn info(id: MemberId) -> MemberInfo {
    let api = format!("https://10.0.0.{id}:6443");
    MemberInfo { id, name: format!("board-{id}"), api, broker: format!("10.0.0.{id}:8883") }
}

impl World {
    /// A world from a seed; `stored` puts the store's own shell around every brain.
    pub(super) fn new(seed: u64, stored: bool) -> World {
        let mut chance = Chance::new(seed);
        let tuning = Tuning {
            tail_bytes: chance.range(600, 6000) as usize,
            tail_bytes_idle: chance.range(200, 600) as usize,
            max_message_bytes: chance.range(300, 3000) as usize,
            ..Tuning::default()
        };
        let founders = chance.pick(&[1, 2, 3, 3, 3, 3, 5, 5]).unwrap_or(3);
        let mut world = World {
            weather: Weather::any(&mut chance),
            chance,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            servers: BTreeMap::new(),
            cuts: Cuts::default(),
            tuning,
            haste: (seed.is_multiple_of(2)).then(|| Chance::new(!seed)),
            clients: Vec::new(),
            watchers: Vec::new(),
            boards: Vec::new(),
            asks: BTreeMap::new(),
            ticket: 0,
            value: 0,
            checks: Checks::default(),
            healing: false,
            healed_at: 0,
            done: false,
            trace: seed,
            events: 0,
            fetched: 0,
            log: None,
        };
        world.people(if stored { 0 } else { founders });
        world
    }

    fn people(&mut self, founders: u64) {
        let members = Members::founders((1..=founders).map(info));
        for id in 1..=5 {
            let mut disk = Disk::default();
            if founders == 0 {
                disk.kept = Some(Kept::default());
            } else if id <= founders {
                disk.base = State::new(members.clone());
                disk.base.applied = (1, 1);
                (disk.hard.term, disk.hard.commit) = (1, 1);
            }
            self.add_server(id, disk);
        }
        if founders == 0 {
            (1..8).for_each(|round| self.after(round * 40_000, Event::Grow));
        }
        for client in 0..3 {
            self.clients.push(Client::new(client));
            let at = self.chance.range(0, 50_000);
            self.after(at, Event::Client(client));
        }
        for watcher in 0..2 {
            self.watchers.push(Watcher::new());
            let at = self.chance.range(0, 50_000);
            self.after(at, Event::Watch(watcher));
        }
        for board in 0..3 {
            self.boards.push(Board::new());
            let at = self.chance.range(0, 50_000);
            self.after(at, Event::Board(board));
        }
        let length = self.chance.range(1_500_000, 4_000_000);
        let first = self.chance.range(100_000, 400_000);
        self.after(first, Event::Fault);
        self.after(length, Event::Heal);
    }

    pub(super) fn add_server(&mut self, id: MemberId, disk: Disk) {
        let server = Server {
            run: None,
            disk: Some(disk),
            life: 0,
            paused_until: 0,
            working: false,
            left: false,
            beats: BTreeMap::new(),
            ready_since: None,
        };
        self.servers.insert(id, server);
        self.start(id);
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), event);
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            log.push(format!("{:>9.3} {}", now as f64 / 1000.0, what()));
        }
    }

    /// A ticket for a question.
    pub(super) fn ask(&mut self, who: Asker, what: What) -> u64 {
        self.ticket += 1;
        self.asks.insert(self.ticket, Ask { who, what });
        self.ticket
    }

    /// A value that nobody else writes.
    pub(super) fn fresh_value(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    /// Runs until everything is judged or a rule is broken.
    pub(super) fn run(&mut self) {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            self.events += 1;
            self.mark(&event);
            self.happen(event);
            if self.done || self.checks.broken.is_some() {
                return;
            }
        }
    }

    /// Everything that happens goes into the trace.
    fn mark(&mut self, event: &Event) {
        let mut number = |part: u64| self.trace = fold(self.trace, part);
        number(self.now);
        match event {
            Event::Deliver { from, to, bytes } => {
                number(from << 8 | to);
                bytes.chunks(8).for_each(|part| {
                    number(part.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
                });
            }
            Event::Tick { id, life }
            | Event::Work { id, life }
            | Event::Drive { id, life }
            | Event::Settle { id, life } => number(id << 32 | life),
            Event::Respond { ticket, .. } | Event::Request { ticket, .. } => number(*ticket),
            _ => {}
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client(client) => self.client(client),
            Event::Watch(watcher) => self.watch(watcher),
            Event::Board(board) => self.board(board),
            Event::BoardBack(board) => self.board_back(board),
            Event::Respond { ticket, reply } => self.respond(ticket, reply),
            Event::Restart(id) => self.start(id),
            Event::Mend => self.cuts.heal(),
            Event::Grow => self.grow(),
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
            Event::Judge => self.judge(),
            event => self.serve(event),
        }
    }

    fn respond(&mut self, ticket: u64, reply: Reply) {
        let Some(ask) = self.asks.remove(&ticket) else { return };
        match ask.who {
            Asker::Client(client) => self.client_answer(client, ticket, &ask.what, reply),
            Asker::Watcher(watcher) => self.watch_answer(watcher, reply),
            Asker::Board(board) => self.board_answer(board, ticket, &ask.what, reply),
            Asker::Driver | Asker::Admin => {}
        }
    }

    /// The servers that run and have not left.
    pub(super) fn running(&self) -> Vec<MemberId> {
        let up = self.servers.iter().filter(|(_, server)| server.run.is_some());
        up.map(|(id, _)| *id).collect()
    }

    /// Some server to go to. Once everything heals, people know which ones are of use.
    pub(super) fn some_server(&mut self) -> MemberId {
        let useful = |server: &Server| {
            let run = server.run.as_ref();
            run.is_some_and(|run| !self.healing || run.standing.leader.is_some())
        };
        let useful = self.servers.iter().filter(|(_, server)| useful(server));
        let ids: Vec<_> = useful.map(|(id, _)| *id).collect();
        self.chance.pick(&ids).unwrap_or(1)
    }

    pub(super) fn leaders(&self) -> Vec<MemberId> {
        let leads = |server: &Server| {
            server.run.as_ref().is_some_and(|run| run.standing.leader == Some(run.standing.me))
        };
        self.servers.iter().filter(|(_, server)| leads(server)).map(|(id, _)| *id).collect()
    }
}
