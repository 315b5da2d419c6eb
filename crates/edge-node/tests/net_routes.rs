//! Routes to other boards' pods as the kernel has them, on a board in a network namespace of
//! its own.

mod lab;

use edge_core::podnet::tunnel::{Announced, Announcement};
use edge_core::podnet::{Peer, Range};
use edge_node::net::Net;
use lab::Lab;
use std::time::Duration;

fn peer(name: &str, pods: &str, address: &str) -> Peer {
    let pods = Range::parse(pods).expect("a range");
    let says = Announcement::default();
    Peer { name: name.to_owned(), pods, address: address.parse().ok(), says }
}

/// All routes into the cluster's pods but the board's own.
fn routes() -> Vec<String> {
    let shown = std::process::Command::new("ip").args(["-N", "-4", "route", "show"]).output();
    let shown = String::from_utf8_lossy(&shown.expect("ip").stdout).into_owned();
    let of_pods = |line: &&str| line.starts_with("10.42.") && !line.contains("edge0");
    let tidy = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    shown.lines().filter(of_pods).map(tidy).collect()
}

async fn sync(net: &Net, peers: &[Peer]) -> Vec<String> {
    let synced = net.sync_routes("here", peers.to_vec()).await.expect("routes");
    synced.unreached.iter().map(ToString::to_string).collect()
}

const B: &str = "10.42.1.0/24 via 192.0.2.2 dev lan0 proto 237";
const C: &str = "10.42.2.0/24 via 192.0.2.3 dev lan0 proto 237";

#[test]
fn routes_follow_boards_and_outlive_edged() {
    Lab::run("route-boards", async |lab| {
        let net = lab.open();
        let mut peers = vec![
            peer("b", "10.42.1.0/24", "192.0.2.2"),
            peer("c", "10.42.2.0/24", "192.0.2.3"),
            peer("here", "10.42.0.0/24", "192.0.2.1"),
        ];
        assert!(sync(&net, &peers).await.is_empty());
        assert_eq!(routes(), [B, C]);
        drop(net);
        assert_eq!(routes(), [B, C], "while edged is away");
        let net = lab.open();
        assert_eq!(routes(), [B, C], "and while it starts");

        peers[0] = peer("b", "10.42.1.0/24", "192.0.2.7");
        assert!(sync(&net, &peers).await.is_empty());
        assert_eq!(routes(), [&B.replace("0.2.2", "0.2.7"), C], "another address");
        peers.remove(0);
        sync(&net, &peers).await;
        assert_eq!(routes(), [C], "a board that was removed");

        lab::ip("route add 10.42.1.0/24 via 192.0.2.9 dev lan0");
        lab::ip("route add 10.42.99.0/24 via 192.0.2.9 dev lan0");
        peers.push(peer("b", "10.42.1.0/24", "192.0.2.2"));
        let told = sync(&net, &peers).await;
        assert!(told.len() == 1 && told[0].contains("somebody else has made"), "{told:?}");
        lab::ip("route del 10.42.1.0/24 via 192.0.2.9");
        assert!(sync(&net, &peers).await.is_empty());
        assert_eq!(routes()[..2], [B, C]);
        net.cleanup().await.expect("cleanup");
        assert_eq!(routes(), ["10.42.99.0/24 via 192.0.2.9 dev lan0"], "not ours");
    });
}

#[test]
fn a_board_elsewhere_gets_no_wrong_route() {
    Lab::run("route-apart", async |lab| {
        let net = lab.open();
        let far = || peer("far", "10.42.5.0/24", "198.51.100.9");
        let words = async |peer: Peer| sync(&net, &[peer]).await.pop().unwrap_or_default();
        assert!(words(far()).await.contains("no link of this board leads"));
        lab::ip("route add default via 192.0.2.2");
        assert!(words(far()).await.contains("another network"));
        lab::ip("tuntap add dev tun7 mode tun");
        lab::ip("link set tun7 up");
        lab::ip("route add 198.51.100.0/24 dev tun7");
        assert!(words(far()).await.contains("another network"), "a tunnel has no neighbours");
        let same = peer("far", "10.42.5.0/24", "192.0.2.1");
        assert!(words(same).await.contains("this board has its address"));
        assert_eq!(routes(), [""; 0]);
        lab::ip("route del 198.51.100.0/24 dev tun7");
        lab::ip("route add 198.51.100.9/32 dev lan0");
        assert_eq!(words(far()).await, "", "a neighbour with an address of another network");
        assert_eq!(routes(), ["10.42.5.0/24 via 198.51.100.9 dev lan0 proto 237"]);
        net.cleanup().await.expect("cleanup");
    });
}

/// Whether what goes to pods of nobody is stopped on the board.
fn shut() -> bool {
    let shown = std::process::Command::new("ip").args(["-N", "-4", "route", "show"]).output();
    let shown = String::from_utf8_lossy(&shown.expect("ip").stdout).into_owned();
    shown.lines().any(|line| line.starts_with("7 10.42.0.0/16") && line.contains("proto 237"))
}

#[test]
fn what_is_to_be_encrypted_has_no_plain_way_at_any_time() {
    Lab::run("route-secret", async |lab| {
        let asks = || {
            let config = edge_node::net::NetConfig { encrypt_pods: true, ..lab.config() };
            Net::open(config).expect("the network opens")
        };
        // A neighbour that says nothing of tunnels: an older edged, or a kernel that has none.
        let peers = [peer("b", "10.42.1.0/24", "192.0.2.2")];
        let net = lab.open();
        assert!(sync(&net, &peers).await.is_empty() && !shut());
        assert_eq!(routes(), [B]);
        drop(net);
        let net = asks();
        assert!(shut(), "before anything is known of other boards");
        let told = sync(&net, &peers).await;
        assert!(told[0].contains("set to encrypt-pods, which takes a tunnel"), "{told:?}");
        assert!(routes().is_empty() && shut(), "the plain one has gone");
        let said = net.sync_routes("here", peers.to_vec()).await.expect("routes").announcement;
        assert!(said.encrypts && said.wireguard != Announced::Nothing, "{said:?}");
        drop(net);
        assert!(shut(), "while edged is away");

        let net = lab.open();
        assert!(sync(&net, &peers).await.is_empty() && !shut());
        assert_eq!(routes(), [B], "nobody asks any more");
        let mut secret = peers.clone();
        secret[0].says.encrypts = true;
        let told = sync(&net, &secret).await;
        assert!(told[0].contains("that board is set to encrypt-pods"), "{told:?}");
        assert!(routes().is_empty() && shut());
        assert!(sync(&net, &peers).await.is_empty() && !shut());
        net.shut_plain_ways().await.expect("a board that remembers who asks");
        assert!(shut() && routes() == [B]);
        net.cleanup().await.expect("cleanup");
        assert!(!shut());
    });
}

#[test]
fn news_come_when_a_link_takes_its_routes_along() {
    Lab::run("route-flap", async |lab| {
        let net = lab.open();
        let peers = [peer("b", "10.42.1.0/24", "192.0.2.2")];
        let mut news = net.link_events().expect("news");
        let hear = async |news: &mut edge_node::net::LinkEvents| {
            let limit = Duration::from_secs(2);
            tokio::time::timeout(limit, news.changed()).await.expect("news in time");
        };
        sync(&net, &peers).await;
        hear(&mut news).await;
        lab::ip("link set lan0 down");
        hear(&mut news).await;
        assert_eq!(routes(), [""; 0], "the kernel took it away");
        let told = sync(&net, &peers).await;
        assert!(told[0].contains("no link of this board leads"), "{told:?}");
        lab::ip("link set lan0 up");
        hear(&mut news).await;
        assert!(sync(&net, &peers).await.is_empty());
        assert_eq!(routes(), [B], "and back");

        lab::ip("addr add 203.0.113.1/24 dev lan0");
        hear(&mut news).await;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("a setting");
        assert_eq!(net.obstacles().await.expect("a look"), [""; 0]);
        let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
        assert_eq!(forward.expect("a setting").trim(), "1", "set again");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn fifty_boards_cost_little() {
    Lab::run("route-many", async |lab| {
        let net = lab.open();
        let one =
            |n: u8| peer(&format!("n{n}"), &format!("10.42.{n}.0/24"), &format!("192.0.2.{n}"));
        let mut peers: Vec<Peer> = (2..52).map(one).collect();
        let start = std::time::Instant::now();
        assert!(sync(&net, &peers).await.is_empty());
        let all = start.elapsed();
        assert_eq!(routes().len(), 50);
        let start = std::time::Instant::now();
        sync(&net, &peers).await;
        let none = start.elapsed();
        peers[7] = one(99);
        let start = std::time::Instant::now();
        sync(&net, &peers).await;
        println!("50 boards: all {all:?}, nothing to do {none:?}, one {:?}", start.elapsed());
        assert!(routes().iter().any(|route| route.starts_with("10.42.99.0/24")));
        net.cleanup().await.expect("cleanup");
        assert_eq!(routes(), [""; 0]);
    });
}
