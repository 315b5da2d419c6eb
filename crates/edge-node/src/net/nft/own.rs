//! What is the board's own, whatever Services name: its DNS server, and the ports by which the
//! cluster is reached.

use super::super::board::Ranges;
use super::layout::named;
use super::wire::{Outcome, Register, Step};

/// TCP ports of boards by which the cluster itself is reached: API, bus, agent.
const OWN_TCP: [u16; 3] = [6443, 8883, 10250];
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
/// The kernel's word for an address of the board itself.
const LOCAL: u32 = 2;

/// Accepts what goes to the board's own DNS server, if `also` holds.
pub(super) fn to_dns(ranges: &Ranges, also: Vec<Step>) -> Option<Vec<Step>> {
    let address = ranges.services.dns()?.octets().to_vec();
    let register = Register(0);
    let to = vec![Step::Destination(register), Step::Is(register, address)];
    Some([to, also, vec![Step::Finally(Outcome::Accept)]].concat())
}

/// Accepts what goes to a board's own address at one of the cluster's own ports: no Service and no
/// pod's host port takes those away, whatever address it names.
pub(super) fn own_ports(ranges: &Ranges) -> impl Iterator<Item = Vec<Step>> {
    let tcp = OWN_TCP.map(|port| (TCP, port));
    tcp.into_iter().chain([(UDP, ranges.tunnels)]).map(|(protocol, port)| {
        let register = Register(0);
        let is = |load: Step, value: Vec<u8>| [load, Step::Is(register, value)];
        [
            &is(Step::Protocol(register), vec![protocol])[..],
            &is(Step::Port(register), port.to_be_bytes().to_vec()),
            &to_the_board(),
            &[Step::Finally(Outcome::Accept)],
        ]
        .concat()
    })
}

/// A question that came by this link.
pub(super) fn asked_by(link: &str) -> Vec<Step> {
    let register = Register(0);
    let port = vec![Step::Port(register), Step::Is(register, 53u16.to_be_bytes().to_vec())];
    [port, vec![Step::InLink(register), Step::Is(register, named(link))]].concat()
}

pub(super) fn to_the_board() -> [Step; 2] {
    let kind = Register(0);
    [Step::DestinationKind(kind), Step::Is(kind, LOCAL.to_ne_bytes().to_vec())]
}
