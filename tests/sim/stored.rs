//! A simulated server with the store's own shell: its mind, its writer, its log on files in
//! memory, its machine, history, watches and snapshots.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::consensus::{EntryKind, Fetch, Input, LogEntry, MemberId, Standing, Term, Tuning};
use edge_store::sim::{Config, Member, MemoryBase};
use edge_store::{Command as Stored, Expect as Wanted, Op, ProposeError, Watch};
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::chance::Chance;
use super::files::Memory;
use super::replica::Answer;
use super::state::{Command, Event, Expect, Gone, State, Verdict, fold};
use super::world::info;

/// Small, so that segments come and go.
const SEGMENT_BYTES: u64 = 8192;

/// What survives of such a server.
#[derive(Clone, Default)]
pub(super) struct Kept {
    files: Arc<Memory>,
    base: MemoryBase,
}

/// See the module's page.
pub(super) struct Shell {
    member: Member,
    kept: Kept,
    watch: Option<Watch>,
    writes: BTreeMap<u64, Write>,
    reads: BTreeMap<u64, Receiver<Result<u64, edge_store::BarrierError>>>,
    /// A snapshot may be on its way to the disk. The state in memory has no power to lose, so
    /// such a step is done whole or not at all.
    installing: bool,
    /// Commands of a former term that happened all the same.
    pub(super) late: Vec<Late>,
}

/// A write that waits for its answer.
struct Write {
    answer: Receiver<Result<edge_store::Applied, ProposeError>>,
    /// The term it was planned in, and the later one in which it was given to the member.
    late: Option<(Term, Term)>,
}

/// A command that was planned in the first term, and happened at this revision although it was
/// given to the member in the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late(pub(super) Term, pub(super) Term, pub(super) u64);

/// A key as the store has it.
fn name(key: u8) -> String {
    format!("k/{key:03}")
}

fn number(key: &str) -> u8 {
    key.trim_start_matches("k/").parse().expect("invariant: written here")
}

fn value(bytes: &Bytes) -> u64 {
    bytes.as_ref().try_into().map(u64::from_be_bytes).expect("invariant: written here")
}

fn seen(event: &edge_store::Event) -> Event {
    let (revision, value) = (event.revision, value(&event.value));
    Event { revision, key: number(&event.key), value }
}

impl Shell {
    pub(super) fn open(
        me: MemberId,
        kept: Kept,
        tuning: Tuning,
        seed: u64,
    ) -> Result<Shell, String> {
        let founding = match me {
            1 => edge_store::Founding::Found,
            _ => edge_store::Founding::Join,
        };
        let config = Config {
            me: info(me),
            founding,
            tuning,
            seed,
            fresh: seed | 1,
            segment_bytes: SEGMENT_BYTES,
            disk: kept.files.clone(),
            base: kept.base.clone(),
        };
        let member = Member::open(config).map_err(|error| error.to_string())?;
        let (writes, reads) = (BTreeMap::new(), BTreeMap::new());
        let late = Vec::new();
        Ok(Shell { member, kept, watch: None, writes, reads, installing: false, late })
    }

    /// Loses its power, or only its process, in the middle of whatever it was doing.
    pub(super) fn crash(mut self, chance: &mut Chance, killed: bool) -> Kept {
        let steps = chance.range(0, 2);
        let after = chance.range(0, 6);
        if !self.installing {
            self.kept.files.power_fails(after);
            for _ in 0..steps {
                self.member.write();
            }
        }
        drop(self.member);
        if killed {
            self.kept.files.process_returns();
        } else {
            self.kept.files.power_returns(chance);
        }
        self.kept
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::clone(&self.member.standing())
    }

    pub(super) fn outbox(&mut self) -> Vec<(MemberId, Bytes)> {
        self.member.send()
    }

    pub(super) fn fetch(&mut self) -> Option<Fetch> {
        self.member.fetch()
    }

    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Tick => self.member.tick(),
            Input::Message { from, bytes } => self.member.deliver(from, bytes),
            Input::Read { ticket } => {
                let answer = self.member.barrier();
                self.reads.insert(ticket, answer);
            }
            Input::Change { change, .. } => drop(self.member.change(change)),
            Input::Transfer { to } => drop(self.member.transfer(to)),
            Input::Gone { member } => self.member.gone(member),
            Input::SnapshotSent { to, ok } => self.member.snapshot_sent(to, ok),
            _ => {}
        }
    }

    /// Whether what comes now is looked at later.
    pub(super) fn hurry(&mut self, hurried: bool) {
        self.member.hurry(hurried);
    }

    pub(super) fn propose(&mut self, ticket: u64, command: &Command) {
        let expect = match command.expect {
            Expect::Any => Wanted::Any,
            Expect::Revision(0) => Wanted::Absent,
            Expect::Revision(revision) => Wanted::Revision(revision),
        };
        let value = Bytes::copy_from_slice(&command.value.to_be_bytes());
        let put = Op::Put { key: name(command.key), value, stamp: None, expect };
        let term = Some(command.term).filter(|term| *term != 0);
        let now = self.member.standing().term;
        let late = term.filter(|planned| *planned < now).map(|planned| (planned, now));
        let answer = self.member.propose(Stored { ops: vec![put], term });
        self.writes.insert(ticket, Write { answer, late });
    }

    pub(super) fn is_busy(&self) -> bool {
        self.member.is_busy()
    }

    pub(super) fn work(&mut self) {
        self.member.write();
        self.installing &= self.member.is_busy();
    }

    pub(super) fn commit(&mut self) {
        self.member.commit();
    }

    pub(super) fn snapshot(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.member.snapshot(&mut bytes).ok().map(|_| bytes)
    }

    pub(super) fn fetched(&mut self, fetch: Fetch, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => {
                self.installing = true;
                self.member.fetched(fetch, Ok(&mut bytes.as_slice()));
            }
            None => self.member.fetched(fetch, Err("it was cut off".to_owned())),
        }
    }

    /// What came of what was asked.
    pub(super) fn answers(&mut self) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        let term = self.member.standing().term;
        self.writes.retain(|ticket, write| {
            let answer = match write.answer.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Ok(Ok(applied)) => {
                    let late = write.late.map(|(from, to)| Late(from, to, applied.revision));
                    self.late.extend(late);
                    Answer::Written(applied.revision, term, Verdict::Done)
                }
                Ok(Err(ProposeError::Conflict { .. })) => {
                    Answer::Written(0, term, Verdict::Conflict)
                }
                Ok(Err(ProposeError::StaleTerm { .. })) => Answer::Written(0, term, Verdict::Stale),
                Ok(Err(ProposeError::NotLeader { leader })) => {
                    Answer::Refused(edge_core::consensus::Refusal::NotLeader { leader })
                }
                Ok(Err(ProposeError::Busy)) => Answer::Refused(edge_core::consensus::Refusal::Busy),
                Ok(Err(_)) | Err(TryRecvError::Closed) => Answer::Unknown,
            };
            answers.push((*ticket, answer));
            false
        });
        self.reads.retain(|ticket, answer| {
            let answer = match answer.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Ok(Ok(_)) => Answer::Readable,
                _ => Answer::Unknown,
            };
            answers.push((*ticket, answer));
            false
        });
        answers
    }

    /// Brings `state` up to the store's by its watch, or by a list when there is none; gives the
    /// events as entries.
    pub(super) fn follow(&mut self, state: &mut State) -> Vec<(LogEntry, Option<Verdict>, u64)> {
        let mut news = Vec::new();
        let lagged = match &mut self.watch {
            None => true,
            Some(watch) => loop {
                match watch.try_next() {
                    Ok(Some(event)) => {
                        let event = seen(&event);
                        put(state, event);
                        news.push((entry(event), Some(Verdict::Done), state.digest));
                    }
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            },
        };
        let standing = self.member.standing();
        if lagged {
            self.list(state);
        }
        state.applied = (self.member.revision(), 0);
        state.members = standing.members.clone();
        news
    }

    fn list(&mut self, state: &mut State) {
        let Ok(listing) = self.member.list("", &Default::default()) else { return };
        *state = State::default();
        for found in &listing.entries {
            let (key, value) = (number(&found.key), value(&found.value));
            put(state, Event { revision: found.revision, key, value });
        }
        self.watch = self.member.watch("", listing.revision).ok();
    }

    /// A watch that goes on from a revision, as a client's does.
    pub(super) fn since(&self, revision: u64) -> Result<Vec<Event>, Gone> {
        let mut watch = self.member.watch("", revision).map_err(|gone| match gone {
            gone if gone.from > gone.current => Gone::Future,
            _ => Gone::Compacted,
        })?;
        let mut events = Vec::new();
        while let Ok(Some(event)) = watch.try_next() {
            events.push(seen(&event));
        }
        Ok(events)
    }

    /// The history is cut, as the store does above its bounds.
    pub(super) fn compact(&self, revision: u64) {
        self.member.compact(revision);
    }
}

/// The digest is over the contents, since a list has no history.
fn put(state: &mut State, event: Event) {
    let Event { revision, key, value } = event;
    let of = |revision, value| fold(fold(fold(7, u64::from(key)), revision), value);
    let keys = Rc::make_mut(&mut state.keys);
    if let Some((revision, value)) = keys.insert(key, (revision, value)) {
        state.digest ^= of(revision, value);
    }
    state.digest ^= of(revision, value);
}

fn entry(event: Event) -> LogEntry {
    let Event { revision, key, value } = event;
    let command = Command { key, value, expect: Expect::Any, term: 0 };
    LogEntry { term: 0, index: revision, kind: EntryKind::Command, data: command.encode() }
}
