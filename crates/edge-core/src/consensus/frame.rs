//! The bytes that members send each other.
//!
//! One version byte, one for the kind, one for flags, both ends, then variable-length numbers: a
//! heartbeat is about 28 bytes. Every field is bounded and nothing is read by a general decoder.

use bytes::Bytes;
use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use super::types::{Index, MemberId, Term};

const VERSION: u8 = 1;
const REJECT: u8 = 1;
const TRANSFER: u8 = 2;

/// Terms and indices above this are nobody's.
const NUMBER_MAX: u64 = 1 << 62;

/// A read's context is 24 bytes.
const CONTEXT_BYTES_MAX: usize = 64;

/// What a frame says.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// Something for raft-rs.
    Raft(Message),
    /// The receiver lags behind the log's tail: a snapshot at `index` or later is there.
    Offer { term: Term, index: Index, log_term: Term },
    /// A snapshot was not fetched after all.
    Failed { term: Term },
}

/// What a frame says of its sender, for traces and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It votes for the receiver.
    Vote,
    /// It asks for a vote.
    Candidacy,
    /// It leads.
    Leads,
    /// Its log has the entries up to an index.
    Has,
    /// Nothing that a disk must hold.
    Other,
}

/// A look at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// What it says.
    pub said: Said,
    /// In which term.
    pub term: Term,
    /// Up to which entry, if that matters.
    pub index: Index,
}

impl Glimpse {
    /// Looks at a frame; `None` if it is none.
    pub fn of(bytes: &Bytes) -> Option<Glimpse> {
        let mut input = Input { whole: bytes, at: 1 };
        let (kind, flags) = (input.byte()?, input.byte()?);
        let kind = KINDS.iter().find(|(byte, _)| *byte == kind)?.1;
        input.at += 16;
        let (term, index) = (input.number()?, input.number()?);
        let granted = flags & REJECT == 0;
        let said = match kind {
            MessageType::MsgRequestVoteResponse if granted => Said::Vote,
            MessageType::MsgRequestVote => Said::Candidacy,
            MessageType::MsgAppend | MessageType::MsgHeartbeat => Said::Leads,
            MessageType::MsgAppendResponse if granted => Said::Has,
            _ => Said::Other,
        };
        Some(Glimpse { said, term, index })
    }
}

/// The kinds of raft-rs that cross the wire, and their bytes.
const KINDS: &[(u8, MessageType)] = &[
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgRequestPreVote),
    (6, MessageType::MsgRequestPreVoteResponse),
    (7, MessageType::MsgHeartbeat),
    (8, MessageType::MsgHeartbeatResponse),
    (9, MessageType::MsgReadIndex),
    (10, MessageType::MsgReadIndexResp),
    (11, MessageType::MsgTimeoutNow),
];
const OFFER: u8 = 20;
const FAILED: u8 = 21;

fn is_read(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp)
}

/// A message of raft-rs as a frame; `None` if that kind does not cross the wire.
pub(super) fn encode(message: &Message) -> Option<Bytes> {
    let kind = message.get_msg_type();
    if kind == MessageType::MsgSnapshot {
        let meta = message.get_snapshot().get_metadata();
        let numbers = [message.term, meta.index, meta.term];
        return Some(short(OFFER, message.from, message.to, &numbers));
    }
    let byte = KINDS.iter().find(|(_, known)| *known == kind)?.0;
    let vote = matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
    let transfer = vote && message.context == CAMPAIGN_TRANSFER;
    let data: usize = message.entries.iter().map(|entry| entry.data.len() + 24).sum();
    let mut out = Vec::with_capacity(64 + data);
    let flags = (u8::from(message.reject) * REJECT) | (u8::from(transfer) * TRANSFER);
    head(&mut out, byte, flags, message.from, message.to);
    for number in [
        message.term,
        message.index,
        message.log_term,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ] {
        put(&mut out, number);
    }
    let context: &[u8] = match kind {
        _ if is_read(kind) => message.entries.first().map_or(&[], |entry| &entry.data),
        _ if vote => &[],
        _ => &message.context,
    };
    put(&mut out, context.len() as u64);
    out.extend_from_slice(context);
    let entries: &[Entry] = if is_read(kind) { &[] } else { &message.entries };
    put(&mut out, entries.len() as u64);
    for entry in entries {
        out.push(u8::from(entry.get_entry_type() != EntryType::EntryNormal));
        put(&mut out, entry.term);
        put(&mut out, entry.data.len() as u64);
        out.extend_from_slice(&entry.data);
    }
    Some(Bytes::from(out))
}

/// The frame that tells `to` that its snapshot was not fetched.
pub(super) fn failed(from: MemberId, to: MemberId, term: Term) -> Bytes {
    short(FAILED, from, to, &[term])
}

fn short(kind: u8, from: MemberId, to: MemberId, numbers: &[u64]) -> Bytes {
    let mut out = Vec::with_capacity(40);
    head(&mut out, kind, 0, from, to);
    numbers.iter().for_each(|number| put(&mut out, *number));
    Bytes::from(out)
}

fn head(out: &mut Vec<u8>, kind: u8, flags: u8, from: MemberId, to: MemberId) {
    out.extend_from_slice(&[VERSION, kind, flags]);
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A reader that never reads past the end.
struct Input<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl Input<'_> {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.whole.len())?;
        let taken = self.whole.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.whole.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn id(&mut self) -> Option<u64> {
        let (id, _) = self.whole.get(self.at..)?.split_first_chunk::<8>()?;
        self.at += 8;
        Some(u64::from_be_bytes(*id))
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return (value <= NUMBER_MAX).then_some(value);
            }
        }
        None
    }

    fn length(&mut self, most: usize) -> Option<usize> {
        self.number().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= most)
    }

    fn end(&self) -> Option<()> {
        (self.at == self.whole.len()).then_some(())
    }
}

/// Reads a frame that `from` sent to `me`; `None` is anything that is not one.
pub(super) fn decode(bytes: &Bytes, from: MemberId, me: MemberId) -> Option<Frame> {
    let mut input = Input { whole: bytes, at: 0 };
    if input.byte()? != VERSION {
        return None;
    }
    let (kind, flags) = (input.byte()?, input.byte()?);
    if input.id()? != from || input.id()? != me || from == 0 || from == me {
        return None;
    }
    if kind == OFFER || kind == FAILED {
        let term = input.number()?;
        let frame = match kind {
            FAILED => Frame::Failed { term },
            _ => Frame::Offer { term, index: input.number()?, log_term: input.number()? },
        };
        return input.end().map(|()| frame);
    }
    let kind = KINDS.iter().find(|(byte, _)| *byte == kind)?.1;
    let mut message = Message::default();
    message.set_msg_type(kind);
    (message.from, message.to) = (from, me);
    message.reject = flags & REJECT != 0;
    message.term = input.number()?;
    message.index = input.number()?;
    message.log_term = input.number()?;
    message.commit = input.number()?;
    message.commit_term = input.number()?;
    message.reject_hint = input.number()?;
    let length = input.length(CONTEXT_BYTES_MAX)?;
    let context = input.take(length)?;
    let count = input.length(bytes.len() / 3)?;
    let mut entries = Vec::with_capacity(count.min(4096));
    for position in 0..count as u64 {
        let mut entry = Entry::default();
        entry.set_entry_type(match input.byte()? {
            0 => EntryType::EntryNormal,
            1 => EntryType::EntryConfChangeV2,
            _ => return None,
        });
        entry.index = message.index + 1 + position;
        entry.term = input.number()?;
        let length = input.length(bytes.len())?;
        entry.data = input.take(length)?;
        entries.push(entry);
    }
    input.end()?;
    if is_read(kind) {
        let entry = Entry { data: context, ..Entry::default() };
        entries = vec![entry];
    } else if flags & TRANSFER != 0 {
        message.context = Bytes::from_static(CAMPAIGN_TRANSFER);
    } else {
        message.context = context;
    }
    message.set_entries(entries.into());
    Some(Frame::Raft(message))
}
