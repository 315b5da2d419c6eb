//! Tests of a member among others, in memory: what is sent arrives unless it is cut, what is to be
//! written is written at once unless the disk is held.

mod changes;
mod elections;
mod hostile;
mod reads;
mod snapshots;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::*;

/// A board: a member, its disk, and what it has applied.
pub(super) struct Board {
    pub(super) member: Option<Member>,
    pub(super) disk: Start,
    pub(super) state: Vec<LogEntry>,
    pub(super) held: bool,
    pub(super) pending: VecDeque<Persist>,
    pub(super) fetches: Vec<Fetch>,
}

/// Some boards and the wires between them.
pub(super) struct Room {
    pub(super) boards: BTreeMap<MemberId, Board>,
    wires: VecDeque<(MemberId, MemberId, Bytes)>,
    pub(super) cut: BTreeSet<(MemberId, MemberId)>,
    pub(super) placed: Vec<(u64, Index, Term)>,
    pub(super) refused: Vec<(u64, Refusal)>,
    pub(super) reads: Vec<(u64, Index)>,
    pub(super) tuning: Tuning,
    pub(super) install: bool,
    pub(super) sent: usize,
    /// Who does not get round to its messages, and those.
    busy: Option<MemberId>,
    waiting: Vec<(MemberId, Bytes)>,
}

pub(super) fn info(id: MemberId) -> MemberInfo {
    let api = format!("https://10.0.0.{id}:6443");
    MemberInfo { id, name: format!("board-{id}"), api, broker: format!("10.0.0.{id}:8883") }
}

impl Room {
    /// `count` voters that begin together, at entry 1 of term 1.
    pub(super) fn new(count: u64) -> Room {
        let members = Members::founders((1..=count).map(info));
        let mut room = Room {
            boards: BTreeMap::new(),
            wires: VecDeque::new(),
            cut: BTreeSet::new(),
            placed: Vec::new(),
            refused: Vec::new(),
            reads: Vec::new(),
            tuning: Tuning::default(),
            install: true,
            sent: 0,
            busy: None,
            waiting: Vec::new(),
        };
        for id in 1..=count {
            let hard = HardState { term: 1, vote: 0, commit: 1 };
            let applied = (1, 1);
            room.add(id, Start { hard, members: members.clone(), applied, entries: vec![] });
        }
        room
    }

    pub(super) fn add(&mut self, id: MemberId, disk: Start) {
        let board = Board {
            member: None,
            disk,
            state: vec![],
            held: false,
            pending: VecDeque::new(),
            fetches: vec![],
        };
        self.boards.insert(id, board);
        self.start(id);
    }

    pub(super) fn start(&mut self, id: MemberId) {
        let tuning = self.tuning;
        let board = self.board(id);
        board.pending.clear();
        board.member = Some(Member::new(id, board.disk.clone(), tuning, 7).expect("it starts"));
        self.run();
    }

    pub(super) fn crash(&mut self, id: MemberId) {
        self.board(id).member = None;
        self.wires.retain(|(_, to, _)| *to != id);
    }

    pub(super) fn board(&mut self, id: MemberId) -> &mut Board {
        self.boards.get_mut(&id).expect("a board")
    }

    pub(super) fn standing(&mut self, id: MemberId) -> Standing {
        self.board(id).member.as_ref().expect("it runs").standing()
    }

    pub(super) fn step(&mut self, id: MemberId, input: Input) {
        if let Some(member) = self.board(id).member.as_mut() {
            member.step(input);
        }
        self.run();
    }

    /// From here on, what is sent to this member waits for `catch_up`.
    pub(super) fn keep_busy(&mut self, id: MemberId) {
        self.busy = Some(id);
    }

    /// The busy member takes everything that waits, and then `inputs`, before it looks at what
    /// comes of it.
    pub(super) fn catch_up(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let Some(id) = self.busy.take() else { return };
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let messages = waiting.map(|(from, bytes)| Input::Message { from, bytes });
        if let Some(member) = self.board(id).member.as_mut() {
            messages.chain(inputs).for_each(|input| member.step(input));
        }
        self.run();
    }

    pub(super) fn tick(&mut self, times: usize) {
        for _ in 0..times {
            for id in self.boards.keys().copied().collect::<Vec<_>>() {
                self.step(id, Input::Tick);
            }
        }
    }

    pub(super) fn elect(&mut self) -> MemberId {
        for _ in 0..100 {
            self.tick(1);
            if let Some(id) = self.leader() {
                return id;
            }
        }
        panic!("nobody leads");
    }

    pub(super) fn leader(&mut self) -> Option<MemberId> {
        let running = self.boards.iter().filter_map(|(id, b)| Some((id, b.member.as_ref()?)));
        let leads = running.filter(|(_, m)| m.standing().ready);
        leads.max_by_key(|(_, m)| m.standing().term).map(|(id, _)| *id)
    }

    pub(super) fn isolate(&mut self, id: MemberId) {
        for other in self.boards.keys() {
            self.cut.insert((id, *other));
            self.cut.insert((*other, id));
        }
    }

    pub(super) fn write(&mut self, id: MemberId, ticket: u64) {
        let data = Bytes::from(format!("write {ticket}"));
        self.step(id, Input::Propose { ticket, data });
    }

    /// Until nothing moves.
    pub(super) fn run(&mut self) {
        loop {
            let mut moved = false;
            for id in self.boards.keys().copied().collect::<Vec<_>>() {
                while let Some(out) = self.board(id).member.as_mut().and_then(Member::outcome) {
                    self.absorb(id, out);
                    moved = true;
                }
                moved |= self.sync(id);
            }
            if let Some((from, to, bytes)) = self.wires.pop_front() {
                moved = true;
                if self.busy == Some(to) {
                    self.waiting.push((from, bytes));
                } else if let Some(member) =
                    self.boards.get_mut(&to).and_then(|b| b.member.as_mut())
                {
                    member.step(Input::Message { from, bytes });
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn sync(&mut self, id: MemberId) -> bool {
        let board = self.board(id);
        if board.held {
            return false;
        }
        let Some(write) = board.pending.pop_front() else { return false };
        let disk = &mut board.disk;
        disk.hard = write.hard.unwrap_or(disk.hard);
        if let Some(from) = write.truncate_from {
            disk.entries.retain(|entry| entry.index < from);
        }
        disk.entries.extend(write.entries);
        if let Some(member) = &mut board.member {
            member.step(Input::Persisted { number: write.number });
        }
        true
    }

    fn absorb(&mut self, id: MemberId, out: Outcome) {
        self.placed.extend(out.placed);
        self.refused.extend(out.refused);
        self.reads.extend(out.reads);
        for (to, bytes) in out.send {
            self.sent += 1;
            if !self.cut.contains(&(id, to)) {
                self.wires.push_back((id, to, bytes));
            }
        }
        let board = self.board(id);
        board.pending.extend(out.persist);
        for entry in out.apply {
            let (index, term) = (entry.index, entry.term);
            assert_eq!(index, board.disk.applied.0 + 1, "in order, each once");
            let next = board.disk.members.after(&entry);
            board.disk.members = next.clone().unwrap_or(board.disk.members.clone());
            board.disk.applied = (index, term);
            if entry.kind == EntryKind::Command && !entry.data.is_empty() {
                board.state.push(entry);
            }
            let member = board.member.as_mut().expect("it runs");
            member.step(Input::Applied { index, term, members: next });
        }
        if let Some(fetch) = out.fetch {
            board.fetches.push(fetch);
            if self.install && !self.cut.contains(&(id, fetch.from)) {
                self.fetch(id, fetch);
            }
        }
    }

    fn fetch(&mut self, id: MemberId, fetch: Fetch) {
        let from = self.board(fetch.from);
        let (applied, members) = (from.disk.applied, from.disk.members.clone());
        let state = from.state.clone();
        assert!(applied.0 >= fetch.index);
        let tuning = self.tuning;
        let board = self.board(id);
        let mut own = board.disk.clone();
        own.entries.retain(|entry| entry.index > own.applied.0);
        if super::install(&own, applied.0, applied.1) == Install::Replace {
            board.disk = Start { hard: own.hard, members, applied, entries: vec![] };
            board.state = state;
            board.pending.clear();
            board.member = Some(Member::new(id, board.disk.clone(), tuning, 8).expect("it starts"));
        }
    }

    /// A restart sees the log behind what is applied only.
    pub(super) fn restart(&mut self, id: MemberId) {
        self.crash(id);
        let disk = &mut self.board(id).disk;
        let applied = disk.applied.0;
        disk.entries.retain(|entry| entry.index > applied);
        self.start(id);
    }

    pub(super) fn words(&mut self, id: MemberId) -> Vec<String> {
        let text = |entry: &LogEntry| String::from_utf8_lossy(&entry.data).into_owned();
        self.board(id).state.iter().map(text).collect()
    }
}
