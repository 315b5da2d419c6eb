//! Why a member does not begin, or does not do what it is asked.

use std::fmt;

use super::types::{Index, MemberId, Term};

/// Why a member can't begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The member's own id is 0.
    NoIdentity,
    /// The log has a hole or begins at the wrong place.
    Hole {
        /// The index that was expected.
        expected: Index,
        /// The index that was found.
        found: Index,
    },
    /// The log ends before what was known as committed: acknowledged entries are missing.
    Lost {
        /// The last index of the log.
        last: Index,
        /// What the hard state says is committed.
        commit: Index,
    },
    /// An entry's term is below its predecessor's, or above the hard state's.
    BadTerm {
        /// Where.
        index: Index,
        /// The entry's term.
        term: Term,
    },
    /// The tuning makes no sense.
    BadTuning {
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoIdentity => {
                write!(f, "starting the member: its id is 0, which no key can give")
            }
            StartError::Hole { expected, found } => write!(
                f,
                "starting the member: the log has entry {found} where {expected} belongs; \
                 restore this server from another"
            ),
            StartError::Lost { last, commit } => write!(
                f,
                "starting the member: the log ends at {last} and {commit} was committed; \
                 acknowledged writes are missing here, remove this server and join it again"
            ),
            StartError::BadTerm { index, term } => write!(
                f,
                "starting the member: entry {index} has term {term}, which its neighbours rule \
                 out; restore this server from another"
            ),
            StartError::BadTuning { why } => write!(f, "starting the member: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another member leads, or none.
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<MemberId>,
    },
    /// Too much waits already; try again soon.
    Busy,
    /// The leader is handing over; ask the next one.
    Transferring,
    /// A change of the members is on its way; try again when it is done.
    ChangePending,
    /// There is no such member.
    NoSuchMember,
    /// Nobody would be left to vote.
    LastVoter,
    /// Another member has that name.
    NameTaken,
    /// There is no room for another member.
    Full,
    /// Those that would be left and answer are no majority.
    NoMajority,
    /// The learner has not caught up.
    NotCaughtUp,
    /// It is what it was to become.
    Nothing,
    /// The request itself is wrong.
    Invalid,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NotLeader { leader: None } => "there is no leader; try again soon",
            Refusal::NotLeader { leader: Some(_) } => "another server leads; ask that one",
            Refusal::Busy => "too many writes wait for a majority; try again soon",
            Refusal::Transferring => "the leader is handing over; ask the next one",
            Refusal::ChangePending => "another change of the servers is on its way; try again",
            Refusal::NoSuchMember => "no such server is in the cluster",
            Refusal::LastVoter => "this is the last voting server; the cluster would end",
            Refusal::NameTaken => "another server has that name; choose another one",
            Refusal::Full => "the cluster has as many servers as it takes; remove one first",
            Refusal::NoMajority => {
                "too few of the servers that would be left answer; bring one back first"
            }
            Refusal::NotCaughtUp => "the server has not caught up with the log yet; try again",
            Refusal::Nothing => "the server is that already",
            Refusal::Invalid => "the request has an empty or oversized field",
        })
    }
}
