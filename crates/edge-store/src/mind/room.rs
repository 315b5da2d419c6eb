//! What a member does for want of room on its disk. A leader that has to refuse writes hands over
//! to one that need not; until it has room again a member is shy: it votes and follows as far as
//! it can, and leads only if nobody else does.

use std::collections::BTreeSet;

use edge_core::consensus::{Input, Member, MemberId};

use super::{Absence, Mind};
use crate::error::ProposeError;
use crate::event::Work;
use crate::limits::OVERLAY_BYTES_HARD;

/// Election timeouts after which a leader without room tries anew those that did not take over.
const TRY_AGAIN: u64 = 10;

/// What is wanting, and what was done about it.
#[derive(Default)]
pub(super) struct Want {
    /// Bytes of log that were asked for last.
    asked: u64,
    /// Bytes of log that there is no room for.
    log: Option<u64>,
    /// What the member was told.
    pub(super) shy: bool,
    /// Those that the lead was offered to; the last one until this tick.
    tried: BTreeSet<MemberId>,
    until: u64,
    /// A person was told.
    told: bool,
    /// Room was granted, and the log has taken nothing since.
    granted: bool,
}

impl Mind {
    /// Whether the state can take more before it is committed; refuses what waits if it can't
    /// for want of room on the disk.
    pub(super) fn has_overlay_room(&mut self) -> bool {
        if self.status.overlay < OVERLAY_BYTES_HARD {
            return true;
        }
        if let Some(detail) = self.status.failed.clone() {
            self.refuse_or_yield(&detail);
            self.effects.work.push(Work::Commit);
        }
        false
    }

    pub(super) fn ask_room(&mut self, bytes: u64) {
        if !self.asked_room {
            self.asked_room = true;
            self.want.asked = bytes;
            self.effects.work.push(Work::Room(bytes));
        }
    }

    /// There is no member, for want of room, and somebody has something to write: asks at once,
    /// unless the disk has granted room already and refused the write then. That is tried again
    /// with the ticks only; else it would keep us busy as long as anybody writes.
    pub(super) fn ask_room_or_refuse(&mut self, detail: &str) {
        match self.want.log {
            Some(bytes) if !self.want.granted => self.ask_room(bytes),
            _ => self.refuse_queue(detail),
        }
    }

    /// The log has taken something.
    pub(super) fn written(&mut self) {
        self.want.granted = false;
    }

    /// Asks for what was wanting, from time to time.
    pub(super) fn ask_room_again(&mut self) {
        let installing = matches!(self.absence, Some(Absence::Installing));
        if let Some(bytes) = self.want.log
            && !installing
            && self.broken.is_none()
        {
            self.ask_room(bytes);
        }
    }

    /// There is room now.
    pub(super) fn roomy(&mut self) {
        self.asked_room = false;
        if let Some(Absence::Starved { .. }) = self.absence
            && let Some(Absence::Starved { start, .. }) = self.absence.take()
        {
            self.want.granted = true;
            self.rebirth(*start);
        }
    }

    /// There is none, and none could be made.
    pub(super) fn no_room(&mut self, detail: &str) {
        self.lacks(self.want.asked);
        self.refuse_or_yield(detail);
    }

    /// So many bytes of log find no room.
    pub(super) fn lacks(&mut self, bytes: u64) {
        self.want.log = self.want.log.max(Some(bytes));
        self.feel_room();
    }

    /// Sees whether there is room; the member is shy as long as there is none.
    pub(super) fn feel_room(&mut self) {
        if self.want.log.is_some_and(|bytes| bytes <= self.status.room) {
            self.want.log = None;
        }
        let overlay = self.status.failed.is_some() && self.status.overlay >= OVERLAY_BYTES_HARD;
        let shy = self.want.log.is_some() || overlay;
        if shy != self.want.shy {
            let Want { asked, log, granted, .. } = self.want;
            self.want = Want { asked, log, granted, shy, ..Want::default() };
            self.input(Input::Shy(shy));
        }
    }

    /// What waits can't be written here: elsewhere perhaps, else nowhere.
    fn refuse_or_yield(&mut self, detail: &str) {
        self.feel_room();
        if !self.leads() || self.is_lone() || self.member.is_none() {
            return self.refuse_queue(detail);
        }
        let heir = self.transferee().or_else(|| self.yield_lead(detail));
        if heir.is_some() {
            return self.drop_queue(&ProposeError::NotLeader { leader: None });
        }
        if !std::mem::replace(&mut self.want.told, true) {
            tracing::warn!(
                "store: no room: writes are refused, and nobody else can lead: {detail}"
            );
        }
        self.refuse_queue(detail);
    }

    /// Says once, until there is room, that this member can't write what others have.
    pub(super) fn tell_full(&mut self, detail: &str) {
        if !std::mem::replace(&mut self.want.told, true) {
            tracing::warn!("store: no room for the log: {detail}; it follows when there is some");
        }
    }

    fn transferee(&self) -> Option<MemberId> {
        self.member.as_ref().map(Member::standing).and_then(|standing| standing.transferee)
    }

    /// Hands the lead to whoever has most of the log, if writes would then go on without this
    /// member; else, and when all had their chance, nothing changes for a while.
    fn yield_lead(&mut self, detail: &str) -> Option<MemberId> {
        let standing = self.member.as_ref()?.standing();
        let voters = standing.members.voters();
        let active = |id: &&MemberId| standing.progress.get(id).is_some_and(|peer| peer.active);
        let others: Vec<MemberId> = voters.iter().filter(active).copied().collect();
        if others.len() <= voters.len() / 2 {
            return None;
        }
        let matched = |id: &MemberId| standing.progress.get(id).map_or(0, |peer| peer.matched);
        let fresh = others.into_iter().filter(|id| !self.want.tried.contains(id));
        let Some(heir) = fresh.max_by_key(|id| (matched(id), std::cmp::Reverse(*id))) else {
            if self.want.until <= self.ticks {
                self.want.tried.clear();
            }
            return None;
        };
        self.want.tried.insert(heir);
        self.want.until = self.ticks + TRY_AGAIN * self.patience();
        let name = standing.members.info(heir).map_or("?", |info| info.name.as_str());
        if !std::mem::replace(&mut self.want.told, true) {
            tracing::warn!(
                "store: no room: writes are refused, leadership handed over to {name}: {detail}"
            );
        }
        self.input(Input::Transfer { to: Some(heir) });
        self.transferee()
    }
}
