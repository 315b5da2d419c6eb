//! Routes between boards, as tables of cases and as a random walk.

use super::*;
use serde_json::{Value, json};

fn range(text: &str) -> Range {
    Range::parse(text).expect("a range")
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

fn own() -> Own {
    Own {
        name: "a".into(),
        pods: range("10.42.0.0/24"),
        cluster: range("10.42.0.0/16"),
        encrypts: false,
        tunnel: Tunnel::Down,
    }
}

fn peer(name: &str, pods: &str, last: u8) -> Peer {
    let says = Announcement::default();
    Peer { name: name.into(), pods: range(pods), address: Some(ip(last)), says }
}

fn ours(pods: &str, last: u8, link: u32) -> Seen {
    let gateway = Some(ip(last));
    Seen { range: range(pods), gateway, link: Some(link), dead: false, ours: true }
}

fn shown(route: &Route) -> String {
    match route.via {
        Via::Board { gateway, link } => format!("{} via {gateway} dev {link}", route.pods),
        Via::Tunnel(link) => format!("{} dev {link}", route.pods),
        Via::Nobody => format!("unreachable {}", route.pods),
    }
}

const NEAR: Way = Way::Neighbour(7);

/// Does to the routes what the plan says.
fn realise(seen: &mut Vec<Seen>, plan: &Plan) {
    seen.retain(|known| !plan.remove.contains(known));
    for route in &plan.set {
        seen.retain(|known| !(known.ours && known.range == route.pods));
        let (gateway, link) = match route.via {
            Via::Board { gateway, link } => (Some(gateway), Some(link)),
            Via::Tunnel(link) => (None, Some(link)),
            Via::Nobody => (None, None),
        };
        let dead = route.via == Via::Nobody;
        seen.push(Seen { range: route.pods, gateway, link, dead, ours: true });
    }
}

#[test]
fn a_node_says_where_its_pods_are() {
    let node = |cidr: Value, addresses: Value| {
        json!({"metadata": {"name": "b"}, "spec": {"podCIDR": cidr},
               "status": {"addresses": addresses}})
    };
    let internal = |ip: &str| {
        json!([{"type": "Hostname", "address": "192.0.2.9"},
                                     {"type": "InternalIP", "address": ip}])
    };
    let read = Peer::read(&node(json!("10.42.1.0/24"), internal("192.0.2.2")));
    assert_eq!(read, Some(peer("b", "10.42.1.0/24", 2)));
    let six = Peer::read(&node(json!("10.42.1.0/24"), internal("fd00::1"))).expect("a peer");
    assert_eq!(six.address, None);
    for unfinished in [
        node(Value::Null, internal("192.0.2.2")),
        node(json!("10.42.1.0/24"), Value::Null),
        node(json!("10.42.1.0/24"), json!([{"type": "Hostname", "address": "b"}])),
        node(json!("10.42.1.1/24"), internal("192.0.2.2")),
        node(json!("fd00::/64"), internal("192.0.2.2")),
    ] {
        assert_eq!(Peer::read(&unfinished), None, "{unfinished}");
    }
}

#[test]
fn every_other_board_gets_a_route_and_a_realised_plan_is_empty() {
    let peers = [
        (peer("c", "10.42.2.0/24", 3), NEAR),
        (peer("a", "10.42.0.0/24", 1), Way::Own),
        (peer("b", "10.42.1.0/24", 2), NEAR),
    ];
    let foreign = Seen { range: range("0.0.0.0/0"), ours: false, ..ours("10.42.9.0/24", 9, 7) };
    let mut seen = vec![foreign];
    let first = plan(&own(), &peers, &seen);
    let text: Vec<String> = first.set.iter().map(shown).collect();
    let expected = ["10.42.1.0/24 via 192.0.2.2 dev 7", "10.42.2.0/24 via 192.0.2.3 dev 7"];
    assert_eq!(text, expected);
    assert!(first.remove.is_empty() && first.unreached.is_empty());
    realise(&mut seen, &first);
    assert_eq!(plan(&own(), &peers, &seen), Plan::default());
    // Nobody is known: everything of ours goes, nothing else.
    let last = plan(&own(), &[], &seen);
    assert_eq!(last.remove.len(), 2);
    realise(&mut seen, &last);
    assert_eq!(seen, [foreign]);
}

#[test]
fn a_board_with_another_address_is_followed_without_a_gap() {
    let seen = [ours("10.42.1.0/24", 2, 7)];
    for (moved, way) in
        [(peer("b", "10.42.1.0/24", 5), NEAR), (peer("b", "10.42.1.0/24", 2), Way::Neighbour(8))]
    {
        let plan = plan(&own(), &[(moved, way)], &seen);
        assert_eq!((plan.set.len(), plan.remove.len()), (1, 0), "{plan:?}");
    }
}

#[test]
fn no_route_is_better_than_a_wrong_one() {
    let cases = [
        (peer("b", "10.42.1.0/24", 2), Way::Routed, "another network"),
        (peer("b", "10.42.1.0/24", 2), Way::Own, "this board has its address 192.0.2.2"),
        (peer("b", "10.42.1.0/24", 2), Way::Nowhere, "no link"),
        (peer("b", "10.44.1.0/24", 2), NEAR, "outside this board's cluster-cidr"),
        (peer("b", "0.0.0.0/0", 2), NEAR, "outside this board's cluster-cidr"),
        (peer("b", "10.42.0.128/25", 2), NEAR, "board a has some"),
        (Peer { address: None, ..peer("b", "10.42.1.0/24", 2) }, NEAR, "no IPv4 address"),
        (
            Peer { address: Some(Ipv4Addr::new(10, 42, 1, 1)), ..peer("b", "10.42.1.0/24", 2) },
            NEAR,
            "one of cluster-cidr",
        ),
    ];
    for (peer, way, words) in cases {
        // Also one that stood before goes.
        let seen = [ours("10.42.1.0/24", 2, 7)];
        let plan = plan(&own(), &[(peer.clone(), way)], &seen);
        assert_eq!((plan.set.len(), plan.remove.len()), (0, 1), "{peer:?} {way:?}");
        let told = plan.unreached.first().expect("why").to_string();
        assert!(told.contains(words) && told.contains("board b"), "{told}");
    }
    let peers = [(peer("c", "10.42.1.0/24", 3), NEAR), (peer("b", "10.42.1.0/24", 2), NEAR)];
    let plan = plan(&own(), &peers, &[]);
    let via = Via::Board { gateway: ip(2), link: 7 };
    assert_eq!(plan.set.first().map(|r| r.via), Some(via), "the first by name");
    assert_eq!(plan.unreached.first().map(|u| &u.why), Some(&Why::Overlap("b".into())));
}

#[test]
fn routes_of_others_are_left_alone() {
    let theirs = |last| Seen { ours: false, ..ours("10.42.1.0/24", last, 7) };
    let peers = [(peer("b", "10.42.1.0/24", 2), NEAR)];
    let good = plan(&own(), &peers, &[theirs(2)]);
    assert_eq!(good, Plan::default(), "it leads where ours would");
    let bad = plan(&own(), &peers, &[theirs(9)]);
    assert!(bad.is_empty());
    assert_eq!(bad.unreached.first().map(|u| &u.why), Some(&Why::Taken));
    assert!(plan(&own(), &[], &[theirs(2), theirs(9)]).is_empty());
}

#[test]
fn whatever_happens_a_realised_plan_leaves_nothing_to_do() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state % limit).expect("small")
    };
    let mut seen: Vec<Seen> = Vec::new();
    for _ in 0..3000 {
        let peers: Vec<(Peer, Way)> = (0..below(6))
            .map(|n| {
                let way = match below(6) {
                    0 => Way::Routed,
                    1 => Way::Nowhere,
                    2 => Way::Own,
                    n => Way::Neighbour(n.into()),
                };
                let pods = format!("10.42.{}.0/24", below(6));
                (peer(&format!("n{n}"), &pods, below(9)), way)
            })
            .collect();
        if below(5) == 0 {
            // A link went down and took its routes along, or somebody made one.
            seen.retain(|known| known.link != Some(3));
            let pods = format!("10.42.{}.0/24", below(6));
            if !seen.iter().any(|known| known.range == range(&pods)) {
                seen.push(Seen { ours: false, ..ours(&pods, below(9), 4) });
            }
        }
        let foreign: Vec<Seen> = seen.iter().filter(|known| !known.ours).copied().collect();
        let first = plan(&own(), &peers, &seen);
        realise(&mut seen, &first);
        assert!(plan(&own(), &peers, &seen).is_empty());
        assert!(foreign.iter().all(|known| seen.contains(known)));
        let boards = peers.len();
        let routed = seen.iter().filter(|known| known.ours).count();
        assert!(routed + first.unreached.len() <= boards);
    }
}
