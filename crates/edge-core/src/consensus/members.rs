//! Who belongs to the cluster, as of an applied index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use raft::eraftpb::{ConfChangeType, ConfState};

use super::change::Logged;
use super::types::{EntryKind, LogEntry, MemberId};

/// More members than this are refused.
pub(super) const MEMBERS_MAX: usize = 64;

/// A name, or an address, is at most this long.
const TEXT_BYTES_MAX: usize = 255;

const VERSION: u8 = 1;

/// What is known of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its identity.
    pub id: MemberId,
    /// Its board's name.
    pub name: String,
    /// Where its API server is: `https://ip:6443`.
    pub api: String,
    /// Where its broker is: `ip:8883`.
    pub broker: String,
}

impl MemberInfo {
    /// Whether every field is there and short enough.
    pub fn valid(&self) -> bool {
        let short = |text: &str| text.len() <= TEXT_BYTES_MAX;
        self.id != 0
            && !self.name.is_empty()
            && [&self.name, &self.api, &self.broker].iter().all(|t| short(t))
    }
}

/// The members: who votes, who learns, and where each is. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(Arc<Lists>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lists {
    voters: BTreeSet<MemberId>,
    learners: BTreeSet<MemberId>,
    /// Learners that get a vote when they have caught up.
    rising: BTreeSet<MemberId>,
    infos: BTreeMap<MemberId, MemberInfo>,
}

impl Members {
    /// A cluster of one.
    pub fn genesis(info: MemberInfo) -> Members {
        Members::founders([info])
    }

    /// A cluster of several voters from its first entry on; for tests.
    pub fn founders(infos: impl IntoIterator<Item = MemberInfo>) -> Members {
        let infos: BTreeMap<_, _> = infos.into_iter().map(|info| (info.id, info)).collect();
        let voters = infos.keys().copied().collect();
        Members(Arc::new(Lists { voters, infos, ..Lists::default() }))
    }

    /// Those whose votes and acknowledgements count.
    pub fn voters(&self) -> &BTreeSet<MemberId> {
        &self.0.voters
    }

    /// Those that only follow.
    pub fn learners(&self) -> &BTreeSet<MemberId> {
        &self.0.learners
    }

    /// Learners that the leader promotes when they have caught up.
    pub fn rising(&self) -> &BTreeSet<MemberId> {
        &self.0.rising
    }

    /// Everybody.
    pub fn all(&self) -> impl Iterator<Item = &MemberInfo> {
        self.0.infos.values()
    }

    /// What is known of a member.
    pub fn info(&self, id: MemberId) -> Option<&MemberInfo> {
        self.0.infos.get(&id)
    }

    /// The member with this name.
    pub fn by_name(&self, name: &str) -> Option<&MemberInfo> {
        self.0.infos.values().find(|info| info.name == name)
    }

    /// Whether a member is in it at all.
    pub fn contains(&self, id: MemberId) -> bool {
        self.0.infos.contains_key(&id)
    }

    /// Nobody is in it: this member has not joined yet.
    pub fn is_empty(&self) -> bool {
        self.0.infos.is_empty()
    }

    /// How many voters may be lost without losing the cluster.
    pub fn spare(&self) -> usize {
        self.0.voters.len().saturating_sub(1) / 2
    }

    /// An even number of voters gives no more safety than one fewer: a line that says so.
    pub fn even(&self) -> Option<String> {
        let count = self.0.voters.len();
        (count > 0 && count.is_multiple_of(2)).then(|| {
            let majority = count / 2 + 1;
            let spare = self.spare();
            format!(
                "{count} voting servers need {majority} of them alive and bear the loss of \
                 {spare}, as {} would; add one or remove one",
                count - 1
            )
        })
    }

    /// The members after an entry; `None` if it changes nothing.
    ///
    /// The rule of raft-rs for single changes, so that every state comes to the same members.
    pub fn after(&self, entry: &LogEntry) -> Option<Members> {
        if entry.kind != EntryKind::Members {
            return None;
        }
        let change = Logged::decode(&entry.data)?;
        let id = change.id;
        let mut next = Lists::clone(&self.0);
        match change.kind {
            ConfChangeType::AddNode => {
                next.learners.remove(&id);
                next.voters.insert(id);
            }
            ConfChangeType::AddLearnerNode => {
                next.voters.remove(&id);
                next.learners.insert(id);
            }
            ConfChangeType::RemoveNode => {
                next.voters.remove(&id);
                next.learners.remove(&id);
                next.infos.remove(&id);
            }
        }
        if next.voters.is_empty() {
            return None;
        }
        if let Some((info, rising)) = change.info {
            next.infos.insert(id, info);
            if rising {
                next.rising.insert(id);
            }
        } else if change.kind != ConfChangeType::RemoveNode && !next.infos.contains_key(&id) {
            return None;
        }
        let learners = &next.learners;
        next.rising.retain(|id| learners.contains(id));
        (next != *self.0).then(|| Members(Arc::new(next)))
    }

    pub(super) fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.0.voters.iter().copied().collect(),
            learners: self.0.learners.iter().copied().collect(),
            ..ConfState::default()
        }
    }

    /// Its bytes, for the store and for snapshots.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.0.infos.len() as u8];
        for (id, info) in &self.0.infos {
            let flags =
                u8::from(self.0.voters.contains(id)) | u8::from(self.0.rising.contains(id)) << 1;
            out.push(flags);
            put_info(info, &mut out);
        }
        out
    }

    /// Reads what `encode` wrote; `None` is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Members> {
        let [VERSION, count, rest @ ..] = bytes else { return None };
        let mut rest = rest;
        if usize::from(*count) > MEMBERS_MAX {
            return None;
        }
        let mut members = Lists::default();
        for _ in 0..*count {
            let [flags @ 0..=2, tail @ ..] = rest else { return None };
            rest = tail;
            let info = get_info(&mut rest)?;
            let id = info.id;
            match flags {
                1 => members.voters.insert(id),
                2 => members.rising.insert(id) && members.learners.insert(id),
                _ => members.learners.insert(id),
            };
            if members.infos.insert(id, info).is_some() {
                return None;
            }
        }
        rest.is_empty().then(|| Members(Arc::new(members)))
    }
}

pub(super) fn put_info(info: &MemberInfo, out: &mut Vec<u8>) {
    out.extend_from_slice(&info.id.to_be_bytes());
    for text in [&info.name, &info.api, &info.broker] {
        let length = text.len().min(TEXT_BYTES_MAX);
        out.push(length as u8);
        out.extend_from_slice(&text.as_bytes()[..length]);
    }
}

pub(super) fn get_info(rest: &mut &[u8]) -> Option<MemberInfo> {
    let (id, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    let mut text = || {
        let (length, tail) = rest.split_first()?;
        let (text, tail) = tail.split_at_checked(usize::from(*length))?;
        *rest = tail;
        String::from_utf8(text.to_vec()).ok()
    };
    let (name, api, broker) = (text()?, text()?, text()?);
    let info = MemberInfo { id: u64::from_be_bytes(*id), name, api, broker };
    info.valid().then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: MemberId, name: &str) -> MemberInfo {
        let api = format!("https://10.0.0.{id}:6443");
        MemberInfo { id, name: name.to_owned(), api, broker: format!("10.0.0.{id}:8883") }
    }

    fn entry(kind: ConfChangeType, id: MemberId, info: Option<(MemberInfo, bool)>) -> LogEntry {
        let data = Logged { kind, id, info }.encode().expect("bytes");
        LogEntry { term: 1, index: 1, kind: EntryKind::Members, data }
    }

    #[test]
    fn members_come_rise_and_go() {
        let one = Members::genesis(info(1, "one"));
        assert_eq!((one.even(), one.spare()), (None, 0));
        let add = entry(ConfChangeType::AddLearnerNode, 2, Some((info(2, "two"), true)));
        let learning = one.after(&add).expect("a change");
        assert!(learning.rising().contains(&2) && learning.voters().len() == 1);
        assert_eq!(learning.after(&add), None, "twice is once");
        let two = learning.after(&entry(ConfChangeType::AddNode, 2, None)).expect("a change");
        assert!(two.rising().is_empty() && two.voters().len() == 2);
        assert!(two.even().expect("a warning").contains("need 2 of them alive"));
        for members in [&one, &learning, &two] {
            let bytes = members.encode();
            assert_eq!(Members::decode(&bytes).as_ref(), Some(members));
            for cut in 0..bytes.len() {
                assert_eq!(Members::decode(&bytes[..cut]), None);
            }
        }
        assert_eq!(two.after(&entry(ConfChangeType::RemoveNode, 2, None)), Some(one.clone()));
        assert_eq!(one.after(&entry(ConfChangeType::RemoveNode, 1, None)), None, "the last voter");
        assert_eq!(one.after(&entry(ConfChangeType::AddNode, 9, None)), None, "nobody knows it");
    }
}
