//! Which programs a board takes: not too far from what runs, not older unless that is meant, and
//! never further back than one minor version from the newest that has run: what that wrote need
//! not be readable, and an old release, signed in its day, is not to be put back step by step.

use std::fmt;

use edge_api::release::{Skew, Version};

use super::{Slot, State};

/// A program that is brought to a board.
#[derive(Debug, Clone, Copy)]
pub struct Brought<'a> {
    /// Its version.
    pub new: &'a Version,
    /// Whether it is meant to be older than what runs.
    pub downgrade: bool,
}

/// Why a program is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another one is on trial.
    OnTrial(Version),
    /// It is too far from what runs.
    Skew {
        /// What runs.
        own: Version,
        /// What was brought.
        new: Version,
        /// Which of the two is the older.
        skew: Skew,
    },
    /// The base is newer, and would win at the next start.
    Base {
        /// The base's version.
        base: Version,
        /// What was brought.
        new: Version,
    },
    /// It is older than what runs, and nobody said that this is meant.
    Older {
        /// What runs.
        own: Version,
        /// What was brought.
        new: Version,
    },
    /// It is too far from the newest that has run.
    FarBack {
        /// The newest that has run.
        newest: Version,
        /// What was brought.
        new: Version,
    },
    /// There is nothing in the slot.
    Empty(Slot),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OnTrial(version) => {
                write!(f, "{version} is on trial here: wait until it has passed or is given up")
            }
            Refusal::Skew { own, new, skew: Skew::TooOld } => {
                write!(f, "{new} is too old for a board that runs {own}: one minor version at most")
            }
            Refusal::Skew { own, new, .. } => write!(
                f,
                "{new} is too far ahead of {own}: bring the minor versions between them first"
            ),
            Refusal::Base { base, new } => write!(
                f,
                "the board's package has edged {base}, which is newer than {new} and would win: \
                 install the older package there"
            ),
            Refusal::Older { own, new } => write!(
                f,
                "{new} is older than {own}, which runs here: say --allow-downgrade if that is meant"
            ),
            Refusal::FarBack { newest, new } => write!(
                f,
                "{new} is too old for a board on which {newest} has run: one minor version back \
                 is as far as it goes"
            ),
            Refusal::Empty(slot) => write!(f, "there is no program in slot {}", slot.name()),
        }
    }
}

impl std::error::Error for Refusal {}

impl State {
    /// Whether a program may be brought to a board that runs `own` and has `base`.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(
        &self,
        own: &Version,
        base: Option<&Version>,
        brought: Brought<'_>,
    ) -> Result<(), Refusal> {
        let Brought { new, downgrade } = brought;
        if let Some(trial) = &self.trial {
            let version = self.slot(trial.slot).map_or(own, |tried| &tried.version);
            return Err(Refusal::OnTrial(version.clone()));
        }
        match own.skew(new) {
            Skew::Near => {}
            skew => return Err(Refusal::Skew { own: own.clone(), new: new.clone(), skew }),
        }
        if let Some(base) = base.filter(|base| *base > new) {
            return Err(Refusal::Base { base: base.clone(), new: new.clone() });
        }
        if !new.is_before(own) {
            return Ok(());
        }
        let far = |newest: &&Version| newest.skew(new) == Skew::TooOld;
        match self.newest.as_ref().filter(far) {
            Some(newest) => Err(Refusal::FarBack { newest: newest.clone(), new: new.clone() }),
            None if downgrade => Ok(()),
            None => Err(Refusal::Older { own: own.clone(), new: new.clone() }),
        }
    }
}
