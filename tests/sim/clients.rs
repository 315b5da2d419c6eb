//! Clients that write, compare-and-write and read, each one thing at a time, and remember what
//! they were told and when.

use super::replica::Answer;
use super::state::{Command, Expect, Verdict};
use super::world::{Asker, Event, Reply, What, World};
use edge_core::consensus::{MemberId, Refusal};

/// Keys that clients use.
pub(super) const KEYS: u64 = 3;

/// After so long a client gives up: what it asked for may still happen.
const PATIENCE: u64 = 400_000;

/// What a client waits for.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) ticket: u64,
    pub(super) key: u8,
    /// What was acknowledged before the call: of this key, and of all.
    pub(super) floor: (u64, u64),
    deadline: u64,
}

pub(super) struct Client {
    pub(super) call: Option<Call>,
    target: MemberId,
    /// The newest revision of each key that this client knows.
    known: [u64; KEYS as usize],
    pub(super) acknowledged_since_heal: u64,
}

impl Client {
    pub(super) fn new(number: usize) -> Client {
        let target = number as u64 + 1;
        Client { call: None, target, known: [0; KEYS as usize], acknowledged_since_heal: 0 }
    }
}

impl World {
    pub(super) fn client(&mut self, number: usize) {
        let now = self.now;
        if self.checks.quiet {
            return;
        }
        if let Some(call) = &self.clients[number].call {
            if call.deadline > now {
                return;
            }
            self.clients[number].call = None;
            self.retarget(number, None);
        }
        let key = self.chance.range(0, KEYS - 1) as u8;
        let what = match self.chance.range(0, 9) {
            0..4 => What::Read(key),
            kind => {
                let value = self.fresh_value();
                let revision = self.clients[number].known[usize::from(key)];
                let expect = if kind < 8 { Expect::Revision(revision) } else { Expect::Any };
                self.checks.calls(value);
                What::Write(Command { key, value, expect, term: 0 })
            }
        };
        let ticket = self.ask(Asker::Client(number), what);
        let floor = self.checks.floor(key);
        let patience = self.chance.range(PATIENCE / 2, PATIENCE);
        let call = Call { ticket, key, floor, deadline: now + patience };
        self.clients[number].call = Some(call);
        let (id, delay) = (self.clients[number].target, self.weather.delay(&mut self.chance));
        self.after(delay, Event::Request { id, ticket, forward: 0 });
        self.after(patience, Event::Client(number));
    }

    fn retarget(&mut self, number: usize, hint: Option<MemberId>) {
        let other = self.some_server();
        self.clients[number].target = hint.unwrap_or(other);
    }

    pub(super) fn client_answer(&mut self, number: usize, ticket: u64, what: &What, reply: Reply) {
        let Some(call) = self.clients[number].call.take_if(|call| call.ticket == ticket) else {
            if let (What::Write(command), Reply::Answer(answer)) = (what, &reply) {
                self.settle_write(command.value, answer);
            }
            return;
        };
        let healing = self.healing;
        let client = &mut self.clients[number];
        match (what, &reply) {
            (What::Read(key), Reply::Read { found, applied }) => {
                client.known[usize::from(*key)] = found.0;
                client.acknowledged_since_heal += u64::from(healing);
                self.checks.read(&call, *found, *applied);
            }
            (What::Write(command), Reply::Answer(answer)) => {
                if let Answer::Written(revision, term, Verdict::Done) = answer {
                    client.known[usize::from(command.key)] = *revision;
                    client.acknowledged_since_heal += u64::from(healing);
                    self.checks.acknowledged(&call, command, *revision, *term);
                }
                self.settle_write(command.value, answer);
            }
            _ => {}
        }
        match reply {
            Reply::Answer(Answer::Refused(Refusal::NotLeader { leader })) => {
                self.retarget(number, leader);
            }
            Reply::Answer(Answer::Written(_, _, Verdict::Conflict)) => {
                self.clients[number].known[usize::from(call.key)] = 0;
            }
            _ if self.chance.permille(100) => self.retarget(number, None),
            _ => {}
        }
        let pause = self.chance.range(0, 30_000);
        self.after(pause, Event::Client(number));
    }

    /// What was refused for good must never happen.
    fn settle_write(&mut self, value: u64, answer: &Answer) {
        let never = matches!(
            answer,
            Answer::Refused(_) | Answer::Written(_, _, Verdict::Conflict | Verdict::Stale)
        );
        if never {
            self.checks.refused(value);
        }
    }
}
