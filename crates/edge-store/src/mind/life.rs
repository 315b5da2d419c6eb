//! A member's life: its time, the end of its disk, its rebirths and its closing.

use edge_core::consensus::{Index, Input, Member, MemberId, Refusal, Start};

use super::{Absence, Mind, refuse};
use crate::error::ChangeError;
use crate::event::{ChangeAnswer, Done, Work};
use crate::install::Built;

/// Election timeouts for which it is not said again that fetching a snapshot failed.
const FETCH_TOLD: u64 = 60;

impl Mind {
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        let silent = self.broken.as_ref().is_some_and(|(_, until)| *until <= self.ticks);
        if silent {
            self.member = None;
        }
        self.input(Input::Tick);
        self.reads.tick(self.ticks, self.standing.leader.is_some());
        if self.orphaned.is_some_and(|since| since + 2 * self.patience() <= self.ticks) {
            self.give_up_placed();
        }
        if let Some((until, answer)) = self.transfer.take() {
            if until <= self.ticks {
                refuse(answer, ChangeError::Unknown);
            } else {
                self.transfer = Some((until, answer));
            }
        }
        if self.ticks.is_multiple_of(self.patience()) {
            self.ask_room_again();
        }
    }

    pub(super) fn hand_over(&mut self, to: Option<MemberId>, answer: ChangeAnswer) {
        let refusal = Refusal::NotLeader { leader: self.standing.leader };
        if !self.leads() || self.is_lone() {
            return refuse(answer, ChangeError::Refused(refusal));
        }
        self.input(Input::Transfer { to });
        let until = self.ticks + 2 * self.patience();
        if let Some((_, former)) = self.transfer.replace((until, answer)) {
            refuse(former, ChangeError::Unknown);
        }
    }

    pub(super) fn fetched(&mut self, built: Result<Built, String>) {
        match built {
            // Whether it is needed is judged by the log as it then is, with this member gone.
            Ok(built) if self.broken.is_none() && self.absence.is_none() && !self.shutting => {
                self.member = None;
                self.absence = Some(Absence::Installing);
                self.effects.work.push(Work::Install(Box::new(built)));
                return;
            }
            Ok(built) => self.effects.work.push(Work::Discard(Box::new(built))),
            Err(error) if self.fetch_told <= self.ticks => {
                self.fetch_told = self.ticks + FETCH_TOLD * self.patience();
                tracing::warn!("store: {error}; it will be fetched again");
            }
            Err(error) => tracing::debug!("store: {error}; it will be fetched again"),
        }
        self.fetching = false;
        self.input(Input::FetchFailed);
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Persisted(number) => {
                self.writing.retain(|each, _| *each > number);
                self.written();
                self.input(Input::Persisted { number });
            }
            Done::Applied { index, term, members } => {
                self.applying.retain(|each, _| *each > index);
                self.input(Input::Applied { index, term, members });
                if self.is_alone() {
                    self.input(Input::Compact { upto: index });
                }
                self.has_applied(index);
            }
            Done::Roomy => self.roomy(),
            Done::NoRoom { detail } => {
                self.asked_room = false;
                self.no_room(&detail);
            }
            Done::Full { detail, start } => self.starve(detail, start),
            Done::Broken { detail } => self.fail(detail),
            Done::Installed(start) => {
                // What waited for the old state's next entries waits for nothing now.
                self.give_up_placed();
                let index = start.applied.0;
                self.absence = None;
                self.fetching = false;
                self.rebirth(*start);
                self.has_applied(index);
            }
            Done::NotInstalled { detail, start } => {
                if let Some(detail) = detail {
                    tracing::warn!("store: installing a snapshot: {detail}; it is tried again");
                }
                // The member that is made anew knows of no fetch; the leader offers again.
                self.absence = None;
                self.fetching = false;
                self.rebirth(*start);
            }
            Done::Nothing => {}
            Done::Closed => {
                self.closed = true;
                for answer in self.closing.take().into_iter().flat_map(|(answers, _)| answers) {
                    // Whoever closed may have stopped waiting.
                    let _ = answer.send(());
                }
            }
        }
    }

    fn has_applied(&mut self, index: Index) {
        self.applied = self.applied.max(index);
        self.reads.applied(index);
    }

    /// Another member takes over with what the disk holds, as after a restart.
    pub(super) fn rebirth(&mut self, start: Start) {
        self.writing.clear();
        self.applying.clear();
        self.reads.ask_again();
        self.births += 1;
        let seed = self.begin.seed ^ self.births.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match Member::new(self.begin.me, start, self.begin.tuning, seed) {
            Ok(member) => {
                self.member = Some(member);
                self.input(Input::Shy(self.want.shy));
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// The disk failed: what waits is told so, and a leader hands over before it falls silent.
    pub(super) fn fail(&mut self, detail: String) {
        if self.broken.is_some() {
            return;
        }
        let until = if self.is_lone() { 0 } else { self.ticks + 2 * self.patience() };
        self.broken = Some((detail, until));
        self.asked_room = false;
        self.fail_all();
        if until == 0 || !self.leads() {
            self.member = None;
        } else {
            self.input(Input::Transfer { to: None });
        }
    }

    /// What ails this member's own disk, and what to do: without it, and with nobody else, nobody
    /// would lead for no reason that people are told.
    pub(super) fn trouble(&self) -> Option<String> {
        match (&self.broken, &self.absence) {
            (Some((detail, _)), _) => {
                Some(format!("{detail}; check the disk (dmesg), then start edged again"))
            }
            (None, Some(Absence::Starved { detail, .. })) => {
                Some(format!("{detail}; free some space, it then goes on by itself"))
            }
            (None, Some(Absence::Installing) | None) => None,
        }
    }

    pub(super) fn close_if_done(&mut self) {
        let Some((_, until)) = &self.closing else { return };
        if self.shutting {
            return self.close_queue();
        }
        let late = *until <= self.ticks && !self.is_lone();
        if late || (!self.leads() && !self.is_lone()) || self.broken.is_some() {
            self.give_up_placed();
            self.close_queue();
        }
        if self.queue.is_empty() && self.placed.is_empty() && self.asked.is_empty() {
            self.reads.close();
            self.effects.work.push(Work::Close);
            self.shutting = true;
            self.member = None;
        }
    }
}
