//! Who is gone and who is back, from wills and from what is heard. Pure: time is passed in. A
//! will only tells that one broker lost one connection, so of a server two brokers must say it
//! within two seconds, and anything heard from a later connection refutes it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::Role;

/// Two brokers' wills of a server count together if they are no further apart.
const AGREE: Duration = Duration::from_secs(2);

/// What left before the end may still be on its way: it refutes no will this soon after it.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// An agent that changes brokers leaves a will at the old one: it has this long to be heard.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// Boards that are remembered.
const BOARDS: usize = 2048;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Gone(String),
    Back(String),
}

/// A will: `broker` lost `connection` of the board's process `session`.
#[derive(Clone, Debug)]
struct Loss {
    broker: String,
    connection: u32,
    at: Instant,
}

struct Board {
    session: u64,
    /// The newest connection that was heard from.
    newest: u32,
    losses: Vec<Loss>,
    role: Role,
    gone: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Presence {
    boards: BTreeMap<String, Board>,
}

impl Presence {
    /// Something new of `session` was heard from a board, over its `connection`.
    pub(crate) fn heard(
        &mut self,
        name: &str,
        session: u64,
        connection: u32,
        now: Instant,
    ) -> Option<Notice> {
        let Some(board) = self.boards.get_mut(name) else {
            self.remember(name, session, connection);
            return None;
        };
        if board.session != session {
            (board.session, board.newest) = (session, connection);
            board.losses.clear();
        } else {
            board.newest = board.newest.max(connection);
            board.losses.retain(|loss| {
                connection <= loss.connection && now.duration_since(loss.at) <= ON_ITS_WAY
            });
        }
        if board.gone && board.losses.is_empty() {
            board.gone = false;
            return Some(Notice::Back(name.to_owned()));
        }
        None
    }

    fn remember(&mut self, name: &str, session: u64, newest: u32) {
        if self.boards.len() >= BOARDS
            && let Some(gone) = self.boards.iter().find(|(_, b)| b.gone).map(|(n, _)| n.clone())
        {
            self.boards.remove(&gone);
        }
        if self.boards.len() < BOARDS {
            let (losses, role) = (Vec::new(), Role::Agent);
            let board = Board { session, newest, losses, role, gone: false };
            self.boards.insert(name.to_owned(), board);
        }
    }

    /// A board's will came from `broker`.
    pub(crate) fn will(
        &mut self,
        name: &str,
        role: Role,
        (session, connection): (u64, u32),
        broker: &str,
        now: Instant,
    ) -> Option<Notice> {
        if !self.boards.contains_key(name) {
            self.remember(name, session, connection);
        }
        let board = self.boards.get_mut(name)?;
        let stale = match role {
            // An agent has one connection at a time: a newer one means that it moved on.
            Role::Agent => connection < board.newest,
            Role::Server => false,
        };
        if board.session != session || stale || board.gone {
            return None;
        }
        board.role = role;
        board.losses.retain(|l| l.broker != broker && now.duration_since(l.at) <= AGREE);
        board.losses.push(Loss { broker: broker.to_owned(), connection, at: now });
        if role == Role::Server && board.losses.len() >= 2 {
            board.gone = true;
            return Some(Notice::Gone(name.to_owned()));
        }
        None
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
        self.boards.get(name).is_some_and(|b| b.losses.iter().any(|l| l.broker == broker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn gone(name: &str) -> Option<Notice> {
        Some(Notice::Gone(name.into()))
    }

    fn back(name: &str) -> Option<Notice> {
        Some(Notice::Back(name.into()))
    }

    #[test]
    fn a_server_is_gone_when_two_brokers_say_so() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        assert_eq!(presence.heard("a", 1, 1, t), None);
        assert_eq!(presence.will("a", Role::Server, (1, 1), "b", t), None);
        // The same broker twice is one broker.
        assert_eq!(presence.will("a", Role::Server, (1, 1), "b", t), None);
        assert!(presence.lost_by("a", "b") && !presence.lost_by("a", "c"));
        // What was on its way refutes nothing.
        assert_eq!(presence.heard("a", 1, 1, t + 10 * MS), None);
        assert_eq!(presence.will("a", Role::Server, (1, 2), "c", t + 20 * MS), gone("a"));
        assert_eq!(presence.heard("a", 1, 1, t + 30 * MS), None);
        // A new process is there at once.
        assert_eq!(presence.heard("a", 2, 1, t + 40 * MS), back("a"));
    }

    #[test]
    fn wills_far_apart_or_refuted_do_not_count() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.heard("a", 1, 1, t);
        presence.will("a", Role::Server, (1, 1), "b", t);
        assert_eq!(presence.will("a", Role::Server, (1, 2), "c", t + AGREE + MS), None);
        // A new connection was heard between the two wills: the board lives.
        let t = t + 10 * AGREE;
        presence.will("a", Role::Server, (1, 3), "b", t);
        assert_eq!(presence.heard("a", 1, 5, t + MS), None);
        assert_eq!(presence.will("a", Role::Server, (1, 4), "c", t + 2 * MS), None);
        // A will of an ended process is old news.
        presence.heard("a", 2, 1, t);
        presence.will("a", Role::Server, (1, 9), "b", t);
        assert_eq!(presence.will("a", Role::Server, (1, 9), "c", t), None);
    }

    #[test]
    fn anything_later_refutes_a_will() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.heard("a", 1, 1, t);
        presence.will("a", Role::Server, (1, 1), "b", t);
        assert_eq!(presence.heard("a", 1, 1, t + ON_ITS_WAY + MS), None);
        assert_eq!(presence.will("a", Role::Server, (1, 2), "c", t + 60 * MS), None);
    }

    #[test]
    fn an_agent_is_gone_after_its_grace() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.heard("n", 1, 1, t);
        assert_eq!(presence.will("n", Role::Agent, (1, 1), "b", t), None);
        assert_eq!(presence.next(), Some(t + GRACE));
        assert_eq!(presence.due(t + GRACE - MS), vec![]);
        assert_eq!(presence.due(t + GRACE), vec![Notice::Gone("n".into())]);
        assert_eq!((presence.due(t + 2 * GRACE), presence.next()), (vec![], None));
        assert_eq!(presence.heard("n", 1, 2, t + 3 * GRACE), back("n"));
    }

    #[test]
    fn an_agent_that_moved_is_not_gone() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        presence.heard("n", 1, 1, t);
        presence.will("n", Role::Agent, (1, 1), "b", t);
        assert_eq!(presence.heard("n", 1, 2, t + 20 * MS), None);
        assert_eq!(presence.due(t + GRACE), vec![]);
        // The old broker notices much later.
        assert_eq!(presence.will("n", Role::Agent, (1, 1), "b", t + 30 * GRACE), None);
        assert_eq!(presence.next(), None);
    }

    #[test]
    fn boards_are_bounded() {
        let (mut presence, t) = (Presence::default(), Instant::now());
        for n in 0..BOARDS + 10 {
            presence.heard(&n.to_string(), 1, 1, t);
        }
        assert_eq!(presence.boards.len(), BOARDS);
    }
}
