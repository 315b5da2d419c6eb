//! Traffic between boards: from every pod, every board and a host beside them, to pods and
//! Services wherever they are, by TCP and UDP; while agents are away, after a board's address has
//! changed, and while a board dies under load.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::board::Board;
use super::cluster::Cluster;
use super::traffic_places::{Answer, PORT, Place, Server, Transport, ask};
use crate::board::command::until;
use crate::board::machine::built;

const SERVICE_PORT: u16 = 7000;
const EXTERNAL_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 200);
/// How a board's own pods are asked for.
const LOCAL: &str = "local node port of ";
/// Node ports: of all pods by TCP and by UDP, and of three of them.
const NODE_PORTS: [(Transport, u16); 2] = [(Transport::Tcp, 30700), (Transport::Udp, 30701)];
const THREE_PORT: u16 = 30702;
/// Of all pods, by a board's own pods only.
const LOCAL_PORT: u16 = 30703;
/// Of all pods, each client always by the same.
const STICKY_PORT: u16 = 30704;
/// Connections that have to spread evenly, and how unevenly they may at most: chi-squared with
/// two degrees of freedom is above this once in a thousand runs.
const CONNECTIONS: usize = 3000;
const UNEVEN: f64 = 13.8;
/// After a board's death, this long some new connections may still be sent there.
const DEATH: Duration = Duration::from_millis(1500);

/// A pod with a server of ours in it.
struct Pod {
    place: Place,
    ip: IpAddr,
    _server: Server,
}

/// The host beside the boards.
const OUTSIDE: &str = "outside";

/// The cluster, with where each board is now.
struct Traffic {
    cluster: Cluster,
    pods: Vec<Pod>,
    addresses: Vec<Ipv4Addr>,
    cluster_ip: IpAddr,
}

fn manifests(cluster: &Cluster) -> String {
    let service = |name: &str, selector: &str, kind: &str, ports: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: {kind}\n  \
             selector: {{{selector}}}\n  ports:\n{ports}---\n"
        )
    };
    let port = |protocol: &str, node_port: u16| {
        format!(
            "  - {{name: p{node_port}, protocol: {protocol}, port: {SERVICE_PORT}, \
             targetPort: {PORT}, nodePort: {node_port}}}\n"
        )
    };
    let both = port("TCP", NODE_PORTS[0].1) + &port("UDP", NODE_PORTS[1].1);
    let mut text = service("all", "app: traffic", "LoadBalancer", &both)
        .replace("  ports:", &format!("  externalIPs: [{EXTERNAL_IP}]\n  ports:"));
    text += &service("three", "three: yes-it-is", "NodePort", &port("TCP", THREE_PORT));
    text += &service("local", "app: traffic", "NodePort", &port("TCP", LOCAL_PORT))
        .replace("  ports:", "  externalTrafficPolicy: Local\n  ports:");
    text += &service("sticky", "app: traffic", "NodePort", &port("TCP", STICKY_PORT))
        .replace("  ports:", "  sessionAffinity: ClientIP\n  ports:");
    for (n, board) in cluster.boards.iter().enumerate() {
        let three = if n < 3 { ", three: yes-it-is" } else { "" };
        let name = &board.name;
        text += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: on-{name}, labels: {{app: \
             traffic{three}}}}}\nspec:\n  nodeName: {name}\n  terminationGracePeriodSeconds: 1\n  \
             containers: [{{name: c, image: \"edged/webserver:1\", imagePullPolicy: \
             IfNotPresent}}]\n---\n"
        );
    }
    text
}

impl Traffic {
    fn start() -> Traffic {
        let cluster = Cluster::start(1, 3);
        let first = &cluster.boards[0];
        cluster.load_example();
        let file = cluster.file("traffic.yaml", manifests(&cluster));
        cluster.ctl(first, &["apply", "-f", &file]).ok();
        cluster.wait_running("traffic", cluster.boards.len());
        let pods = cluster.pods("traffic");
        let pods = cluster.boards.iter().map(|board| {
            let name = format!("on-{}", board.name);
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str());
            let pod = pod.expect("a pod on each board");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let pins = board.dir.join("run1/pods").join(text(&pod["metadata"]["uid"]));
            let place = Place::new(&name, pins.join("net"));
            let ip = text(&pod["status"]["podIP"]).parse().expect("an address");
            let _server = Server::start(&place);
            Pod { place, ip, _server }
        });
        let pods = pods.collect();
        let path = "jsonpath={.spec.clusterIP}";
        let printed = cluster.ctl(first, &["get", "service", "all", "-o", path]).ok();
        let cluster_ip = printed.trim().parse().expect("an address");
        // The host beside the boards knows where the cluster is, as a router would.
        cluster.person.ip(&format!(
            "route add 10.42.0.0/15 via {}\nroute add {EXTERNAL_IP}/32 via {}\n",
            first.ip, cluster.boards[1].ip
        ));
        let addresses = cluster.boards.iter().map(|board| board.ip).collect();
        Traffic { cluster, pods, addresses, cluster_ip }
    }

    /// Everything that can be asked: what it is, and where.
    fn targets(&self) -> Vec<(String, Transport, SocketAddr)> {
        let mut found = Vec::new();
        for (transport, node_port) in NODE_PORTS {
            let mut add = |what: &str, ip: IpAddr, port: u16| {
                found.push((what.to_owned(), transport, SocketAddr::new(ip, port)));
            };
            for pod in &self.pods {
                add(&format!("pod {}", pod.place.name), pod.ip, PORT);
            }
            add("cluster address", self.cluster_ip, SERVICE_PORT);
            add("external address", EXTERNAL_IP.into(), SERVICE_PORT);
            for (ip, board) in self.addresses.iter().zip(&self.cluster.boards) {
                if transport == Transport::Tcp {
                    add(&format!("{LOCAL}{}", board.name), (*ip).into(), LOCAL_PORT);
                }
                add(&format!("node port of {}", board.name), (*ip).into(), node_port);
                add(&format!("load balancer at {}", board.name), (*ip).into(), SERVICE_PORT);
            }
        }
        found
    }

    /// Asks everything from everywhere; what went wrong, in sentences.
    fn matrix(&self) -> Result<usize, String> {
        let mut places: Vec<(Place, Option<IpAddr>)> =
            self.pods.iter().map(|pod| (pod.place.clone(), Some(pod.ip))).collect();
        let boards = self.cluster.boards.iter();
        let board = |board: &Board| {
            let namespace = board.marks().namespace.expect("a namespace");
            (Place::new(&format!("board {}", board.name), namespace), None)
        };
        places.extend(boards.map(board));
        places.push((Place::new(OUTSIDE, self.cluster.person.path()), None));
        let targets = Arc::new(self.targets());
        let count = places.len() * targets.len();
        let threads: Vec<_> = places
            .into_iter()
            .map(|(place, ip)| {
                let targets = targets.clone();
                std::thread::spawn(move || from(&place, ip, &targets))
            })
            .collect();
        let wrong = threads.into_iter().flat_map(|thread| thread.join().expect("no panic"));
        let wrong: Vec<String> = wrong.collect();
        if wrong.is_empty() { Ok(count) } else { Err(wrong.join("\n")) }
    }

    /// Waits until everything answers; how long that took.
    #[track_caller]
    fn settle(&self, when: &str) -> Duration {
        let begin = Instant::now();
        until(&format!("everybody reaches everything {when}"), || self.matrix());
        begin.elapsed()
    }

    /// Takes a board's link down and up again, which takes all routes of the board along; its
    /// default route stays away. From then on it checks sources as strictly as it can.
    fn flap(&self, n: usize) {
        let board = &self.cluster.boards[n];
        board.within(|| {
            for link in ["all", "lan0"] {
                let setting = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
                std::fs::write(setting, "1").expect("a setting");
            }
        });
        board.shell("ip link set lan0 down && ip link set lan0 up");
        assert_eq!(board.shell("ip route show default"), "");
    }

    /// Gives a board another address, as a router that forgot its leases does.
    fn move_board(&mut self, n: usize, to: Ipv4Addr) {
        let board = &self.cluster.boards[n];
        let old = std::mem::replace(&mut self.addresses[n], to);
        board.kill();
        let gateway = super::board::address(super::cluster::PERSON);
        board.shell(&format!(
            "ip addr del {old}/24 dev lan0 && ip addr add {to}/24 dev lan0 && \
             ip route add default via {gateway}"
        ));
        let mut command = board.inside(built("edged"));
        let flags = board.flags().into_iter();
        let flags = flags.map(|flag| if flag == old.to_string() { to.to_string() } else { flag });
        command.arg("agent").args(flags);
        board.run(command);
    }
}

impl Board {
    /// Runs a line of shell in the board's network.
    #[track_caller]
    fn shell(&self, line: &str) -> String {
        let mut command = self.inside("sh");
        command.args(["-c", line]);
        crate::board::command::run(command).ok()
    }
}

/// Asks everything from one place.
fn from(
    place: &Place,
    ip: Option<IpAddr>,
    targets: &[(String, Transport, SocketAddr)],
) -> Vec<String> {
    place.enter();
    let mut wrong = Vec::new();
    for (what, transport, to) in targets {
        let complaint = match ask(*transport, *to) {
            Err(error) => Some(error),
            Ok(answer) => misled(place, ip, what, &answer),
        };
        let say = |why| format!("{} -> {what} ({to} {transport:?}): {why}", place.name);
        wrong.extend(complaint.map(say));
    }
    wrong
}

/// Whether somebody else than the asked pod answered, or it did not see who asked.
fn misled(place: &Place, ip: Option<IpAddr>, what: &str, answer: &Answer) -> Option<String> {
    if let Some(pod) = what.strip_prefix("pod ")
        && pod != answer.server
    {
        return Some(format!("{} answered", answer.server));
    }
    if let Some(board) = what.strip_prefix(LOCAL).filter(|_| place.name == OUTSIDE) {
        let person = IpAddr::from(super::board::address(super::cluster::PERSON));
        let right = answer.server == format!("on-{board}") && answer.peer == person;
        return (!right).then(|| format!("{} answered and saw {}", answer.server, answer.peer));
    }
    let kept = what.starts_with("pod ") || what == "cluster address";
    match ip {
        // A pod that meets itself through a Service sees its gateway.
        Some(ip) if kept && ip != answer.peer && answer.server != place.name => {
            Some(format!("{} saw {} instead of {ip}", answer.server, answer.peer))
        }
        _ => None,
    }
}

#[test]
fn everybody_reaches_everything_on_every_board() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let begin = Instant::now();
    let mut traffic = Traffic::start();
    let started = begin.elapsed();
    let first = traffic.settle("at first");
    let count = traffic.matrix().expect("again");
    println!("{count} ways; cluster {started:?}, then settled in {first:?}");

    // While agents are away, and while they start, nothing changes for anybody.
    traffic.cluster.boards[2].kill();
    traffic.cluster.boards[3].kill();
    traffic.matrix().expect("without two of the agents");
    traffic.cluster.boards[2].spawn();
    traffic.cluster.boards[3].spawn();
    for _ in 0..4 {
        traffic.matrix().expect("while they start again");
    }

    traffic.move_board(2, Ipv4Addr::new(192, 168, 78, 112));
    let moved = traffic.settle("after a board's address has changed");
    println!("another address: settled in {moved:?}");

    traffic.flap(3);
    let flapped = traffic.settle("after a link flapped");
    println!("a link that flapped: settled in {flapped:?}");

    spread(&traffic);
    stick(&traffic);
    die(&traffic);
    leave(&traffic);
    println!("all of it took {:?}", begin.elapsed());
}

/// Three replicas, and a client that asks the fourth board.
fn spread(traffic: &Traffic) {
    let to = SocketAddr::new(traffic.addresses[3].into(), THREE_PORT);
    let counts = Mutex::new(BTreeMap::<String, usize>::new());
    let outside = Place::new(OUTSIDE, traffic.cluster.person.path());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                outside.enter();
                for _ in 0..CONNECTIONS / 6 {
                    let answer = ask(Transport::Tcp, to).expect("an answer");
                    *counts.lock().expect("counts").entry(answer.server).or_default() += 1;
                }
            });
        }
    });
    let counts = counts.into_inner().expect("counts");
    let expected = CONNECTIONS as f64 / 3.0;
    let chi: f64 = counts.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
    println!("{CONNECTIONS} connections in {:?}: {counts:?}, chi {chi:.2}", begin.elapsed());
    assert!(counts.len() == 3 && chi < UNEVEN, "{counts:?}: chi-squared {chi:.1}");
}

/// A board dies under load, and soon nobody is sent there any more.
fn die(traffic: &Traffic) {
    let to = SocketAddr::new(traffic.addresses[3].into(), THREE_PORT);
    let outside = Place::new(OUTSIDE, traffic.cluster.person.path());
    let outcomes = Mutex::new(Vec::new());
    let (begin, mut cut) = (Instant::now(), Instant::now());
    std::thread::scope(|scope| {
        for n in 0..300 {
            if n == 50 {
                cut = Instant::now();
                traffic.cluster.boards[1].pull_cable();
            }
            scope.spawn(|| {
                outside.enter();
                let at = Instant::now();
                let answer = ask(Transport::Tcp, to);
                outcomes.lock().expect("outcomes").push((at, answer));
            });
            let next = begin + Duration::from_millis(10 * (n + 1));
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    let outcomes = outcomes.into_inner().expect("outcomes");
    let failed = outcomes.iter().filter(|(_, answer)| answer.is_err());
    let failed: Vec<Duration> = failed.map(|(at, _)| at.saturating_duration_since(cut)).collect();
    let last = failed.iter().max().copied().unwrap_or_default();
    println!(
        "a board died: {} of {} failed, the last {last:?} after",
        failed.len(),
        outcomes.len()
    );
    println!("failed at {failed:?}");
    assert!(last < DEATH, "still sent to a dead board {last:?} later");
    assert!(!failed.is_empty(), "nobody noticed: the board was not asked");
}

/// Whoever asks, at whichever board, is sent to the same pod each time.
fn stick(traffic: &Traffic) {
    for (n, place) in [OUTSIDE, "pod"].into_iter().enumerate() {
        let namespace = match n {
            0 => traffic.cluster.person.path().into(),
            _ => traffic.pods[0].place.namespace.clone(),
        };
        let place = Place::new(place, namespace);
        let to = SocketAddr::new(traffic.addresses[3].into(), STICKY_PORT);
        let asked = std::thread::spawn(move || {
            place.enter();
            let answers = (0..30).map(|_| ask(Transport::Tcp, to).expect("an answer").server);
            answers.collect::<std::collections::BTreeSet<_>>()
        });
        let servers = asked.join().expect("no panic");
        assert_eq!(servers.len(), 1, "{servers:?}");
    }
}

/// A board that is removed for good loses its route, and nobody else does.
fn leave(traffic: &Traffic) {
    let (first, gone) = (&traffic.cluster.boards[0], &traffic.cluster.boards[1]);
    let routes = || traffic.cluster.boards[3].shell("ip route show proto 237");
    assert_eq!(routes().lines().count(), 3, "{}", routes());
    traffic.cluster.ctl(first, &["delete", "node", &gone.name]).ok();
    until("the route to a removed board goes", || {
        let left = routes();
        let right = left.lines().count() == 2 && !left.contains(&gone.ip.to_string());
        right.then_some(()).ok_or(left)
    });
}
