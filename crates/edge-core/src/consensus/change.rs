//! Changes of the members, one at a time, and their bytes in the log.
//!
//! raft-rs wants a protobuf `ConfChangeV2` in the entry. It is written by its codec and read by a
//! strict reader of our own that knows only what is written here, so that a peer's bytes never
//! meet the protobuf library.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::members::{MemberInfo, get_info, put_info};
use super::types::MemberId;

/// What can be asked of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member, as a learner; a `voter` is promoted by the leader when it has caught up. A
    /// member that is there already gets the new addresses.
    Add {
        /// Who.
        info: MemberInfo,
        /// Whether it is to vote.
        voter: bool,
    },
    /// A learner gets its vote.
    Promote {
        /// Who.
        id: MemberId,
    },
    /// A member leaves. A leader that is to leave hands over first and refuses.
    Remove {
        /// Who.
        id: MemberId,
    },
    /// A member's new name or addresses.
    Update {
        /// Who, and what is to be known of it.
        info: MemberInfo,
    },
}

/// A change as the log has it: what raft-rs does, and what we note beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) kind: ConfChangeType,
    pub(super) id: MemberId,
    /// Its name and addresses, when they are new; and whether it is to become a voter.
    pub(super) info: Option<(MemberInfo, bool)>,
}

const VERSION: u8 = 1;

impl Logged {
    /// For raft-rs.
    pub(super) fn conf_change(&self) -> ConfChangeV2 {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(self.kind);
        single.node_id = self.id;
        let mut change = ConfChangeV2::default();
        change.mut_changes().push(single);
        let mut context = vec![VERSION];
        if let Some((info, rising)) = &self.info {
            context.push(u8::from(*rising));
            put_info(info, &mut context);
        }
        change.set_context(Bytes::from(context));
        change
    }

    /// The entry's bytes; `None` only if the library fails, which it does not for such a message.
    pub(super) fn encode(&self) -> Option<Bytes> {
        self.conf_change().write_to_bytes().ok().map(Bytes::from)
    }

    /// Reads what `encode` wrote; `None` is anything else.
    pub(super) fn decode(data: &[u8]) -> Option<Logged> {
        let rest = data.strip_prefix(&[0x12])?;
        let (length, rest) = varint(rest)?;
        let (single, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let (kind, single) = match single.strip_prefix(&[0x08]) {
            Some([1, single @ ..]) => (ConfChangeType::RemoveNode, single),
            Some([2, single @ ..]) => (ConfChangeType::AddLearnerNode, single),
            Some(_) => return None,
            None => (ConfChangeType::AddNode, single),
        };
        let (id, end) = varint(single.strip_prefix(&[0x10])?)?;
        let (length, context) = varint(rest.strip_prefix(&[0x1a])?)?;
        if !end.is_empty() || id == 0 || usize::try_from(length) != Ok(context.len()) {
            return None;
        }
        let info = match context {
            [VERSION] => None,
            [VERSION, rising @ 0..=1, rest @ ..] => {
                let mut rest = rest;
                let info = get_info(&mut rest)?;
                if !rest.is_empty() || info.id != id {
                    return None;
                }
                Some((info, *rising == 1))
            }
            _ => return None,
        };
        Some(Logged { kind, id, info })
    }
}

/// A protobuf varint of at most 64 bits, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (position, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        if position == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[position + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_writes_reads_back() {
        let info = MemberInfo {
            id: u64::MAX,
            name: "a".to_owned(),
            api: "https://10.0.0.1:6443".to_owned(),
            broker: "10.0.0.1:8883".to_owned(),
        };
        for kind in
            [ConfChangeType::AddNode, ConfChangeType::RemoveNode, ConfChangeType::AddLearnerNode]
        {
            for info in [None, Some((info.clone(), true)), Some((info.clone(), false))] {
                let change = Logged { kind, id: u64::MAX, info };
                let bytes = change.encode().expect("bytes");
                assert_eq!(Logged::decode(&bytes), Some(change));
                for cut in 0..bytes.len() {
                    assert_eq!(Logged::decode(&bytes[..cut]), None);
                }
                let mut longer = bytes.to_vec();
                longer.push(0);
                assert_eq!(Logged::decode(&longer), None);
            }
        }
    }
}
