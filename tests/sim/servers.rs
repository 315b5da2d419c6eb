//! What happens to servers: messages, ticks, disks, requests, crashes.

use edge_core::consensus::{Input, MemberId, Refusal};

use super::replica::{Answer, Replica};
use super::world::{Event, Reply, TICK, What, World};

/// How often followers pass a write on before it is refused.
const FORWARDS: u8 = 2;

/// How often, in thousandths, a message is taken without a look at what comes of it, and for how
/// many microseconds at most.
const HASTE: u64 = 300;
const HASTE_MOST: u64 = 3000;

/// How many of a thousand crashes, in the same worlds, leave the kernel alive.
const KILLED: u64 = 600;

impl World {
    /// Starts a server with what its disk holds.
    pub(super) fn start(&mut self, id: MemberId) {
        let seed = self.chance.next();
        let (tuning, healing) = (self.tuning, self.healing);
        let Some(server) = self.servers.get_mut(&id) else { return };
        if server.left {
            return;
        }
        let Some(disk) = server.disk.take() else { return };
        server.life += 1;
        server.working = false;
        server.ready_since = None;
        server.beats.clear();
        if healing {
            server.paused_until = 0;
        }
        let life = server.life;
        self.note(|| format!("start {id} life {life}"));
        match Replica::open(id, disk, tuning, seed) {
            Ok(run) => {
                self.checks.started(id, &run);
                if let Some(server) = self.servers.get_mut(&id) {
                    server.run = Some(run);
                }
            }
            Err(error) => return self.checks.breaks("votes and entries survive", || error),
        }
        self.after(seed % TICK, Event::Tick { id, life });
        self.after(seed % 50_000, Event::Drive { id, life });
        self.collect(id);
    }

    /// A server loses its power, or is killed.
    pub(super) fn crash(&mut self, id: MemberId) {
        let killed = self.haste.as_mut().is_some_and(|haste| haste.permille(KILLED));
        let Some(server) = self.servers.get_mut(&id) else { return };
        let Some(run) = server.run.take() else { return };
        server.disk = Some(run.crash(&mut self.chance, killed));
        self.note(|| format!("crash {id}"));
    }

    /// Events for one server. A paused one sees them when it goes on.
    pub(super) fn serve(&mut self, event: Event) {
        let (id, life) = match &event {
            Event::Deliver { to, .. } => (*to, None),
            Event::Tick { id, life }
            | Event::Work { id, life }
            | Event::Drive { id, life }
            | Event::Settle { id, life } => (*id, Some(*life)),
            Event::Fetched { id, life, .. } => (*id, Some(*life)),
            Event::Request { id, .. } | Event::Beat { id, .. } | Event::Gone { id, .. } => {
                (*id, None)
            }
            _ => return,
        };
        let now = self.now;
        let Some(server) = self.servers.get_mut(&id) else { return };
        if server.run.is_none() || life.is_some_and(|life| life != server.life) {
            return;
        }
        if server.paused_until > now {
            let wait = server.paused_until - now;
            // A queue in front of it is bounded: most of what comes meanwhile is dropped.
            let dropped = matches!(event, Event::Deliver { .. }) && self.chance.permille(700);
            if !dropped {
                self.after(wait, event);
            }
            return;
        }
        self.serve_now(id, event);
        self.collect(id);
    }

    fn serve_now(&mut self, id: MemberId, event: Event) {
        match event {
            Event::Request { ticket, forward, .. } => return self.request(id, ticket, forward),
            Event::Drive { life, .. } => {
                let next = self.chance.range(30_000, 80_000);
                self.after(next, Event::Drive { id, life });
                return self.drive(id);
            }
            Event::Beat { board, .. } => {
                let now = self.now;
                if let Some(server) = self.servers.get_mut(&id) {
                    server.beats.insert(board, now);
                }
                return;
            }
            _ => {}
        }
        let commit = self.chance.permille(60);
        let later = self
            .haste
            .as_mut()
            .and_then(|haste| haste.permille(HASTE).then(|| haste.range(0, HASTE_MOST)));
        let Some(server) = self.servers.get_mut(&id) else { return };
        let Some(run) = server.run.as_mut() else { return };
        match event {
            Event::Deliver { from, bytes, .. } => match later {
                Some(later) => {
                    run.take(Input::Message { from, bytes });
                    let life = server.life;
                    self.after(later, Event::Settle { id, life });
                }
                None => run.input(Input::Message { from, bytes }),
            },
            Event::Settle { .. } => run.settle(),
            Event::Gone { member, .. } => run.input(Input::Gone { member }),
            Event::Tick { life, .. } => {
                run.input(Input::Tick);
                self.after(TICK, Event::Tick { id, life });
            }
            Event::Work { .. } => {
                server.working = false;
                run.work();
                if commit {
                    run.commit();
                }
            }
            Event::Fetched { fetch, snapshot, .. } => {
                run.fetched(fetch, snapshot.map(|snapshot| *snapshot))
            }
            _ => {}
        }
    }

    fn request(&mut self, id: MemberId, ticket: u64, forward: u8) {
        let Some(what) = self.asks.get(&ticket).map(|ask| ask.what.clone()) else { return };
        let Some(run) = self.servers.get_mut(&id).and_then(|server| server.run.as_mut()) else {
            return;
        };
        let leader = run.standing.leader;
        match what {
            What::Write(command) if leader == Some(id) || forward >= FORWARDS => {
                run.propose(ticket, &command);
            }
            What::Write(_) => match leader {
                Some(leader) if self.cuts.open(id, leader) => {
                    let delay = self.weather.delay(&mut self.chance);
                    let forward = forward + 1;
                    self.after(delay, Event::Request { id: leader, ticket, forward });
                }
                leader => {
                    run.answers.push((ticket, Answer::Refused(Refusal::NotLeader { leader })))
                }
            },
            What::Read(_) | What::List => run.input(Input::Read { ticket }),
        }
    }

    /// Takes what a server has to say: messages, answers, work.
    pub(super) fn collect(&mut self, id: MemberId) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let Some(run) = server.run.as_mut() else { return };
        let life = server.life;
        let outbox = std::mem::take(&mut run.outbox);
        let answers = std::mem::take(&mut run.answers);
        let fetch = run.fetch.take();
        let work = run.is_busy() && !server.working;
        server.working |= work;
        let ready = run.standing.ready;
        let term = run.standing.term;
        match server.ready_since {
            Some((since, _)) if ready && since == term => {}
            _ => server.ready_since = ready.then_some((term, self.now)),
        }
        self.checks.observe(id, run, &outbox);
        for (to, bytes) in outbox {
            if !self.cuts.open(id, to) {
                continue;
            }
            for delay in self.weather.arrivals(&mut self.chance) {
                self.after(delay, Event::Deliver { from: id, to, bytes: bytes.clone() });
            }
        }
        for (ticket, answer) in answers {
            self.answer(id, ticket, answer);
        }
        if work {
            let delay = self.weather.sync(&mut self.chance);
            self.after(delay, Event::Work { id, life });
        }
        if let Some(fetch) = fetch {
            self.fetch(id, life, fetch);
        }
    }

    fn answer(&mut self, id: MemberId, ticket: u64, answer: Answer) {
        let Some(ask) = self.asks.get(&ticket) else { return };
        let what = ask.what.clone();
        let Some(run) = self.servers.get(&id).and_then(|server| server.run.as_ref()) else {
            return;
        };
        let reply = match (answer, what) {
            (Answer::Readable, What::Read(key)) => {
                let found = run.state.keys.get(&key).copied().unwrap_or_default();
                Reply::Read { found, applied: run.state.applied.0 }
            }
            (Answer::Readable, What::List) => Reply::List { state: Box::new(run.state.clone()) },
            (answer, _) => Reply::Answer(answer),
        };
        let delay = self.weather.delay(&mut self.chance);
        self.after(delay, Event::Respond { ticket, reply });
    }

    fn fetch(&mut self, id: MemberId, life: u64, fetch: edge_core::consensus::Fetch) {
        self.fetched += 1;
        self.note(|| format!("{id} fetches {fetch:?}"));
        let reachable = self.cuts.both_open(id, fetch.from) && !self.chance.permille(100);
        let source = self
            .servers
            .get_mut(&fetch.from)
            .filter(|server| reachable && server.paused_until <= self.now);
        let snapshot = source.and_then(|server| server.run.as_mut()).and_then(|run| {
            let snapshot = run.snapshot().map(Box::new);
            (run.standing.leader == Some(fetch.from)).then(|| {
                run.input(Input::SnapshotSent { to: id, ok: true });
            });
            snapshot
        });
        let delay = self.chance.range(1000, 60_000);
        self.after(delay, Event::Fetched { id, life, fetch, snapshot });
        self.collect(fetch.from);
    }
}
