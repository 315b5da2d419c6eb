//! nf_tables on the wire: the steps that our rules are made of, as plain data, and how each
//! is written. Numbers and names are the kernel's (`linux/netfilter/nf_tables.h`).

use super::super::netlink::Message;

/// Message types; the subsystem's number stands in the upper byte.
pub(super) mod kind {
    const SUBSYSTEM: u16 = 10 << 8;
    pub(crate) const NEW_TABLE: u16 = SUBSYSTEM;
    pub(crate) const GET_TABLE: u16 = SUBSYSTEM | 1;
    pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
    pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
    pub(crate) const GET_CHAIN: u16 = SUBSYSTEM | 4;
    pub(crate) const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
    pub(crate) const NEW_RULE: u16 = SUBSYSTEM | 6;
    pub(crate) const GET_RULE: u16 = SUBSYSTEM | 7;
    pub(crate) const NEW_SET: u16 = SUBSYSTEM | 9;
    pub(crate) const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
    pub(crate) const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
    pub(crate) const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;
    pub(crate) const GET_GENERATION: u16 = SUBSYSTEM | 16;
    pub(crate) const BATCH_BEGIN: u16 = 16;
    pub(crate) const BATCH_END: u16 = 17;
    /// What a batch is for, in the header of its first and last message.
    pub(crate) const BATCH_SUBSYSTEM: u16 = 10;
}

/// The address family of our tables for packets.
pub(super) const IPV4: u8 = 2;
/// The family of what crosses bridges.
pub(super) const BRIDGES: u8 = 7;
/// One item of a list.
pub(super) const LIST_ITEM: u16 = 1;
/// Plain bytes, or a verdict, within a data attribute.
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const VERDICT_REGISTER: u32 = 0;

/// The header of a netfilter message: family, version, and a resource id.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A register of four bytes, by number from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Register(pub(super) u32);

impl Register {
    fn number(self) -> u32 {
        self.0 + 8
    }
}

/// Where a rule's last word leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Accept,
    Drop,
    /// Goes on behind the jump that led here.
    Return,
    Jump(&'static str),
    Goto(String),
}

impl Outcome {
    /// Writes the verdict into an attribute of that type.
    pub(super) fn write(&self, message: &mut Message, attribute: u16) {
        let (code, chain) = match self {
            Outcome::Drop => (0i32, None),
            Outcome::Accept => (1, None),
            Outcome::Return => (-5, None),
            Outcome::Jump(chain) => (-3, Some(*chain)),
            Outcome::Goto(chain) => (-4, Some(chain.as_str())),
        };
        message.nest(attribute, |data| {
            data.nest(DATA_VERDICT, |verdict| {
                verdict.put(VERDICT_CODE, &code.to_be_bytes());
                if let Some(chain) = chain {
                    verdict.put_str(VERDICT_CHAIN, chain);
                }
            });
        });
    }
}

/// One step of a rule. A step that doesn't hold ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Loads the packet's source address.
    Source(Register),
    /// Loads its destination address.
    Destination(Register),
    /// Loads its destination port.
    Port(Register),
    /// Loads the number of its transport protocol.
    Protocol(Register),
    /// Loads its TCP flags.
    TcpFlags(Register),
    /// Loads the index of the link by which its source is reached; 0 if not by the link that it
    /// came in by.
    WayBack(Register),
    /// Loads what a frame carries: IPv4, ARP.
    Carries(Register),
    /// Loads the six bytes of the hardware address that a frame is for.
    FrameTo(Register),
    /// Loads the address that an ARP packet says is its sender's.
    ArpSource(Register),
    /// Loads the index of the link that it came in by.
    InIndex(Register),
    /// Loads the name of the link that it came in by.
    InLink(Register),
    /// Loads the name of the link that it leaves by.
    OutLink(Register),
    /// Loads the state of its connection: new, established …
    ConnectionState(Register),
    /// Loads the status bits of its connection: what was done to it.
    ConnectionStatus(Register),
    /// Loads the kind of its destination address.
    DestinationKind(Register),
    /// Loads a number below `below`, each as likely, plus `offset`.
    Random { to: Register, below: u32, offset: u32 },
    /// Keeps the bits of the mask, one byte of it or four.
    Mask(Register, Vec<u8>),
    /// Copies three registers. `nft` sees that happen to the first one only.
    Copy { from: Register, to: Register },
    /// Holds when the register has these bytes.
    Is(Register, Vec<u8>),
    /// Holds when it has not.
    IsNot(Register, Vec<u8>),
    /// Holds when the set has the key.
    In(Register, &'static str),
    /// Loads what the map has for the key; holds when it has something. Where the answer is asked
    /// for by a later step, it follows [`Step::ASIDE`] bytes that lie in a register of no use.
    Find { key: Register, map: &'static str, to: Register },
    /// Does what the map says for the key, if it says something.
    Decide(Register, &'static str),
    /// Remembers key and value in a map for so long.
    Remember { key: Register, map: &'static str, value: Register, seconds: u32 },
    /// Sends the connection to that address and port.
    Redirect { address: Register, port: Register },
    /// Hides the source behind the address of the link that the packet leaves by.
    Masquerade,
    /// Answers with a TCP reset.
    Reset,
    /// Answers that nobody listens.
    Unreachable,
    /// Ends the chain.
    Finally(Outcome),
}

impl Step {
    /// What begins the value of a map whose answer is the next question's key. `nft` up to 1.0
    /// takes a map's answer for nothing at all, and ends by an assertion when it is a key; what it
    /// finds in the answer's first register it never shows, and in those behind it sees what was
    /// loaded there before. So an answer starts one register early.
    pub(super) const ASIDE: usize = 4;

    fn name(&self) -> &'static str {
        match self {
            Step::Source(_) | Step::Destination(_) | Step::Port(_) => "payload",
            Step::TcpFlags(_) | Step::FrameTo(_) | Step::ArpSource(_) => "payload",
            Step::Protocol(_) | Step::InLink(_) | Step::OutLink(_) => "meta",
            Step::Carries(_) | Step::InIndex(_) => "meta",
            Step::ConnectionState(_) | Step::ConnectionStatus(_) => "ct",
            Step::DestinationKind(_) | Step::WayBack(_) => "fib",
            Step::Finally(_) => "immediate",
            Step::Random { .. } => "numgen",
            Step::Mask(..) | Step::Copy { .. } => "bitwise",
            Step::Is(..) | Step::IsNot(..) => "cmp",
            Step::In(..) | Step::Find { .. } | Step::Decide(..) => "lookup",
            Step::Remember { .. } => "dynset",
            Step::Redirect { .. } => "nat",
            Step::Masquerade => "masq",
            Step::Reset | Step::Unreachable => "reject",
        }
    }

    /// Appends the step to a list of expressions.
    pub(super) fn write(&self, list: &mut Message) {
        list.nest(LIST_ITEM, |item| {
            item.put_str(EXPRESSION_NAME, self.name());
            item.nest(EXPRESSION_DATA, |data| self.fill(data));
        });
    }

    fn fill(&self, data: &mut Message) {
        match self {
            Step::Source(to) => numbers(data, &[(1, to.number()), (2, 1), (3, 12), (4, 4)]),
            Step::Destination(to) => numbers(data, &[(1, to.number()), (2, 1), (3, 16), (4, 4)]),
            Step::Port(to) => numbers(data, &[(1, to.number()), (2, 2), (3, 2), (4, 2)]),
            Step::TcpFlags(to) => numbers(data, &[(1, to.number()), (2, 2), (3, 13), (4, 1)]),
            Step::FrameTo(to) => numbers(data, &[(1, to.number()), (2, 0), (3, 0), (4, 6)]),
            Step::ArpSource(to) => numbers(data, &[(1, to.number()), (2, 1), (3, 14), (4, 4)]),
            Step::WayBack(to) => numbers(data, &[(1, to.number()), (2, 1), (3, 1 | 8)]),
            Step::Carries(to) => numbers(data, &[(1, to.number()), (2, 1)]),
            Step::InIndex(to) => numbers(data, &[(1, to.number()), (2, 4)]),
            Step::Protocol(to) => numbers(data, &[(1, to.number()), (2, 16)]),
            Step::InLink(to) => numbers(data, &[(1, to.number()), (2, 6)]),
            Step::OutLink(to) => numbers(data, &[(1, to.number()), (2, 7)]),
            Step::ConnectionState(to) => numbers(data, &[(1, to.number()), (2, 0)]),
            Step::ConnectionStatus(to) => numbers(data, &[(1, to.number()), (2, 2)]),
            Step::DestinationKind(to) => numbers(data, &[(1, to.number()), (2, 3), (3, 2)]),
            Step::Random { to, below, offset } => {
                numbers(data, &[(1, to.number()), (2, *below), (3, 1), (4, *offset)]);
            }
            Step::Mask(register, mask) => {
                let number = register.number();
                let length = if mask.len() == 1 { 1 } else { 4 };
                numbers(data, &[(1, number), (2, number), (3, length)]);
                bytes(data, 4, mask);
                bytes(data, 5, &vec![0; mask.len()]);
            }
            Step::Copy { from, to } => {
                numbers(data, &[(1, from.number()), (2, to.number()), (3, 12)]);
                bytes(data, 4, &[0xff; 12]);
                bytes(data, 5, &[0; 12]);
            }
            Step::Is(register, value) | Step::IsNot(register, value) => {
                let unequal = u32::from(matches!(self, Step::IsNot(..)));
                numbers(data, &[(1, register.number()), (2, unequal)]);
                bytes(data, 3, value);
            }
            Step::Finally(outcome) => {
                data.put_be32(1, VERDICT_REGISTER);
                outcome.write(data, 2);
            }
            _ => self.fill_action(data),
        }
    }

    fn fill_action(&self, data: &mut Message) {
        match self {
            Step::In(key, set) => {
                data.put_str(1, set);
                data.put_be32(2, key.number());
            }
            Step::Find { key, map, to } => {
                data.put_str(1, map);
                numbers(data, &[(2, key.number()), (3, to.number())]);
            }
            Step::Decide(key, map) => {
                data.put_str(1, map);
                numbers(data, &[(2, key.number()), (3, VERDICT_REGISTER)]);
            }
            Step::Remember { key, map, value, seconds } => {
                data.put_str(1, map);
                numbers(data, &[(3, 1), (4, key.number()), (5, value.number())]);
                data.put(6, &(u64::from(*seconds) * 1000).to_be_bytes());
            }
            Step::Redirect { address, port } => {
                let (address, port) = (address.number(), port.number());
                numbers(data, &[(1, 1), (2, u32::from(IPV4))]);
                numbers(data, &[(3, address), (4, address), (5, port), (6, port), (7, 3)]);
            }
            // The source port is picked at random, so that two boards' choices seldom meet.
            Step::Masquerade => data.put_be32(1, 0x10),
            Step::Reset => {
                data.put_be32(1, 1);
                data.put(2, &[0]);
            }
            Step::Unreachable => {
                data.put_be32(1, 0);
                data.put(2, &[3]);
            }
            _ => {}
        }
    }
}

fn numbers(message: &mut Message, pairs: &[(u16, u32)]) {
    for (attribute, value) in pairs {
        message.put_be32(*attribute, *value);
    }
}

/// A data attribute that holds plain bytes.
pub(super) fn bytes(message: &mut Message, attribute: u16, value: &[u8]) {
    message.nest(attribute, |data| data.put(DATA_VALUE, value));
}
