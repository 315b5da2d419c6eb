//! Which of a board's programs runs: the one that the package put there (*base*), or one of two
//! slots that upgrades fill in turn. A program in a slot is on trial until it has said that all is
//! well; one that doesn't in time, or is started too often, is given up, and what ran before runs
//! again; after its trial it is watched for a while ([`Watch`]). Decided at each start from a small
//! file, before anything else is opened.

mod admit;
mod blake2b;
mod keep;
mod minisign;
#[cfg(test)]
mod tests;
mod watch;

use edge_api::release::Version;

pub use admit::{Brought, Refusal};
pub use blake2b::Blake2b;
pub use minisign::{PublicKey, Signature, SignatureError};
pub use watch::{Life, MOST_CRASHES, WATCH_S, Watch};

/// How often a program on trial is started before it is given up.
pub const MOST_STARTS: u32 = 3;
/// Seconds that a trial takes at most, where nobody says otherwise.
pub const DEADLINE_S: u32 = 60;
/// The longest trial that may be asked for, in seconds.
pub const LONGEST_S: u32 = 600;

/// A place for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// Its directory's name.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

/// A program that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The package's.
    Base,
    /// A slot's.
    Slot(Slot),
}

/// What is in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its version, as its file says.
    pub version: Version,
    /// The file's SHA-256, in hexadecimal digits.
    pub digest: String,
    /// The file's length.
    pub bytes: u64,
    /// Whether it has passed its trial.
    pub proven: bool,
}

/// A moment by the clock that begins when a board boots, which nobody sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The kernel's boot id.
    pub boot: String,
    /// Seconds since then.
    pub up_s: u64,
}

/// A program that has not yet shown that all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Where it is.
    pub slot: Slot,
    /// How often it was started.
    pub starts: u32,
    /// It was started by another program, which counted that.
    pub handed: bool,
    /// Seconds that the trial takes at most.
    pub deadline_s: u32,
    /// When it was started first.
    pub began: Option<Moment>,
}

/// The last program that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its version.
    pub version: String,
    /// What was wrong with it.
    pub why: String,
}

/// All that a board knows of its programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// What is in the first slot.
    pub a: Option<Installed>,
    /// What is in the second.
    pub b: Option<Installed>,
    /// The slot that runs; `None` for the base.
    pub current: Option<Slot>,
    /// What is being tried.
    pub trial: Option<Trial>,
    /// What runs, as long as it may still be led back from.
    pub watch: Option<Watch>,
    /// What was given up last, until the next one passes.
    pub failed: Option<Failure>,
    /// The newest that ever passed its trial here.
    pub newest: Option<Version>,
}

/// The program that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its version.
    pub version: Version,
    /// Where it is.
    pub place: Target,
    /// When its process began, in the kernel's ticks since the boot: `exec` does not change it.
    pub began: u64,
    /// Its process's number.
    pub pid: u32,
}

/// What a program does at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It runs.
    Stay,
    /// It runs, and is given up unless it is well within so many seconds.
    Prove {
        /// What is left of them.
        within_s: u32,
    },
    /// It becomes another program.
    Become(Target),
}

/// What a program does at its start, and what must be on the disk before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub step: Step,
    /// What to keep first; `None` when nothing changes. Where it cannot be kept, nothing is tried,
    /// and nothing is led back.
    pub keep: Option<State>,
}

impl State {
    /// What is in a slot.
    pub fn slot(&self, slot: Slot) -> Option<&Installed> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    fn slot_mut(&mut self, slot: Slot) -> &mut Option<Installed> {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// What a program that starts is to do at `now`.
    pub fn start(&self, own: &Own, now: &Moment) -> Verdict {
        let mut next = self.clone();
        if let Some(why) = next.trial_is_over(own, now) {
            next.give_up(&why);
        }
        let step = match &mut next.trial {
            Some(trial) => {
                // Ends are the trial's now.
                if let Some(watch) = &mut next.watch {
                    watch.life = None;
                }
                let began = trial.began.get_or_insert_with(|| now.clone());
                let passed =
                    if began.boot == now.boot { now.up_s.saturating_sub(began.up_s) } else { 0 };
                let left = u64::from(trial.deadline_s).saturating_sub(passed);
                match own.place == Target::Slot(trial.slot) {
                    true => {
                        trial.starts += u32::from(!trial.handed);
                        trial.handed = false;
                        Step::Prove { within_s: u32::try_from(left).unwrap_or(0).max(1) }
                    }
                    false => {
                        trial.starts += 1;
                        trial.handed = true;
                        Step::Become(Target::Slot(trial.slot))
                    }
                }
            }
            None => {
                next.look_back(own, now);
                next.settled(own)
            }
        };
        Verdict { step, keep: (next != *self).then_some(next) }
    }

    /// Why the trial is at its end before this start, if it is.
    fn trial_is_over(&self, own: &Own, now: &Moment) -> Option<String> {
        let trial = self.trial.as_ref()?;
        let Some(new) = self.slot(trial.slot) else { return Some("its file is gone".to_owned()) };
        if own.place == Target::Base && own.version > new.version {
            return Some(format!("the board's package has {} meanwhile", own.version));
        }
        if trial.handed && own.place == Target::Slot(trial.slot) {
            return None;
        }
        let began = trial.began.as_ref().filter(|began| began.boot == now.boot);
        let late = began.is_some_and(|began| {
            now.up_s.saturating_sub(began.up_s) >= u64::from(trial.deadline_s)
        });
        if late {
            let deadline = trial.deadline_s;
            return Some(format!("it was not healthy within {deadline} s, and ended"));
        }
        (trial.starts >= MOST_STARTS)
            .then(|| format!("it ended {} times before it was healthy", trial.starts))
    }

    /// What runs when nothing is on trial.
    fn settled(&self, own: &Own) -> Step {
        let current = self.current.filter(|slot| self.slot(*slot).is_some());
        match (own.place, current) {
            (Target::Base, None) => Step::Stay,
            (Target::Base, Some(slot)) => match self.slot(slot) {
                Some(new) if new.version >= own.version => Step::Become(Target::Slot(slot)),
                _ => Step::Stay,
            },
            (Target::Slot(own), Some(slot)) if own == slot => Step::Stay,
            (Target::Slot(_), Some(slot)) => Step::Become(Target::Slot(slot)),
            (Target::Slot(_), None) => Step::Become(Target::Base),
        }
    }

    /// What a program other than `server` and `agent` is to do: it tries nothing and counts
    /// nothing.
    pub fn tool(&self, own: &Own) -> Step {
        self.settled(own)
    }

    /// Where the next program goes: not where one runs.
    pub fn free(&self) -> Slot {
        self.current.map_or(Slot::A, Slot::other)
    }

    /// Notes that a program is in a slot.
    pub fn install(&mut self, slot: Slot, program: Installed) {
        *self.slot_mut(slot) = Some(program);
    }

    /// Notes that a slot is about to be filled anew. To what was there nothing leads back.
    pub fn clear(&mut self, slot: Slot) {
        *self.slot_mut(slot) = None;
        self.watch = self.watch.take().filter(|watch| watch.before != Target::Slot(slot));
    }

    /// Puts a slot on trial; it begins with the next start.
    ///
    /// # Errors
    /// When it is empty, or something is on trial.
    pub fn begin(&mut self, slot: Slot, deadline_s: u32) -> Result<(), Refusal> {
        let Some(program) = self.slot(slot) else { return Err(Refusal::Empty(slot)) };
        if self.trial.is_some() {
            return Err(Refusal::OnTrial(program.version.clone()));
        }
        let deadline_s = deadline_s.clamp(1, LONGEST_S);
        self.trial = Some(Trial { slot, starts: 0, handed: false, deadline_s, began: None });
        Ok(())
    }

    /// Says what runs now, which is what a trial goes back to. A base that is newer than the
    /// current slot runs in its place, and the slot is not to come back.
    pub fn runs(&mut self, place: Target) {
        if place == Target::Base {
            self.current = None;
        }
    }

    /// All is well: what was on trial is what runs from now on, as this process.
    pub fn confirm(&mut self, life: Life) {
        let Some(trial) = self.trial.take() else { return };
        if let Some(program) = self.slot_mut(trial.slot) {
            program.proven = true;
            let ran = Some(program.version.clone());
            self.newest = self.newest.take().max(ran);
        }
        let before = self.current.map_or(Target::Base, Target::Slot);
        self.watch = Some(Watch { before, crashes: 0, life: Some(life) });
        self.current = Some(trial.slot);
        self.failed = None;
    }

    /// What is on trial is given up; what ran before runs on.
    pub fn give_up(&mut self, why: &str) {
        let Some(trial) = self.trial.take() else { return };
        self.fails(trial.slot, why);
    }

    /// A slot's program could not be started at all.
    pub fn could_not_run(&mut self, slot: Slot, why: &str) {
        if self.trial.as_ref().is_some_and(|trial| trial.slot == slot) {
            return self.give_up(why);
        }
        self.fails(slot, why);
        if self.current == Some(slot) {
            let before = slot.other();
            self.watch = None;
            self.current = self.slot(before).is_some_and(|p| p.proven).then_some(before);
        }
    }

    fn fails(&mut self, slot: Slot, why: &str) {
        let version = self.slot(slot).map_or("unknown".into(), |p| p.version.to_string());
        self.failed = Some(Failure { version, why: why.to_owned() });
        self.clear(slot);
    }
}
