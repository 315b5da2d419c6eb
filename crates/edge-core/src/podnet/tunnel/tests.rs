//! Tunnels between boards: who gets one, what each end is told, and that nothing secret goes in
//! plain text, as tables of cases and as a walk of two boards that decide for themselves.

use super::*;
use crate::podnet::{Own, Peer, Plan, Route, Seen, Via, Why, needs_tunnel, plan};
use core::net::Ipv4Addr;
use serde_json::json;

const LINK: u32 = 9;
const NEAR: Way = Way::Neighbour(7);

fn range(text: &str) -> Range {
    Range::parse(text).expect("a range")
}

fn key(n: u8) -> Key {
    Key([n; 32])
}

fn says(encrypts: bool, n: u8) -> Announcement {
    Announcement { encrypts, wireguard: Announced::Key { key: key(n), port: 51820 } }
}

fn peer(name: &str, n: u8, says: Announcement) -> Peer {
    let pods = range(&format!("10.42.{n}.0/24"));
    Peer { name: name.into(), pods, address: Some(Ipv4Addr::new(192, 0, 2, n)), says }
}

fn own(encrypts: bool, tunnel: Tunnel) -> Own {
    let (pods, cluster) = (range("10.42.1.0/24"), range("10.42.0.0/16"));
    Own { name: "a".into(), pods, cluster, encrypts, tunnel }
}

const UP: Tunnel = Tunnel::Up { link: LINK, key: Key([1; 32]) };

fn through(plan: &Plan) -> Vec<(String, u16, Option<u16>)> {
    let line = |peer: &TunnelPeer| (peer.board.clone(), peer.endpoint.port(), peer.keepalive);
    plan.peers.iter().map(line).collect()
}

/// The routes of a plan, as the kernel would have them.
fn realised(plan: &Plan) -> Vec<Seen> {
    let seen = |route: &Route| {
        let (gateway, link) = match route.via {
            Via::Board { gateway, link } => (Some(gateway), Some(link)),
            Via::Tunnel(link) => (None, Some(link)),
            Via::Nobody => (None, None),
        };
        let dead = route.via == Via::Nobody;
        Seen { range: route.pods, gateway, link, dead, ours: true }
    };
    plan.set.iter().map(seen).collect()
}

#[test]
fn an_announcement_reads_back_as_it_was_written() {
    let nothing = Announcement::default();
    let lacking = Announcement { encrypts: true, wireguard: Announced::Lacking };
    for announcement in [nothing, lacking, says(true, 3), says(false, 4)] {
        let mut node = json!({"metadata": {"name": "b", "annotations": {"other": "x"}}});
        for (key, value) in announcement.annotations() {
            if let Some(value) = value {
                node["metadata"]["annotations"][key] = json!(value);
            }
        }
        assert_eq!(Announcement::read(&node), announcement, "{node}");
    }
    let zeros = format!("{} 51820", STANDARD.encode([0; 32]));
    for bad in ["", "x", "lacking ", "AAAA 51820", zeros.as_str(), &format!("{} 0", key(3))] {
        let node = json!({"metadata": {"annotations": {KEY_ANNOTATION: bad}}});
        assert_eq!(Announcement::read(&node), nothing, "{bad:?}");
    }
}

#[test]
fn neighbours_who_ask_for_nothing_have_no_tunnel() {
    let peers = [(peer("b", 2, says(false, 2)), NEAR), (peer("c", 3, says(false, 3)), Way::Routed)];
    assert!(!needs_tunnel(&own(false, Tunnel::Down), &peers[..1], &[]));
    assert!(needs_tunnel(&own(false, Tunnel::Down), &peers, &[]));
    let plan = plan(&own(false, UP), &peers, &[]);
    assert_eq!(through(&plan), [("c".to_owned(), 51820, Some(25))]);
    let vias: Vec<Via> = plan.set.iter().map(|route| route.via).collect();
    let near = Via::Board { gateway: Ipv4Addr::new(192, 0, 2, 2), link: 7 };
    assert_eq!(vias, [near, Via::Tunnel(LINK)]);
    assert!(plan.unreached.is_empty());
}

#[test]
fn one_that_asks_for_encryption_is_enough_and_a_neighbour_is_never_woken() {
    for (here, there) in [(true, false), (false, true), (true, true)] {
        let peers = [(peer("b", 2, says(there, 2)), NEAR)];
        assert!(needs_tunnel(&own(here, Tunnel::Down), &peers, &[]));
        let first = plan(&own(here, UP), &peers, &[]);
        assert_eq!(through(&first), [("b".to_owned(), 51820, Some(0))]);
        let vias: Vec<Via> = first.set.iter().map(|route| route.via).collect();
        assert_eq!(vias, [Via::Nobody, Via::Tunnel(LINK)]);
        assert!(plan(&own(here, UP), &peers, &realised(&first)).is_empty());
    }
}

#[test]
fn what_is_to_be_secret_never_goes_in_plain_text() {
    let silent = Announcement { encrypts: false, wireguard: Announced::Nothing };
    let lacking = Announcement { encrypts: false, wireguard: Announced::Lacking };
    let cases = [
        (own(true, Tunnel::Lacking), says(false, 2), "this board's kernel has no WireGuard"),
        (own(true, Tunnel::Down), says(false, 2), "end of it is not up"),
        (own(false, Tunnel::Lacking), says(true, 2), "that board is set to encrypt-pods"),
        (own(true, UP), lacking, "the kernel there has no WireGuard"),
        (own(true, UP), silent, "has told no key"),
        (own(true, UP), says(false, 1), "the tunnel key of board a"),
    ];
    for (own, says, words) in cases {
        for way in [NEAR, Way::Routed] {
            // Also a plain route that stood before goes.
            let gateway = Some(Ipv4Addr::new(192, 0, 2, 2));
            let (pods, link) = (range("10.42.2.0/24"), Some(7));
            let stood = Seen { range: pods, gateway, link, dead: false, ours: true };
            let plan = plan(&own, &[(peer("b", 2, says), way)], &[stood]);
            assert_eq!(plan.remove, [stood]);
            let guard = [Route { pods: own.cluster, via: Via::Nobody }];
            assert_eq!((&plan.set[..], plan.peers.len()), (&guard[..], 0));
            let told = plan.unreached.first().expect("why").to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}

#[test]
fn one_key_is_one_board() {
    let peers =
        [(peer("c", 3, says(false, 5)), Way::Routed), (peer("b", 2, says(false, 5)), Way::Routed)];
    let plan = plan(&own(false, UP), &peers, &[]);
    assert_eq!(through(&plan).len(), 1);
    assert_eq!(plan.unreached.first().map(|u| &u.why), Some(&Why::SameKey("b".into())));
}

#[test]
fn a_tunnel_stands_while_a_link_is_down() {
    let routed = [(peer("b", 2, says(false, 2)), Way::Routed)];
    let first = plan(&own(false, UP), &routed, &[]);
    let seen = realised(&first);
    let away = [(peer("b", 2, says(false, 2)), Way::Nowhere)];
    assert!(needs_tunnel(&own(false, UP), &away, &seen));
    let during = plan(&own(false, UP), &away, &seen);
    assert!(during.is_empty() && during.unreached.len() == 1, "{during:?}");
    assert_eq!(through(&during), [("b".to_owned(), 51820, None)], "its end stays as it is");
    // A board that was a neighbour and is away has no tunnel to stand.
    assert!(!needs_tunnel(&own(false, Tunnel::Down), &away, &[]));
}

fn wanted(n: u8, last: u8) -> TunnelPeer {
    TunnelPeer {
        board: format!("n{n}"),
        key: key(n),
        endpoint: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), 51820),
        pods: range(&format!("10.42.{n}.0/24")),
        keepalive: Some(0),
    }
}

fn seen(n: u8, last: u8) -> SeenPeer {
    let TunnelPeer { key, endpoint, pods, .. } = wanted(n, last);
    let (endpoint, pods) = (Some(endpoint), vec![pods]);
    SeenPeer { key, endpoint, pods, keepalive: 0, alive: true, unanswered: false }
}

#[test]
fn only_what_differs_about_the_other_ends_is_touched() {
    let told = |n, last| BTreeMap::from([(key(n), wanted(n, last).endpoint)]);
    let found = [seen(2, 2), seen(3, 3)];
    let goal = [wanted(2, 2), wanted(3, 3)];
    assert_eq!(changes(&goal, &found, &BTreeMap::new()), []);
    assert_eq!(changes(&goal[..1], &found, &BTreeMap::new()), [Change::Remove(key(3))]);
    let fresh = changes(&goal, &found[..1], &BTreeMap::new());
    assert!(matches!(fresh[..], [Change::Set { fresh: true, keepalive: Some(0), .. }]));
    // The board says a new address, or the kernel's own finding is dead.
    let moved = [Change::Set {
        key: key(2),
        fresh: false,
        endpoint: Some(wanted(2, 8).endpoint),
        pods: None,
        keepalive: None,
    }];
    assert_eq!(changes(&[wanted(2, 8)], &[seen(2, 2)], &told(2, 2)), moved);
    let dead = SeenPeer { alive: false, ..seen(2, 2) };
    assert_eq!(changes(&[wanted(2, 8)], &[dead], &told(2, 8)), moved);
    // The kernel hears the board from somewhere else, behind a router that hides it.
    assert_eq!(changes(&[wanted(2, 8)], &[seen(2, 2)], &told(2, 8)), []);
}

#[test]
fn an_end_that_never_answered_is_named() {
    let silent = SeenPeer { unanswered: true, ..seen(2, 2) };
    let boards = |wanted: &[TunnelPeer], seen: &[SeenPeer]| -> Vec<String> {
        unanswered(wanted, seen).map(|peer| peer.board.clone()).collect()
    };
    assert_eq!(boards(&[wanted(2, 2)], std::slice::from_ref(&silent)), ["n2"]);
    assert!(boards(&[wanted(2, 8)], &[silent]).is_empty(), "not asked there yet");
    assert!(boards(&[wanted(2, 2)], &[seen(2, 2)]).is_empty());
}

#[test]
fn packets_in_a_tunnel_leave_room_for_its_headers() {
    assert_eq!((mtu(1500, true), mtu(1500, false)), (1440, 1420));
    assert_eq!(mtu(600, true), 576);
}

/// Two boards, whose links, wishes and kernels change: once each has seen what the other says, both
/// have the same kind of way to each other, and nobody who asks for encryption has a plain one.
#[test]
fn two_boards_agree_and_nothing_secret_is_plain() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    for _ in 0..2000 {
        let way = if below(2) == 0 { NEAR } else { Way::Routed };
        let wishes = [below(3) == 0, below(3) == 0];
        let lacks = [below(4) == 0, below(4) == 0];
        let mut says = [Announcement::default(); 2];
        let mut routes: [Vec<Seen>; 2] = [Vec::new(), Vec::new()];
        for turn in 0..8 {
            let me = turn % 2;
            let names = ["a", "b"];
            let numbers = [1, 2];
            let peers = [(peer(names[1 - me], numbers[1 - me], says[1 - me]), way)];
            let mut own = own(wishes[me], Tunnel::Down);
            own.name = names[me].into();
            own.pods = range(&format!("10.42.{}.0/24", numbers[me]));
            if needs_tunnel(&own, &peers, &routes[me]) {
                let up = Tunnel::Up { link: LINK, key: key(numbers[me]) };
                own.tunnel = if lacks[me] { Tunnel::Lacking } else { up };
            }
            let wireguard = match own.tunnel {
                Tunnel::Down => Announced::Nothing,
                Tunnel::Lacking => Announced::Lacking,
                Tunnel::Up { key, .. } => Announced::Key { key, port: 51820 },
            };
            says[me] = Announcement { encrypts: wishes[me], wireguard };
            let plan = plan(&own, &peers, &[]);
            let plain = plan.set.iter().any(|route| matches!(route.via, Via::Board { .. }));
            assert!(!(plain && wishes[me]), "a board that asks is never plain");
            routes[me] = realised(&plan);
        }
        let kind = |seen: &[Seen]| {
            let to_boards = seen.iter().filter(|seen| !seen.dead);
            to_boards.map(|seen| seen.gateway.is_some()).next()
        };
        let kinds = [kind(&routes[0]), kind(&routes[1])];
        assert_eq!(kinds[0], kinds[1], "{way:?} {wishes:?} {lacks:?}");
        let secret = wishes[0] || wishes[1];
        let expected = match (secret || way == Way::Routed, lacks[0] || lacks[1]) {
            (false, _) => Some(true),
            (true, true) => None,
            (true, false) => Some(false),
        };
        assert_eq!(kinds[0], expected, "{way:?} {wishes:?} {lacks:?}");
    }
}
