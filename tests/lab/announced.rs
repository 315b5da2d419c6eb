//! Addresses of the LAN that belong to no board: given to Services, announced by one board, and by
//! another one soon after that one is gone.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::board::Board;
use super::cluster::Cluster;
use super::fabric::mac;
use super::traffic_places::{PORT, Place, Server, Transport, ask};
use crate::board::command::until;

const POOL: &str = "192.168.78.240-192.168.78.242";
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 240);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 241);
const THIRD: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 242);
const SERVICE_PORT: u16 = 7000;
/// After a board's death others answer for its addresses within this.
const TAKE_OVER: Duration = Duration::from_millis(1600);
/// How long one question may take, and the pause between two.
const ANSWER: Duration = Duration::from_millis(60);
const PAUSE: Duration = Duration::from_millis(10);

struct Lan {
    cluster: Cluster,
    _servers: Vec<Server>,
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: \
         {{app: lan}}\n  type: LoadBalancer\n  ports:\n  - {{name: t, port: \
         {SERVICE_PORT}, targetPort: {PORT}}}\n  - {{name: u, protocol: UDP, port: \
         {SERVICE_PORT}, targetPort: {PORT}}}\n---\n"
    )
}

impl Lan {
    /// A server that runs the only pod, and three agents; none of the boards has the pool.
    fn start() -> Lan {
        let cluster = Cluster::dark(1, 3);
        cluster.form(&["--lan-pool", POOL]);
        cluster.load_example();
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: lan, labels: {app: lan}}\nspec:\n  \
                   nodeName: s1\n  terminationGracePeriodSeconds: 1\n  containers: [{name: \
                   c, image: \"edged/webserver:1\", imagePullPolicy: IfNotPresent}]\n---\n";
        let file = cluster.file("lan.yaml", pod.to_owned() + &service("one"));
        cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
        cluster.wait_running("lan", 1);
        let uid = cluster.pods("lan")[0]["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let place = Place::new("lan", cluster.boards[0].dir.join(format!("run1/pods/{uid}/net")));
        let _servers = vec![Server::start(&place)];
        Lan { cluster, _servers }
    }

    fn json(&self, args: &[&str]) -> Value {
        let printed = self.cluster.ctl(&self.cluster.boards[0], args).ok();
        serde_json::from_str(&printed).expect("JSON")
    }

    /// The Service's address, and the name of the board that announces it.
    fn found(&self, name: &str) -> (String, String) {
        let service = self.json(&["get", "service", name, "-o", "json"]);
        let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        let board = service["metadata"]["annotations"]["edged.dev/announced-by"].as_str();
        (ip.unwrap_or_default().to_owned(), board.unwrap_or_default().to_owned())
    }

    /// Waits until a Service has this address and somebody announces it.
    #[track_caller]
    fn wait(&self, name: &str, ip: Ipv4Addr) -> &Board {
        let board = until(&format!("{name} has {ip}"), || {
            let (has, board) = self.found(name);
            (has == ip.to_string() && !board.is_empty()).then_some(board).ok_or(has)
        });
        self.cluster.board(&board)
    }

    /// Whom the host beside the boards takes for the owner of an address, asked anew.
    fn owner(&self, ip: Ipv4Addr, anew: bool) -> String {
        if anew {
            let mut flush = self.cluster.person.command("ip");
            flush.args(["neigh", "flush", "to", &ip.to_string()]);
            crate::board::command::run(flush);
            self.answered(ip, Duration::from_millis(900));
        }
        let mut show = self.cluster.person.command("ip");
        show.args(["neigh", "show", "to", &ip.to_string()]);
        crate::board::command::run(show).stdout
    }

    /// Whether somebody answers there, asked from beside the boards.
    fn answered(&self, ip: Ipv4Addr, within: Duration) -> bool {
        self.cluster.person.within(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            socket.set_read_timeout(Some(within)).expect("a timeout");
            let asked = socket.connect((ip, SERVICE_PORT)).and_then(|()| socket.send(b"?"));
            asked.is_ok() && socket.recv(&mut [0; 64]).is_ok()
        })
    }

    /// Asks for some seconds while something happens: when the last question was asked in vain,
    /// and how many were.
    fn during(&self, ip: Ipv4Addr, happens: impl FnOnce()) -> (Duration, usize) {
        let begin = Instant::now();
        happens();
        let (mut last, mut failed) = (Duration::ZERO, 0);
        while begin.elapsed() < 2 * TAKE_OVER {
            let at = begin.elapsed();
            if !self.answered(ip, ANSWER) {
                (last, failed) = (at, failed + 1);
            }
            std::thread::sleep(PAUSE);
        }
        (last, failed)
    }
}

fn written(board: &Board) -> String {
    mac(board.port).map(|byte| format!("{byte:02x}")).join(":")
}

/// Packet sockets of a board: whoever hears ARP has one.
fn packet_sockets(board: &Board) -> usize {
    let read = || std::fs::read_to_string("/proc/thread-self/net/packet").expect("a list");
    board.within(read).lines().skip(1).count()
}

#[test]
fn one_board_answers_for_an_address_and_another_takes_over() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let begin = Instant::now();
    let lan = Lan::start();
    let one = lan.wait("one", FIRST);
    until("the address answers", || {
        lan.answered(FIRST, ANSWER).then_some(()).ok_or_else(|| "silence".to_owned())
    });
    assert!(lan.owner(FIRST, true).contains(&written(one)), "{}", lan.owner(FIRST, false));
    for board in &lan.cluster.boards {
        let place = Place::new(&board.name, board.marks().namespace.expect("a namespace"));
        let to = SocketAddr::new(FIRST.into(), SERVICE_PORT);
        let asked = std::thread::spawn(move || {
            place.enter();
            ask(Transport::Tcp, to)
        });
        asked.join().expect("no panic").unwrap_or_else(|e| panic!("from {}: {e}", board.name));
        assert_eq!(packet_sockets(board), usize::from(board.name == one.name), "{}", board.name);
    }

    lose(&lan);
    taken(&lan);
    gone(&lan);
    println!("all of it took {:?}", begin.elapsed());
}

/// An agent announces the address: the server has the pod, and must stay.
fn by_agent(lan: &Lan) -> &Board {
    let now = lan.wait("one", FIRST);
    if now.name != "s1" {
        return now;
    }
    // What a person wishes counts, if that board can.
    let wish = ["annotate", "service", "one", "--overwrite", "edged.dev/announced-by=a1"];
    lan.cluster.ctl(&lan.cluster.boards[0], &wish).ok();
    let a1 = lan.cluster.board("a1");
    until("a1 answers", || {
        let owner = lan.owner(FIRST, true);
        owner.contains(&written(a1)).then_some(()).ok_or(owner)
    });
    a1
}

/// A board's program is killed, then the next one's cable is pulled.
fn lose(lan: &Lan) {
    let one = by_agent(lan);
    let (last, failed) = lan.during(FIRST, || one.kill());
    let two = lan.wait("one", FIRST);
    assert_ne!(two.name, one.name);
    println!("killed: {failed} asked in vain, the last after {last:?}");
    assert!(last < TAKE_OVER, "{last:?}");
    let owner = lan.owner(FIRST, false);
    assert!(owner.contains(&written(two)), "told by an announcement: {owner}");
    one.spawn();
    lan.cluster.wait_ready(&lan.cluster.boards[0], &[&one.name]);

    let two = by_agent(lan);
    let (last, failed) = lan.during(FIRST, || two.pull_cable());
    println!("cable of {}: {failed} asked in vain, the last after {last:?}", two.name);
    assert!(last < TAKE_OVER, "{last:?}");
    let three = lan.wait("one", FIRST);
    assert_ne!(three.name, two.name);
    // It was cut off for longer than it answers: from the first moment on it is silent.
    two.mend_cable();
    for _ in 0..5 {
        let owner = lan.owner(FIRST, true);
        assert!(owner.contains(&written(three)), "{owner} is not {}", three.name);
    }
}

/// An address that somebody else has is not given.
fn taken(lan: &Lan) {
    lan.cluster.person.ip(&format!("addr add {SECOND}/32 dev lan0\n"));
    let file = lan.cluster.file("two.yaml", service("two"));
    lan.cluster.ctl(&lan.cluster.boards[0], &["apply", "-f", &file]).ok();
    lan.wait("two", THIRD);
    let nodes = lan.json(&["get", "nodes", "-o", "json"]).to_string();
    assert!(nodes.contains("192.168.78.241=02:ed:00:00:00:01"), "whose it is");
    let file = lan.cluster.file("three.yaml", service("three"));
    lan.cluster.ctl(&lan.cluster.boards[0], &["apply", "-f", &file]).ok();
    until("a Service says that the pool is exhausted", || {
        let service = lan.json(&["get", "service", "three", "-o", "json"]);
        let text = service["status"]["conditions"].to_string();
        text.contains("no address is left in the LAN pool").then_some(()).ok_or(text)
    });
    until("and by an event", || {
        let events = lan.json(&["get", "events", "-o", "json"]).to_string();
        events.contains("SyncLoadBalancerFailed").then_some(()).ok_or(events)
    });
}

/// With the last Service, nobody answers any more and nothing is left.
fn gone(lan: &Lan) {
    let first = &lan.cluster.boards[0];
    lan.cluster.ctl(first, &["delete", "service", "one", "two", "three"]).ok();
    lan.cluster.person.ip(&format!("addr del {SECOND}/32 dev lan0\n"));
    until("nobody answers", || {
        let owner = lan.owner(FIRST, true);
        (!owner.contains("lladdr")).then_some(()).ok_or(owner)
    });
    until("no packet sockets are left but for what is still looked at", || {
        let counts: Vec<usize> = lan.cluster.boards.iter().map(packet_sockets).collect();
        // The board that found the conflict asks once more, a minute later.
        (counts.iter().sum::<usize>() <= 1).then_some(()).ok_or(format!("{counts:?}"))
    });
}
