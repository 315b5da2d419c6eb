//! What stands in our table whatever Services there are: its hooks, their rules, and the
//! maps that the rules ask. A connection's first packet costs the same few lookups with ten
//! services as with ten thousand.

use super::super::board::{BRIDGE, Ranges};
use super::super::range::Range;
use super::super::wireguard::TUNNEL;
use super::own::{TCP, asked_by, own_ports, to_dns, to_the_board};
use super::wire::{Outcome, Register, Step};
use std::net::Ipv4Addr;

/// How each front spreads, by address, protocol and port; the address is 0.0.0.0 for a node
/// port. Not the verdict itself: the kernel checks all verdicts of a map when one changes.
pub(super) const SERVICES: &str = "services";
/// Those that come first for connections from pods and from the board itself.
pub(super) const INSIDE: &str = "inside-services";
/// Fronts that refuse or drop.
pub(super) const REFUSED: &str = "refused";
/// The chain for each way of spreading.
pub(super) const SPREADS: &str = "spreads";
/// What refusing and dropping are.
pub(super) const ANSWERS: &str = "answers";
/// Targets by address, protocol, port and number.
pub(super) const TARGETS: &str = "targets";
/// Clients that keep their target, by their address and the front.
pub(super) const AFFINITY: &str = "affinity";
/// Pairs of one address with itself: pods that may meet themselves through a Service.
pub(super) const HAIRPINS: &str = "hairpins";
/// The number of the list of those whom a front takes, where it doesn't take everybody.
pub(super) const RESTRICTED: &str = "restricted";
/// The chain for each such list.
pub(super) const SOURCES: &str = "sources";
/// Addresses of the LAN that belong to Services.
pub(super) const ADDRESSES: &str = "addresses";
/// The chain that refuses.
pub(super) const REFUSE: &str = "refuse";
/// At most so many clients are remembered.
const AFFINITY_ENTRIES: u32 = 65_536;

pub(super) const MAP: u32 = 0x8;
pub(super) const INTERVAL: u32 = 0x4;
const TIMEOUT: u32 = 0x10;
const EVALUATED: u32 = 0x20;
/// The kernel's word for verdicts as a map's data.
const VERDICTS: u32 = 0xffff_ff00;
/// Types as `nft` names them, for whoever lists our table.
pub(super) const NUMBER: u32 = 4;
pub(super) const ADDRESS: u32 = 7;
pub(super) const PROTOCOL: u32 = 12;
pub(super) const SERVICE: u32 = 13;
pub(super) const MARK: u32 = 19;
/// The kernel's mark of a connection whose destination was changed.
const REDIRECTED: u32 = 0x20;
/// The kernel's states of a connection that is under way, or belongs to one.
pub(super) const UNDER_WAY: u32 = 0x2 | 0x4;

/// A set or map.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) flags: u32,
    pub(super) key: Vec<u32>,
    pub(super) data: Option<Data>,
    pub(super) size: Option<u32>,
}

/// What a map holds.
#[derive(Debug)]
pub(super) enum Data {
    Verdicts,
    Fields(Vec<u32>),
}

/// Types of a concatenation, as one number; each field takes four bytes.
pub(super) fn fields(types: &[u32]) -> (u32, u32) {
    let kind = types.iter().fold(0, |kind, field| (kind << 6) | field);
    (kind, types.iter().map(|_| 4).sum())
}

impl Set {
    /// The key's type, as a number, and its length in bytes. To `nft` a stretch is from a number to
    /// another: it can't show one of fields.
    pub(super) fn describe(&self) -> (u32, u32) {
        let (kind, length) = fields(&self.key);
        let stretches = self.flags & INTERVAL != 0 && self.key.len() > 1;
        (if stretches { NUMBER } else { kind }, length)
    }
}

impl Data {
    /// The type's number and its length in bytes.
    pub(super) fn describe(&self) -> (u32, u32) {
        match self {
            Data::Verdicts => (VERDICTS, 0),
            Data::Fields(types) => fields(types),
        }
    }
}

/// Where a chain hooks into the kernel's way of a packet.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A chain and its rules.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Step>>,
}

pub(super) const PREROUTING: u32 = 0;
pub(super) const INPUT: u32 = 1;
pub(super) const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

pub(super) fn hooked(name: &str, kind: &'static str, number: u32, priority: i32) -> Chain {
    let hook = Some(Hook { kind, number, priority });
    Chain { name: name.to_owned(), hook, rules: Vec::new() }
}

/// The sets and maps.
pub(super) fn sets() -> Vec<Set> {
    let front = || vec![ADDRESS, PROTOCOL, SERVICE];
    let way = || vec![MARK, MARK];
    let fronts = |name| {
        let data = Some(Data::Fields([vec![MARK], way()].concat()));
        Set { name, flags: MAP, key: front(), data, size: None }
    };
    let verdicts = |name| {
        let data = Some(Data::Verdicts);
        Set { name, flags: MAP, key: way(), data, size: None }
    };
    let target = || Some(Data::Fields(vec![ADDRESS, SERVICE]));
    vec![
        fronts(SERVICES),
        fronts(INSIDE),
        fronts(REFUSED),
        verdicts(SPREADS),
        verdicts(ANSWERS),
        Set {
            name: TARGETS,
            flags: MAP,
            key: vec![ADDRESS, PROTOCOL, SERVICE, MARK],
            data: target(),
            size: None,
        },
        Set {
            name: AFFINITY,
            flags: MAP | TIMEOUT | EVALUATED,
            key: vec![ADDRESS, ADDRESS, PROTOCOL, SERVICE],
            data: target(),
            size: Some(AFFINITY_ENTRIES),
        },
        Set { name: HAIRPINS, flags: 0, key: vec![ADDRESS, ADDRESS], data: None, size: None },
        fronts(RESTRICTED),
        verdicts(SOURCES),
        Set { name: ADDRESSES, flags: 0, key: vec![ADDRESS], data: None, size: None },
    ]
}

/// Loads the front that a packet is for into three registers from `at`.
pub(super) fn load_front(at: u32, node_port: bool) -> Vec<Step> {
    let mut steps = vec![Step::Destination(Register(at))];
    steps.extend(node_port.then(|| nothing(Register(at))));
    steps.extend([Step::Protocol(Register(at + 1)), Step::Port(Register(at + 2))]);
    steps
}

/// Makes 0.0.0.0 of an address. Unlike with a fixed value, `nft` knows then what it is.
pub(super) fn nothing(register: Register) -> Step {
    Step::Mask(register, vec![0; 4])
}

/// Holds when the address that `load` loads is in the range, or when it is not.
pub(super) fn within(load: fn(Register) -> Step, range: &Range, inside: bool) -> Vec<Step> {
    within_bits(load, range.base(), range.mask(), inside)
}

/// The same, of a range as its first address and its prefix as bits.
pub(super) fn within_bits(
    load: fn(Register) -> Step,
    base: Ipv4Addr,
    bits: u32,
    inside: bool,
) -> Vec<Step> {
    let register = Register(0);
    let base = base.octets().to_vec();
    let compare = if inside { Step::Is(register, base) } else { Step::IsNot(register, base) };
    vec![load(register), Step::Mask(register, bits.to_be_bytes().to_vec()), compare]
}

pub(super) fn link_name() -> Vec<u8> {
    named(BRIDGE)
}

pub(super) fn named(link: &str) -> Vec<u8> {
    let mut name = link.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

pub(super) fn some_bits(load: fn(Register) -> Step, bits: u32) -> [Step; 3] {
    let register = Register(0);
    [
        load(register),
        Step::Mask(register, bits.to_ne_bytes().to_vec()),
        Step::IsNot(register, vec![0; 4]),
    ]
}

fn redirected() -> [Step; 3] {
    some_bits(Step::ConnectionStatus, REDIRECTED)
}

/// Asks a map for the packet's front, by address, and for the board's own addresses by port;
/// and does what the other map says to its answer.
fn ask(map: &'static str, then: &'static str) -> [Vec<Step>; 2] {
    let (aside, key) = (Register(0), Register(1));
    let decide = [Step::Find { key, map, to: aside }, Step::Decide(key, then)];
    let by_address = [&load_front(1, false)[..], &decide].concat();
    let by_port = [&to_the_board()[..], &load_front(1, true), &decide].concat();
    [by_address, by_port]
}

fn goto(steps: &[Step], chain: &str) -> Vec<Step> {
    [steps, &[Step::Finally(Outcome::Goto(chain.to_owned()))]].concat()
}

/// The chains, in an order in which each one's targets come before it.
pub(super) fn chains(ranges: &Ranges) -> Vec<Chain> {
    let protocol = Register(0);
    let refuse = Chain {
        name: REFUSE.to_owned(),
        hook: None,
        rules: vec![
            vec![Step::Protocol(protocol), Step::Is(protocol, vec![TCP]), Step::Reset],
            vec![Step::Unreachable],
        ],
    };
    let inside =
        Chain { name: "inside".to_owned(), hook: None, rules: ask(INSIDE, SPREADS).into() };
    let [restricted, _] = ask(RESTRICTED, SOURCES);
    let restrict = Chain { name: "restrict".to_owned(), hook: None, rules: vec![restricted] };
    let jump = || Step::Finally(Outcome::Jump("inside"));
    let [by_address, by_port] = ask(SERVICES, SPREADS);
    let mut prerouting = hooked("prerouting", "nat", PREROUTING, -100);
    let from_pod = within(Step::Source, &ranges.cluster, true);
    let mut output = hooked("output", "nat", OUTPUT, -100);
    for chain in [&mut prerouting, &mut output] {
        // Nobody's port of the board's addresses, not even 53, takes questions away from it.
        chain.rules.extend(to_dns(ranges, vec![]));
        chain.rules.extend(own_ports(ranges));
        chain.rules.push(vec![Step::Finally(Outcome::Jump("restrict"))]);
    }
    prerouting.rules.extend([[from_pod, vec![jump()]].concat(), by_address.clone()]);
    prerouting.rules.push(by_port.clone());
    output.rules.extend([vec![jump()], by_address, by_port]);
    let guard = super::guard::chain(ranges);
    let mut all = vec![refuse, restrict, inside, prerouting, output, postrouting(ranges), guard];
    let to_services = within(Step::Destination, &ranges.services, true);
    for (name, number) in [("forward", FORWARD), ("local-output", OUTPUT), ("input", INPUT)] {
        let mut chain = hooked(name, "filter", number, 0);
        for pass in [some_bits(Step::ConnectionState, UNDER_WAY), redirected()] {
            chain.rules.push([&pass[..], &[Step::Finally(Outcome::Accept)]].concat());
        }
        match number {
            INPUT => {
                for link in [BRIDGE, "lo"] {
                    chain.rules.extend(to_dns(ranges, asked_by(link)));
                }
            }
            OUTPUT => chain.rules.extend(to_dns(ranges, vec![])),
            _ => {}
        }
        let [by_address, by_port] = ask(REFUSED, ANSWERS);
        chain.rules.push(by_address);
        if number == INPUT {
            chain.rules.push(by_port);
        }
        // No service has this address, or it would have been changed by now.
        let address = [Step::Destination(protocol), Step::In(protocol, ADDRESSES)];
        chain.rules.push(goto(&address, REFUSE));
        chain.rules.push(goto(&to_services, REFUSE));
        all.push(chain);
    }
    all
}

/// Whose source is hidden: pods that leave the cluster, a pod that meets itself, the board's
/// loopback address, and clients from outside whose target is on another board; all clients from
/// outside who go through a tunnel, whose other end takes nobody else than this board's pods.
fn postrouting(ranges: &Ranges) -> Chain {
    let mut chain = hooked("postrouting", "nat", POSTROUTING, 100);
    let link = Register(0);
    let elsewhere = || vec![Step::OutLink(link), Step::IsNot(link, link_name())];
    let to_pods = vec![Step::OutLink(link), Step::Is(link, link_name())];
    let hide = || vec![Step::Masquerade];
    let loopback = vec![
        Step::Source(link),
        Step::Mask(link, vec![255, 0, 0, 0]),
        Step::Is(link, vec![127, 0, 0, 0]),
    ];
    let itself = vec![
        Step::Source(Register(0)),
        Step::Destination(Register(1)),
        Step::In(Register(0), HAIRPINS),
    ];
    chain.rules = vec![
        [
            within(Step::Source, &ranges.pods, true),
            within(Step::Destination, &ranges.cluster, false),
            elsewhere(),
            hide(),
        ]
        .concat(),
        [itself, hide()].concat(),
        [loopback, to_pods, hide()].concat(),
        [
            redirected().to_vec(),
            within(Step::Source, &ranges.cluster, false),
            elsewhere(),
            not_loopback_link(),
            hide(),
        ]
        .concat(),
        [
            within(Step::Source, &ranges.cluster, false),
            vec![Step::OutLink(link), Step::Is(link, named(TUNNEL))],
            hide(),
        ]
        .concat(),
    ];
    chain
}

fn not_loopback_link() -> Vec<Step> {
    vec![Step::OutLink(Register(0)), Step::IsNot(Register(0), named("lo"))]
}
