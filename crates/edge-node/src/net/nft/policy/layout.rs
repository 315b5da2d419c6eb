//! What stands in the table of policies whatever policies there are. A packet that the board
//! forwards, or that a pod sends to the board, is judged when its connection begins; what belongs
//! to a connection that was allowed passes. What the board itself sends is not judged: its kubelet
//! must reach its pods.

use super::super::layout::{
    ADDRESS, Chain, Data, FORWARD, INPUT, INTERVAL, MAP, MARK, PROTOCOL, SERVICE, Set, UNDER_WAY,
    hooked, nothing, some_bits,
};
use super::super::wire::{Outcome, Register, Step};

/// Profiles of pods that not everybody may reach, by their address.
pub(super) const INGRESS: &str = "ingress";
/// Profiles of pods that may not reach everybody.
pub(super) const EGRESS: &str = "egress";
/// Pairs of an isolated pod's address with itself.
pub(super) const ITSELF: &str = "itself";
/// Classes of pods as peers.
pub(super) const PODS: &str = "pods";
/// Classes of other addresses as peers.
pub(super) const BLOCKS: &str = "blocks";
/// Which traffic a profile allows a class: profile, class, protocol, port.
pub(super) const ALLOWED: &str = "allowed";

/// After the Services' own chains, which refuse what nobody serves.
const PRIORITY: i32 = 10;
const TCP: u8 = 6;
/// FIN, SYN, RST and ACK; and SYN alone, with which a connection begins.
const TCP_FLAGS: u8 = 0x17;
const TCP_SYN: u8 = 0x02;

/// The sets and maps.
pub(super) fn sets() -> Vec<Set> {
    let map = |name, flags| {
        let data = Some(Data::Fields(vec![MARK, MARK]));
        Set { name, flags: MAP | flags, key: vec![ADDRESS], data, size: None }
    };
    vec![
        map(INGRESS, 0),
        map(EGRESS, 0),
        Set { name: ITSELF, flags: 0, key: vec![ADDRESS, ADDRESS], data: None, size: None },
        map(PODS, 0),
        map(BLOCKS, INTERVAL),
        Set {
            name: ALLOWED,
            flags: INTERVAL,
            key: vec![MARK, MARK, PROTOCOL, SERVICE],
            data: None,
            size: None,
        },
    ]
}

/// Where the key of [`ALLOWED`] is put together: profile, class, protocol, port.
const KEY: [Register; 4] = [Register(1), Register(2), Register(3), Register(4)];
/// The one before it, where answers begin.
const SPARE: Register = Register(0);

type Load = fn(Register) -> Step;

fn finally(outcome: Outcome) -> Vec<Step> {
    vec![Step::Finally(outcome)]
}

/// The pod's profile, if it is isolated, as the key's first field.
fn profile(pod: Load, map: &'static str) -> Vec<Step> {
    vec![pod(KEY[0]), Step::Find { key: KEY[0], map, to: SPARE }]
}

/// The peer's class, if it has one, as the key's second field; the first is lost.
fn class(peer: Load, map: &'static str) -> Vec<Step> {
    vec![peer(KEY[1]), Step::Find { key: KEY[1], map, to: KEY[0] }]
}

/// Judges what begins between a pod and its peer.
fn judge(name: &'static str, pod: Load, peer: Load) -> Chain {
    let classes = [vec![peer(KEY[1]), nothing(KEY[1])], class(peer, PODS), class(peer, BLOCKS)];
    let traffic = [Step::Protocol(KEY[2]), Step::Port(KEY[3]), Step::In(KEY[0], ALLOWED)].to_vec();
    let mut rules: Vec<Vec<Step>> = classes
        .into_iter()
        .map(|class| {
            [class, profile(pod, name), traffic.clone(), finally(Outcome::Return)].concat()
        })
        .collect();
    rules.push(finally(Outcome::Drop));
    Chain { name: name.to_owned(), hook: None, rules }
}

/// Drops what an isolated pod sends or gets by TCP outside of any connection: what is left of one
/// that was cut must not look like a new one, in whichever direction.
fn no_leftovers(pod: Load) -> Vec<Step> {
    let other = Register(1);
    vec![
        Step::Protocol(SPARE),
        Step::Is(SPARE, vec![TCP]),
        Step::TcpFlags(SPARE),
        Step::Mask(SPARE, vec![TCP_FLAGS]),
        Step::IsNot(SPARE, vec![TCP_SYN]),
        pod(SPARE),
        pod(other),
        Step::In(SPARE, ITSELF),
        Step::Finally(Outcome::Drop),
    ]
}

/// The chains, in an order in which each one's targets come before it.
pub(super) fn chains() -> Vec<Chain> {
    let mut all = vec![
        judge(EGRESS, Step::Source, Step::Destination),
        judge(INGRESS, Step::Destination, Step::Source),
    ];
    let jump = |pod: Load, chain: &'static str| {
        [profile(pod, chain), finally(Outcome::Jump(chain))].concat()
    };
    let under_way =
        [some_bits(Step::ConnectionState, UNDER_WAY).to_vec(), finally(Outcome::Accept)].concat();
    let itself = vec![
        Step::Source(Register(0)),
        Step::Destination(Register(1)),
        Step::In(Register(0), ITSELF),
        Step::Finally(Outcome::Accept),
    ];
    let mut forward = hooked("forward", "filter", FORWARD, PRIORITY);
    forward.rules = vec![
        under_way.clone(),
        itself,
        no_leftovers(Step::Source),
        no_leftovers(Step::Destination),
        jump(Step::Source, EGRESS),
        jump(Step::Destination, INGRESS),
    ];
    let mut input = hooked("input", "filter", INPUT, PRIORITY);
    input.rules = vec![under_way, no_leftovers(Step::Source), jump(Step::Source, EGRESS)];
    all.extend([forward, input]);
    all
}
