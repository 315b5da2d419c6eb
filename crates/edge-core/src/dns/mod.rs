//! Names of the cluster, as pods look them up: the table of what Services and EndpointSlices are
//! called (Kubernetes' DNS specification, schema 1.1.0), answers to questions about it, DNS
//! messages on the wire, and the `resolv.conf` that pods get.
//!
//! The wire is ours: a cluster's server reads one question and writes a few kinds of records
//! (`docs/adr/0018-names.md` says what a library would cost).

mod answer;
mod name;
mod names;
mod query;
mod relay;
mod reply;
mod resolver;
#[cfg(test)]
mod tests;

pub use answer::{Outcome, Zone, answer};
pub use name::Name;
pub use names::Names;
pub use query::{Edns, Query, parse};
pub use relay::{Heard, ask, listen, records, serve};
pub use reply::{Data, Record, Reply, code, encode, refuse};
pub use resolver::{ClusterDns, Resolver, pod_resolver};

/// Types of records, by their numbers.
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A zone's server.
    pub const NS: u16 = 2;
    /// Another name for this one.
    pub const CNAME: u16 = 5;
    /// A zone's own record.
    pub const SOA: u16 = 6;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// A machine's kind; what is answered to "anything".
    pub const HINFO: u16 = 13;
    /// Text.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// Where a service is, with its port.
    pub const SRV: u16 = 33;
    /// No record: what the sender of a message can.
    pub const OPT: u16 = 41;
    /// From here to 255 stand questions that are no types of records (RFC 6895).
    pub const QUESTIONS: u16 = 128;
    /// All records of a name.
    pub const ANY: u16 = 255;
}

/// The class of all that we know.
pub const CLASS_IN: u16 = 1;
/// Bytes of a message over UDP to or from somebody who says nothing about it (RFC 1035).
pub const UDP_BYTES: u16 = 512;
/// Bytes that we take and send over UDP at most: no part of a path splits such a packet.
pub const UDP_MOST: u16 = 1232;

const HEADER: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;
const DNSSEC_OK: u32 = 0x8000;

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}
