//! After its trial: a program may crash some seconds after it was taken for well, and what ran
//! before lies in the other slot. So ends that nobody asked for are counted until it has once run
//! for long without one. What ends for want of current has booted since, and does not count.

use super::{Moment, Own, State, Target};

/// So many ends that nobody asked for lead back.
pub const MOST_CRASHES: u32 = 3;
/// A program that has run so many seconds without a break is watched no more.
pub const WATCH_S: u64 = 600;

/// A process, by the clock that begins when a board boots: `exec` does not change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The kernel's boot id.
    pub boot: String,
    /// When the process began, in the kernel's ticks since the boot.
    pub began: u64,
    /// Its number; 0 if that is not known.
    pub pid: u32,
}

/// A program that has passed its trial, and has not yet run for long without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What ran before it, and runs again if need be.
    pub before: Target,
    /// How often it ended without being told to.
    pub crashes: u32,
    /// Its process, until that one is told to end.
    pub life: Option<Life>,
}

impl Watch {
    /// Whether it is told, by `life`, that the process before this one crashed.
    fn counts(&self, life: &Life) -> bool {
        let here = |last: &&Life| !last.boot.is_empty() && last.boot == life.boot;
        self.life.as_ref().filter(here).is_some_and(|last| last.began != life.began)
    }
}

impl State {
    /// Notes a start of what has passed its trial, and goes back from it if it has crashed too
    /// often.
    pub(super) fn look_back(&mut self, own: &Own, now: &Moment) {
        let Some(mut watch) = self.watch.take() else { return };
        let program = self.current.and_then(|slot| self.slot(slot));
        let (Some(slot), Some(program)) = (self.current, program) else { return };
        if own.place == Target::Base && own.version > program.version {
            return;
        }
        let life = Life { boot: now.boot.clone(), began: own.began, pid: own.pid };
        watch.crashes += u32::from(watch.counts(&life));
        if watch.crashes < MOST_CRASHES {
            self.watch = Some(Watch { life: Some(life), ..watch });
            return;
        }
        self.current = match watch.before {
            Target::Base => None,
            Target::Slot(before) => Some(before),
        };
        let crashes = watch.crashes;
        self.fails(slot, &format!("it passed its trial, and then crashed {crashes} times"));
    }

    /// What runs was told to end: that is no crash. Whether that is to be kept.
    pub fn told_to_end(&mut self) -> bool {
        self.watch.as_mut().is_some_and(|watch| watch.life.take().is_some())
    }

    /// What runs has run for long. Whether that is to be kept.
    pub fn trust(&mut self) -> bool {
        self.watch.take().is_some()
    }
}
