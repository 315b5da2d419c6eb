//! Who is gone and who is back, from wills, from what is heard, and from the board's own broker.
//! Pure: time is passed in.
//!
//! A will only tells that one broker lost one connection, so of a server there must be two
//! witnesses within two seconds: two brokers' wills; or one, and the port of its own broker, which
//! is in the same process, refuses. A refusal is an answer of the board's own kernel that nobody
//! listens there any more: no weather and no pause makes one. Anything heard from a later
//! connection refutes it all.
//!
//! That a process has ended, well or badly, is known sooner: its port refuses and this board's
//! connection with it has broken, or another process of the same board is heard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::Role;

/// Two witnesses of a server's end count together if they are no further apart.
const AGREE: Duration = Duration::from_secs(2);

/// What left before the end may still be on its way: it refutes no will this soon after it.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// An agent that changes brokers leaves a will at the old one: it has this long to be heard.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// A process that was silent for so long gives way to one with an earlier start: a board whose
/// clock was set back.
const SILENCE: Duration = Duration::from_secs(3);

/// Boards that are remembered.
const BOARDS: usize = 2048;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Gone(String),
    Back(String),
    /// Its process has ended, in whatever way, or has been followed by another one: it leads
    /// nothing any more. Said once, and not beside `Gone`.
    Ended(String),
}

/// What was heard of a board: `session` is its process, which began at `start` by its own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sign {
    pub(crate) session: u64,
    pub(crate) start: u64,
    pub(crate) connection: u32,
}

/// What to make of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) notice: Option<Notice>,
    /// It came over a connection that was not heard from before.
    pub(crate) fresh: bool,
    /// It came from a process that was not heard from before.
    pub(crate) anew: bool,
}

/// Who tells of a loss.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Witness {
    /// This broker published the board's will.
    Will(String),
    /// Our connection with the board's broker ended without a word.
    Line,
    /// The port of the board's broker refuses.
    Port,
}

#[derive(Clone, Debug)]
struct Loss {
    witness: Witness,
    connection: u32,
    at: Instant,
}

struct Board {
    session: u64,
    start: u64,
    heard: Instant,
    /// The newest connection that was heard from.
    newest: u32,
    losses: Vec<Loss>,
    role: Role,
    /// Told that its process has ended.
    ended: bool,
    gone: bool,
}

impl Board {
    /// Takes in a loss of a server, and what follows from all of them.
    fn lose(
        &mut self,
        name: &str,
        witness: Witness,
        connection: u32,
        now: Instant,
    ) -> Option<Notice> {
        self.losses.retain(|l| l.witness != witness && now.duration_since(l.at) <= AGREE);
        self.losses.push(Loss { witness, connection, at: now });
        let wills = self.losses.iter().filter(|l| matches!(l.witness, Witness::Will(_))).count();
        let refuses = self.losses.iter().any(|l| l.witness == Witness::Port);
        if self.role == Role::Server && wills + usize::from(refuses) >= 2 {
            self.gone = true;
            return Some(Notice::Gone(name.to_owned()));
        }
        // A good-bye may have been lost, so this says nothing of how it ended.
        let ended = refuses && self.losses.len() >= 2 && !self.ended;
        self.ended |= ended;
        ended.then(|| Notice::Ended(name.to_owned()))
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Presence {
    boards: BTreeMap<String, Board>,
}

impl Presence {
    /// Something new was heard from a board.
    pub(crate) fn heard(&mut self, name: &str, sign: Sign, now: Instant) -> Heard {
        let Some(board) = self.boards.get_mut(name) else {
            self.remember(name, sign, now);
            return Heard { notice: None, fresh: true, anew: true };
        };
        let mut heard = Heard::default();
        if board.session != sign.session {
            let silent = now.duration_since(board.heard) >= SILENCE;
            if sign.start < board.start && !silent {
                // It comes late, from a process that another one has followed.
                return heard;
            }
            (board.session, board.start, board.newest) =
                (sign.session, sign.start, sign.connection);
            board.losses.clear();
            (heard.fresh, heard.anew) = (true, true);
            let told = board.gone || board.ended;
            heard.notice = (!told).then(|| Notice::Ended(name.to_owned()));
        } else {
            heard.fresh = sign.connection > board.newest;
            board.newest = board.newest.max(sign.connection);
            board.losses.retain(|loss| {
                sign.connection <= loss.connection && now.duration_since(loss.at) <= ON_ITS_WAY
            });
        }
        board.heard = now;
        board.ended &= !board.losses.is_empty();
        if board.gone && board.losses.is_empty() {
            board.gone = false;
            heard.notice = Some(Notice::Back(name.to_owned()));
        }
        heard
    }

    fn remember(&mut self, name: &str, sign: Sign, now: Instant) {
        if self.boards.len() >= BOARDS
            && let Some(gone) = self.boards.iter().find(|(_, b)| b.gone).map(|(n, _)| n.clone())
        {
            self.boards.remove(&gone);
        }
        if self.boards.len() < BOARDS {
            let (losses, role) = (Vec::new(), Role::Agent);
            let Sign { session, start, connection: newest } = sign;
            let (ended, gone) = (false, false);
            let board = Board { session, start, heard: now, newest, losses, role, ended, gone };
            self.boards.insert(name.to_owned(), board);
        }
    }

    /// A board's will came from `broker`.
    pub(crate) fn will(
        &mut self,
        name: &str,
        role: Role,
        sign: Sign,
        broker: &str,
        now: Instant,
    ) -> Option<Notice> {
        if !self.boards.contains_key(name) {
            self.remember(name, sign, now);
        }
        let board = self.boards.get_mut(name)?;
        let stale = match role {
            // An agent has one connection at a time: a newer one means that it moved on.
            Role::Agent => sign.connection < board.newest,
            Role::Server => false,
        };
        if board.session != sign.session || stale || board.gone {
            return None;
        }
        board.role = role;
        board.lose(name, Witness::Will(broker.to_owned()), sign.connection, now)
    }

    /// A server's own broker is out of reach from here: `refused` if its port answers that nobody
    /// listens, else a connection that stood has ended without a word.
    pub(crate) fn unreached(&mut self, name: &str, refused: bool, now: Instant) -> Option<Notice> {
        let board = self.boards.get_mut(name).filter(|board| !board.gone)?;
        board.role = Role::Server;
        let witness = if refused { Witness::Port } else { Witness::Line };
        board.lose(name, witness, board.newest, now)
    }

    /// Agents whose grace is over.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (name, board) in &mut self.boards {
            let over = |l: &Loss| now.duration_since(l.at) >= GRACE;
            if !board.gone && board.role == Role::Agent && board.losses.iter().any(over) {
                board.gone = true;
                notices.push(Notice::Gone(name.clone()));
            }
        }
        notices
    }

    /// When [`Presence::due`] has something to say next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let waiting = self.boards.values().filter(|b| !b.gone && b.role == Role::Agent);
        waiting.flat_map(|b| b.losses.iter().map(|l| l.at + GRACE)).min()
    }

    /// Whether a broker told that it lost this board, and nothing was heard since.
    pub(crate) fn lost_by(&self, name: &str, broker: &str) -> bool {
        self.boards
            .get(name)
            .is_some_and(|b| b.losses.iter().any(|l| l.witness == Witness::Will(broker.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sign(session: u64, connection: u32) -> Sign {
        Sign { session, start: session, connection }
    }

    impl Presence {
        fn hears(&mut self, name: &str, sign: Sign, now: Instant) -> Option<Notice> {
            self.heard(name, sign, now).notice
        }
    }

    fn gone(name: &str) -> Option<Notice> {
        Some(Notice::Gone(name.into()))
    }

    fn ended(name: &str) -> Option<Notice> {
        Some(Notice::Ended(name.into()))
    }

    fn back(name: &str) -> Option<Notice> {
        Some(Notice::Back(name.into()))
    }

    #[test]
    fn a_server_is_gone_when_two_brokers_say_so() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        assert_eq!(presence.hears("a", sign(1, 1), t), None);
        assert_eq!(presence.will("a", Role::Server, sign(1, 1), "b", t), None);
        // The same broker twice is one broker.
        assert_eq!(presence.will("a", Role::Server, sign(1, 1), "b", t), None);
        assert!(presence.lost_by("a", "b") && !presence.lost_by("a", "c"));
        // What was on its way refutes nothing.
        assert_eq!(presence.hears("a", sign(1, 1), t + 10 * MS), None);
        assert_eq!(presence.will("a", Role::Server, sign(1, 2), "c", t + 20 * MS), gone("a"));
        assert_eq!(presence.hears("a", sign(1, 1), t + 30 * MS), None);
        // A new process is there at once.
        assert_eq!(presence.hears("a", sign(2, 1), t + 40 * MS), back("a"));
    }

    #[test]
    fn wills_far_apart_or_refuted_do_not_count() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.hears("a", sign(1, 1), t);
        presence.will("a", Role::Server, sign(1, 1), "b", t);
        assert_eq!(presence.will("a", Role::Server, sign(1, 2), "c", t + AGREE + MS), None);
        // A new connection was heard between the two wills: the board lives.
        let t = t + 10 * AGREE;
        presence.will("a", Role::Server, sign(1, 3), "b", t);
        assert_eq!(presence.hears("a", sign(1, 5), t + MS), None);
        assert_eq!(presence.will("a", Role::Server, sign(1, 4), "c", t + 2 * MS), None);
        // A will of an ended process is old news.
        presence.hears("a", sign(2, 1), t);
        presence.will("a", Role::Server, sign(1, 9), "b", t);
        assert_eq!(presence.will("a", Role::Server, sign(1, 9), "c", t), None);
    }

    #[test]
    fn anything_later_refutes_a_will() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.hears("a", sign(1, 1), t);
        presence.will("a", Role::Server, sign(1, 1), "b", t);
        assert_eq!(presence.hears("a", sign(1, 1), t + ON_ITS_WAY + MS), None);
        assert_eq!(presence.will("a", Role::Server, sign(1, 2), "c", t + 60 * MS), None);
    }

    #[test]
    fn a_refusing_port_is_the_second_witness() {
        let t = Instant::now();
        let known = || {
            let mut presence = Presence::default();
            presence.hears("a", sign(1, 1), t);
            presence
        };
        // One broker lost it, and it listens no more.
        let mut presence = known();
        assert_eq!(presence.will("a", Role::Server, sign(1, 1), "b", t), None);
        assert_eq!(presence.unreached("a", true, t + MS), gone("a"));
        assert_eq!(presence.unreached("a", true, t + 2 * MS), None, "said once");
        // Without a will it may have been asked to stop; it has ended all the same.
        let mut presence = known();
        assert_eq!(presence.unreached("a", false, t), None);
        assert_eq!(presence.unreached("a", true, t + MS), ended("a"));
        assert_eq!(presence.unreached("a", true, t + 2 * MS), None, "said once");
        assert_eq!(presence.hears("a", sign(2, 1), t + 60 * MS), None, "known already");
        assert_eq!(presence.hears("a", sign(3, 1), t + 70 * MS), ended("a"));
        let mut presence = known();
        assert_eq!(presence.unreached("a", true, t), None, "a port alone says nothing");
        assert_eq!(presence.unreached("a", true, t + MS), None, "nor does it twice");
        assert_eq!(presence.will("a", Role::Server, sign(1, 1), "b", t + 2 * MS), gone("a"));
        // A board that nobody has heard of cannot be gone.
        assert_eq!(Presence::default().unreached("a", true, t), None);
    }

    #[test]
    fn lost_connections_without_a_refusal_are_weather() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.hears("a", sign(1, 1), t);
        // This board was paused, or its cable pulled: it and the other lost each other.
        assert_eq!(presence.will("a", Role::Server, sign(1, 1), "b", t), None);
        assert_eq!(presence.unreached("a", false, t), None);
        // The port refuses too late, or after the board was heard.
        assert_eq!(presence.unreached("a", true, t + AGREE + MS), None);
        presence.hears("a", sign(1, 2), t + AGREE + 2 * MS);
        assert_eq!(presence.unreached("a", false, t + AGREE + 3 * MS), None);
    }

    #[test]
    fn a_new_process_tells_of_the_old_ones_end() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        assert!(presence.heard("a", sign(1, 1), t).fresh);
        assert_eq!(presence.heard("a", sign(1, 1), t), Heard::default());
        assert!(presence.heard("a", sign(1, 2), t).fresh, "another connection");
        assert_eq!(presence.hears("a", sign(2, 1), t), ended("a"));
        // What the old one sent comes late and changes nothing.
        assert_eq!(presence.heard("a", sign(1, 3), t + MS), Heard::default());
        assert_eq!(presence.heard("a", sign(2, 1), t + MS), Heard::default());
        // A clock that was set back.
        let later = t + SILENCE + 2 * MS;
        assert_eq!(presence.hears("a", sign(1, 1), later), ended("a"));
    }

    #[test]
    fn an_agent_is_gone_after_its_grace() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.hears("n", sign(1, 1), t);
        assert_eq!(presence.will("n", Role::Agent, sign(1, 1), "b", t), None);
        assert_eq!(presence.next(), Some(t + GRACE));
        assert_eq!(presence.due(t + GRACE - MS), vec![]);
        assert_eq!(presence.due(t + GRACE), vec![Notice::Gone("n".into())]);
        assert_eq!((presence.due(t + 2 * GRACE), presence.next()), (vec![], None));
        assert_eq!(presence.hears("n", sign(1, 2), t + 3 * GRACE), back("n"));
    }

    #[test]
    fn an_agent_that_moved_is_not_gone() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.hears("n", sign(1, 1), t);
        presence.will("n", Role::Agent, sign(1, 1), "b", t);
        assert_eq!(presence.hears("n", sign(1, 2), t + 20 * MS), None);
        assert_eq!(presence.due(t + GRACE), vec![]);
        // The old broker notices much later.
        assert_eq!(presence.will("n", Role::Agent, sign(1, 1), "b", t + 30 * GRACE), None);
        assert_eq!(presence.next(), None);
    }

    #[test]
    fn boards_are_bounded() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        for n in 0..BOARDS + 10 {
            presence.hears(&n.to_string(), sign(1, 1), t);
        }
        assert_eq!(presence.boards.len(), BOARDS);
    }
}
