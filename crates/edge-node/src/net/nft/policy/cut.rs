//! Connections that were allowed once and are no longer: the kernel forgets them, and what they
//! send is judged anew.

use super::super::super::error::NetError;
use super::super::conntrack::{self, Tuple};
use edge_core::policy::{Rules, Traffic};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Cuts the connections that the rules forbid; what the board itself has begun is not judged.
/// Answers how many.
pub(in crate::net) fn cut(rules: &Rules, board: &BTreeSet<Ipv4Addr>) -> Result<usize, NetError> {
    conntrack::forget_where(|original: &Tuple, reply: &Tuple| {
        // As the board sees the first packet: from whoever sent it, to where it was sent on.
        let (from, to) = (original.source.address, reply.source.address);
        let traffic = Traffic::new(original.protocol, reply.source.port);
        !board.contains(&from) && !rules.allow(from, to, traffic)
    })
}
