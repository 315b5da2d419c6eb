//! Linearizable reads: everybody who waits shares one question to the majority, and a question
//! that gets lost is asked again until time is up.

use std::collections::BTreeMap;
use std::mem;

use edge_core::consensus::{Index, Input};

use super::Mind;
use crate::error::BarrierError;
use crate::event::BarrierAnswer;
use crate::limits::{READ_TICKS, READ_TICKS_UNLED};

/// Who waits for a read point.
#[derive(Default)]
pub(super) struct Reads {
    /// Not asked for yet: who came after a question was asked may not share its answer.
    waiting: Vec<Reader>,
    /// The ticket of the question that is on its way. The member puts it again if it is lost.
    round: Option<u64>,
    asked: Vec<Reader>,
    /// Answered, once the state has come so far.
    granted: BTreeMap<Index, Vec<Reader>>,
    retry_at: u64,
    /// Ticks for which nobody has led.
    unled: u64,
}

struct Reader {
    answer: BarrierAnswer,
    until: u64,
}

impl Reader {
    fn answer(self, result: Result<Index, BarrierError>) {
        // Whoever waits may have stopped waiting.
        let _ = self.answer.send(result);
    }
}

impl Reads {
    pub(super) fn add(&mut self, answer: BarrierAnswer, ticks: u64) {
        // Those that came before have waited for a leader already.
        let patience = READ_TICKS.saturating_sub(self.unled).max(READ_TICKS_UNLED);
        self.waiting.push(Reader { answer, until: ticks + patience });
    }

    pub(super) fn granted(&mut self, ticket: u64, index: Index, applied: Index) {
        if self.round.is_some_and(|asked| asked == ticket) {
            self.round = None;
            self.granted.entry(index).or_default().append(&mut self.asked);
            self.applied(applied);
        }
    }

    pub(super) fn refused(&mut self, ticket: u64, ticks: u64) {
        if self.round.is_some_and(|asked| asked == ticket) {
            self.round = None;
            self.waiting.append(&mut self.asked);
            self.retry_at = ticks + 1;
        }
    }

    /// The member that was asked is no more: the next one is asked again.
    pub(super) fn ask_again(&mut self) {
        self.round = None;
        self.waiting.append(&mut self.asked);
    }

    /// Another member leads now, or this one is ready to.
    pub(super) fn ask_now(&mut self) {
        self.retry_at = 0;
    }

    /// The state has come to `index`.
    pub(super) fn applied(&mut self, index: Index) {
        let later = self.granted.split_off(&(index + 1));
        for reader in mem::replace(&mut self.granted, later).into_values().flatten() {
            reader.answer(Ok(index));
        }
    }

    pub(super) fn tick(&mut self, ticks: u64, led: bool) {
        self.unled = if led { 0 } else { self.unled.saturating_add(1) };
        let error = if led { BarrierError::Timeout } else { BarrierError::NoLeader };
        let lists = self.granted.values_mut().chain([&mut self.waiting, &mut self.asked]);
        for list in lists {
            for late in list.extract_if(.., |reader| reader.until <= ticks) {
                late.answer(Err(error));
            }
        }
    }

    fn fail(&mut self, error: BarrierError) {
        self.round = None;
        let granted = mem::take(&mut self.granted).into_values().flatten();
        let others = mem::take(&mut self.waiting).into_iter().chain(mem::take(&mut self.asked));
        others.chain(granted).for_each(|reader| reader.answer(Err(error)));
    }

    pub(super) fn close(&mut self) {
        self.fail(BarrierError::Closed);
    }
}

impl Mind {
    /// Asks for a read point if somebody waits for one. Answers whether the member has something
    /// to say now.
    pub(super) fn ask_reads(&mut self) -> bool {
        if self.reads.waiting.is_empty() || self.reads.round.is_some() {
            return false;
        }
        if self.member.is_none() && (self.is_lone() || !self.needs_ticks()) {
            self.reads.fail(BarrierError::NoLeader);
            return false;
        }
        if self.member.is_none() || self.reads.retry_at > self.ticks {
            return false;
        }
        let ticket = self.next_ticket();
        self.reads.asked = mem::take(&mut self.reads.waiting);
        self.reads.round = Some(ticket);
        self.input(Input::Read { ticket });
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::channel;

    use super::*;

    /// A snapshot was installed while a question was on its way: the member that was asked is
    /// gone, and its successor knows nothing of the question.
    #[test]
    fn a_question_to_a_member_that_is_no_more_is_put_to_the_next_one() {
        let mut reads = Reads::default();
        let (answer, mut answered) = channel();
        reads.add(answer, 0);
        (reads.asked, reads.round) = (mem::take(&mut reads.waiting), Some(1));
        reads.ask_again();
        assert!(reads.round.is_none() && reads.waiting.len() == 1, "it is asked anew");
        reads.granted(1, 5, 5);
        assert!(answered.try_recv().is_err(), "an answer to the former question is none");
        (reads.asked, reads.round) = (mem::take(&mut reads.waiting), Some(2));
        reads.granted(2, 7, 6);
        assert!(answered.try_recv().is_err(), "the state has not come so far");
        reads.applied(7);
        assert_eq!(answered.try_recv(), Ok(Ok(7)));
    }

    /// Asked again or not, nobody waits longer than a read may.
    #[test]
    fn being_asked_again_gives_no_more_time() {
        let mut reads = Reads::default();
        let (answer, mut answered) = channel();
        reads.add(answer, 0);
        (reads.asked, reads.round) = (mem::take(&mut reads.waiting), Some(1));
        reads.tick(READ_TICKS - 1, false);
        reads.ask_again();
        assert!(answered.try_recv().is_err());
        reads.tick(READ_TICKS, false);
        assert_eq!(answered.try_recv(), Ok(Err(BarrierError::NoLeader)));
    }

    #[test]
    fn who_comes_when_nobody_has_led_for_long_waits_less() {
        let mut reads = Reads::default();
        (1..=READ_TICKS).for_each(|tick| reads.tick(tick, false));
        let (answer, mut answered) = channel();
        reads.add(answer, READ_TICKS);
        reads.tick(READ_TICKS + READ_TICKS_UNLED - 1, false);
        assert!(answered.try_recv().is_err());
        reads.tick(READ_TICKS + READ_TICKS_UNLED, false);
        assert_eq!(answered.try_recv(), Ok(Err(BarrierError::NoLeader)));
        reads.tick(100, true);
        let (answer, mut answered) = channel();
        reads.add(answer, 100);
        reads.tick(99 + READ_TICKS, true);
        assert!(answered.try_recv().is_err(), "as long as ever");
    }
}
