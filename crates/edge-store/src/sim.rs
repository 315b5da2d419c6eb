//! One member without threads and clocks, for the simulator: the same mind, hand, log, machine,
//! history and snapshots as in a [`crate::Store`], on a [`Disk`] of the caller's and a state in
//! memory. Hidden from the documentation: nothing but tests may depend on it.
//!
//! The caller owns time, chance and order:
//!
//! - [`Member::tick`], [`Member::deliver`], [`Member::propose`], … feed the mind and settle it;
//! - [`Member::send`] gives the messages that are to go out, [`Member::fetch`] a snapshot that is
//!   to be fetched (answer with [`Member::fetched`]);
//! - [`Member::write`] does one step of the writer (a batch with its sync, or applying what was
//!   committed, or an installation): until it is called, the disk is busy;
//! - [`Member::commit`] has the state committed and the log's old segments removed;
//! - answers come out of oneshot receivers: use `try_recv`.
//!
//! A crash is dropping the member. [`Member::open`] with the same [`MemoryBase`] and the same disk
//! is the restart; what the disk lost by then is the disk's business.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::consensus::{Change, Fetch, Index, MemberId, MemberInfo, Standing, Tuning};
use tokio::sync::oneshot::{Receiver, channel};

pub use crate::base::memory::MemoryBase;
use crate::command::{Applied, Command};
use crate::entry::{Entry, ListOptions, Listing, Revision};
use crate::error::{
    BarrierError, ChangeError, Gone, OpenError, ProposeError, ReadError, SnapshotError,
};
use crate::event::{Event, Proposal, Work};
use crate::hand::Hand;
use crate::home::Home;
use crate::limits::SLACK_BYTES;
use crate::log::LogConfig;
use crate::log::disk::Disk;
use crate::mind::{Begin, Mind};
use crate::open::{Opener, open};
use crate::store::Founding;
use crate::watch::Watch;
use crate::{install, read, snapshot};

/// How a member begins.
#[derive(Clone)]
pub struct Config {
    /// Who it is.
    pub me: MemberInfo,
    /// What an empty disk becomes.
    pub founding: Founding,
    /// The cluster's timing.
    pub tuning: Tuning,
    /// Decides the election timeouts.
    pub seed: u64,
    /// A number that no other store of this run has; also for every snapshot that is installed.
    pub fresh: u64,
    /// The size of a log segment.
    pub segment_bytes: u64,
    /// Where the log is.
    pub disk: Arc<dyn Disk>,
    /// Where the state is.
    pub base: MemoryBase,
}

/// A member; see the module's page.
pub struct Member {
    mind: Mind,
    hand: Hand,
    home: Home,
    fresh: u64,
    send: Vec<(MemberId, Bytes)>,
    fetch: Option<Fetch>,
    hurried: bool,
}

impl Member {
    /// Starts, or starts again.
    pub fn open(config: Config) -> Result<Member, OpenError> {
        let Config { me, founding, tuning, seed, fresh, segment_bytes, disk, base } = config;
        let home = Home::memory(base);
        let log = LogConfig { dir: home.log(), disk, segment_bytes };
        let id = me.id;
        let opener = Opener { me, founding, begun: false, config: log, fresh };
        let (replica, start) = open(home.clone(), &opener)?;
        let hand = Hand::new(replica);
        let begin = Begin {
            me: id,
            tuning,
            seed,
            slack: SLACK_BYTES.min(segment_bytes / 8),
            status: hand.status(),
            dir: home.dir(),
        };
        let mind = Mind::new(begin, start).map_err(|error| OpenError::Foreign {
            path: PathBuf::from("memory"),
            why: error.to_string(),
        })?;
        let mut member =
            Member { mind, hand, home, fresh, send: Vec::new(), fetch: None, hurried: false };
        member.settle();
        Ok(member)
    }

    fn settle(&mut self) {
        let effects = self.mind.settle();
        self.hand.take(effects.work);
        self.send.extend(effects.send);
        self.fetch = effects.fetch.or(self.fetch);
        for answer in effects.handed_over {
            // Whoever waits may have stopped waiting.
            let _ = answer.send(Ok(()));
        }
    }

    fn event(&mut self, event: Event) {
        self.mind.step(event);
        if !self.hurried {
            self.settle();
        }
    }

    /// A hurried member takes what is fed to it and looks at what comes of that later, all at
    /// once, as a brain does whose thread had to wait.
    pub fn hurry(&mut self, hurried: bool) {
        self.hurried = hurried;
        if !hurried {
            self.settle();
        }
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.event(Event::Tick);
    }

    /// Whether ticks change anything.
    pub fn needs_ticks(&self) -> bool {
        self.mind.needs_ticks()
    }

    /// A message came.
    pub fn deliver(&mut self, from: MemberId, bytes: Bytes) {
        self.event(Event::Message { from, bytes });
    }

    /// The messages that are to go out, in their order.
    pub fn send(&mut self) -> Vec<(MemberId, Bytes)> {
        std::mem::take(&mut self.send)
    }

    /// Asks for a command.
    pub fn propose(&mut self, command: Command) -> Receiver<Result<Applied, ProposeError>> {
        let (answer, answered) = channel();
        match command.check() {
            Ok(()) => {
                let data = Bytes::from(command.encode());
                self.event(Event::Propose(Proposal { command, data, answer, _held: None }));
            }
            Err(error) => drop(answer.send(Err(error))),
        }
        answered
    }

    /// Asks for a linearizable read point.
    pub fn barrier(&mut self) -> Receiver<Result<Index, BarrierError>> {
        let (answer, answered) = channel();
        self.event(Event::Barrier(answer));
        answered
    }

    /// Asks for other members.
    pub fn change(&mut self, change: Change) -> Receiver<Result<(), ChangeError>> {
        let (answer, answered) = channel();
        self.event(Event::Change { change, answer });
        answered
    }

    /// Asks for another leader.
    pub fn transfer(&mut self, to: Option<MemberId>) -> Receiver<Result<(), ChangeError>> {
        let (answer, answered) = channel();
        self.event(Event::Transfer { to, answer });
        answered
    }

    /// Two brokers saw this member's last will.
    pub fn gone(&mut self, member: MemberId) {
        self.event(Event::Gone(member));
    }

    /// What was last sent there did not arrive.
    pub fn unreachable(&mut self, member: MemberId) {
        self.event(Event::Unreachable(member));
    }

    /// A member has fetched its snapshot from here, or failed to.
    pub fn snapshot_sent(&mut self, to: MemberId, ok: bool) {
        self.event(Event::SnapshotSent { to, ok });
    }

    /// A snapshot that is to be fetched now; answer with `fetched`.
    pub fn fetch(&mut self) -> Option<Fetch> {
        self.fetch.take()
    }

    /// What came of a fetch.
    pub fn fetched(&mut self, fetch: Fetch, input: Result<&mut dyn Read, String>) {
        self.fresh = self.fresh.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let built = input.and_then(|input| {
            install::build(&self.home, self.fresh, input).map_err(|error| error.to_string())
        });
        let built = built.and_then(|built| match built.head.index < fetch.index {
            true => Err("a snapshot that is too old".to_owned()),
            false => Ok(built),
        });
        self.event(Event::Fetched(built));
    }

    /// Whether the writer has something to do.
    pub fn is_busy(&self) -> bool {
        !self.hand.is_idle()
    }

    /// Does one step of the writer's work, and tells the mind; answers whether there was any.
    pub fn write(&mut self) -> bool {
        let stepped = self.hand.step();
        while let Some((done, status)) = self.hand.done() {
            self.event(Event::Done(done, status));
        }
        stepped
    }

    /// Has what was applied committed to the state, as the writer does when enough has gathered.
    pub fn commit(&mut self) {
        if self.hand.can_commit() {
            let (store, commit) = self.hand.commit();
            let result = commit.run();
            self.hand.take([Work::Committed(store, result)]);
        }
    }

    /// Where the member stands.
    pub fn standing(&self) -> Arc<Standing> {
        self.mind.standing().clone()
    }

    /// Reads one key, as `Store::get`.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, ReadError> {
        read::get(&self.hand.replica.shared, key)
    }

    /// Lists keys, as `Store::list`.
    pub fn list(&self, prefix: &str, options: &ListOptions) -> Result<Listing, ReadError> {
        read::list(&self.hand.replica.shared, prefix, options)
    }

    /// Watches keys, as `Store::watch`; use `Watch::try_next`.
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Gone> {
        Watch::begin(self.hand.replica.shared.clone(), prefix, from)
    }

    /// Forgets the history up to a revision, as `Store::compact`.
    pub fn compact(&self, revision: Revision) {
        let mut state = self.hand.replica.shared.write();
        let revision = revision.min(state.machine.revision());
        state.machine.history.forget(revision);
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.hand.replica.shared.read().machine.revision()
    }

    /// Writes a snapshot, as `Store::snapshot`.
    pub fn snapshot(&self, out: &mut dyn Write) -> Result<Revision, SnapshotError> {
        Ok(snapshot::write(&self.hand.replica.shared, out)?.0)
    }
}
