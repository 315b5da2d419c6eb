//! Four boards, with a pod of ours on each, Services of every kind before them, names for those,
//! and everybody asking everything: the matrix of all ways.
//!
//! Not asked, since it is not to be had: names by the host outside, for a board answers nobody but
//! its own pods and itself; and names and Ingresses on a board while its `edged` is away, which is
//! who answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, address};
use super::cluster::{Cluster, PERSON};
use super::lookup;
use super::traffic_places::{Answer, PORT, Place, Server, Transport, ask, page};
use crate::board::command::until;
use crate::board::machine::built;

pub(crate) const SERVICE_PORT: u16 = 7000;
pub(crate) const EXTERNAL_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 200);
/// How a board's own pods are asked for.
const LOCAL: &str = "local node port of ";
/// Node ports: of all pods by TCP and by UDP, and of three of them.
pub(crate) const NODE_PORTS: [(Transport, u16); 2] =
    [(Transport::Tcp, 30700), (Transport::Udp, 30701)];
pub(crate) const THREE_PORT: u16 = 30702;
/// Of all pods, by a board's own pods only.
const LOCAL_PORT: u16 = 30703;
/// Of all pods, each client always by the same.
pub(crate) const STICKY_PORT: u16 = 30704;
/// The host beside the boards, and what it is called by its own server of names.
pub(crate) const OUTSIDE: &str = "outside";
const OUTSIDE_NAME: &str = "echo.lan";
/// The name of it within the cluster: a Service without selector or address.
const AWAY: &str = "away.default.svc.cluster.local";
/// What the proxy on every board answers for, with the web server that is in each pod as well.
const HOST: &str = "echo.test";
const INGRESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: pages}
spec: {selector: {app: traffic}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: pages}
spec:
  ingressClassName: edged
  rules:
  - host: echo.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: pages, port: {number: 80}}}}
---
";
/// Names that lead to pods or to the Service: headless, by another name, and the plain one.
const NAMES: [(&str, u16); 3] = [
    ("bare.default.svc.cluster.local", PORT),
    ("alias.default.svc.cluster.local", PORT),
    ("all.default.svc.cluster.local", SERVICE_PORT),
];

/// A pod with a server of ours in it.
pub(crate) struct Pod {
    pub(crate) place: Place,
    pub(crate) ip: IpAddr,
    _server: Server,
}

/// The cluster, with where each board is now.
pub(crate) struct Traffic {
    pub(crate) cluster: Cluster,
    pub(crate) pods: Vec<Pod>,
    pub(crate) addresses: Vec<Ipv4Addr>,
    cluster_ip: IpAddr,
    /// Where boards are told of the server of names outside.
    resolv: String,
    _outside: Server,
}

/// Where somebody asks from.
#[derive(Clone)]
struct Asker {
    place: Place,
    /// A pod's own address.
    ip: Option<IpAddr>,
    /// The address of its board; none for the host outside.
    board: Option<Ipv4Addr>,
    /// Whether its board's `edged` runs, which answers for names.
    names: bool,
    /// Boards whose `edged` runs, which is the proxy as well.
    proxies: Vec<IpAddr>,
}

/// What is asked for.
#[derive(Clone, Debug)]
enum To {
    At(SocketAddr),
    Named(&'static str, u16),
    Page(SocketAddr),
}

#[derive(Clone, Debug)]
struct Target {
    what: String,
    transport: Transport,
    to: To,
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
    let bare = format!("  - {{name: p, port: {PORT}}}\n");
    let both = port("TCP", NODE_PORTS[0].1) + &port("UDP", NODE_PORTS[1].1);
    let mut text = service("all", "app: traffic", "LoadBalancer", &both)
        .replace("  ports:", &format!("  externalIPs: [{EXTERNAL_IP}]\n  ports:"));
    text += &service("three", "three: yes-it-is", "NodePort", &port("TCP", THREE_PORT));
    text += &service("local", "app: traffic", "NodePort", &port("TCP", LOCAL_PORT))
        .replace("  ports:", "  externalTrafficPolicy: Local\n  ports:");
    text += &service("sticky", "app: traffic", "NodePort", &port("TCP", STICKY_PORT))
        .replace("  ports:", "  sessionAffinity: ClientIP\n  ports:");
    text += &service("bare", "app: traffic", "ClusterIP\n  clusterIP: None", &bare);
    for (name, target) in [("away", OUTSIDE_NAME), ("alias", NAMES[0].0)] {
        text += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: \
             ExternalName, externalName: {target}}}\n---\n"
        );
    }
    text += INGRESS;
    for (n, board) in cluster.boards.iter().enumerate() {
        let three = if n > 0 { ", three: yes-it-is" } else { "" };
        let name = &board.name;
        text += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: on-{name}, labels: {{app: \
             traffic{three}}}}}\nspec:\n  nodeName: {name}\n  terminationGracePeriodSeconds: 1\n  \
             tolerations: [{{operator: Exists}}]\n  containers: [{{name: c, image: \
             \"edged/webserver:1\", imagePullPolicy: IfNotPresent}}]\n---\n"
        );
    }
    text
}

impl Pod {
    /// The pod on a board as it is now, with a server of ours in it.
    fn on(cluster: &Cluster, board: &Board) -> Pod {
        let name = format!("on-{}", board.name);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let run = board.flags().into_iter().skip_while(|flag| flag != "--run-dir").nth(1);
        let run = PathBuf::from(run.expect("a run directory"));
        let (ip, net) = until(&format!("{name} has a network"), || {
            let pods = cluster.pods("traffic");
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str());
            let pod = pod.ok_or("no such pod")?;
            let net = run.join("pods").join(text(&pod["metadata"]["uid"])).join("net");
            let ip = text(&pod["status"]["podIP"]).parse().map_err(|_| "no address")?;
            if net.exists() { Ok((ip, net)) } else { Err(format!("{} is not", net.display())) }
        });
        let place = Place::new(&name, net);
        let _server = Server::start(&place);
        Pod { place, ip, _server }
    }
}

impl Traffic {
    /// A board that was booted has its pod again.
    pub(crate) fn revive(&mut self, n: usize) {
        self.pods[n] = Pod::on(&self.cluster, &self.cluster.boards[n]);
    }

    /// Three servers and an agent, each with a pod; three of the pods are not on the first.
    pub(crate) fn start() -> Traffic {
        let cluster = Cluster::dark(3, 1);
        let text = lookup::outside(&cluster, OUTSIDE_NAME, address(PERSON));
        let resolv = cluster.file("resolv.conf", text);
        let level = std::env::var("EDGED_LAB_LOG").unwrap_or("info".into());
        cluster.form(&["--resolv-conf", &resolv, "--log", &level]);
        let first = &cluster.boards[0];
        cluster.load_example();
        let file = cluster.file("traffic.yaml", manifests(&cluster));
        cluster.ctl(first, &["apply", "-f", &file]).ok();
        cluster.wait_running("traffic", cluster.boards.len());
        let pods = cluster.boards.iter().map(|board| Pod::on(&cluster, board)).collect();
        let path = "jsonpath={.spec.clusterIP}";
        let printed = cluster.ctl(first, &["get", "service", "all", "-o", path]).ok();
        let cluster_ip = printed.trim().parse().expect("an address");
        // The host beside the boards knows where the cluster is, as a router would.
        cluster.person.ip(&format!(
            "route add 10.42.0.0/15 via {}\nroute add {EXTERNAL_IP}/32 via {}\n",
            first.ip, cluster.boards[1].ip
        ));
        let addresses = cluster.boards.iter().map(|board| board.ip).collect();
        let _outside = Server::start(&Place::new(OUTSIDE, cluster.person.path()));
        Traffic { cluster, pods, addresses, cluster_ip, resolv, _outside }
    }

    /// Everything that can be asked: what it is, and where.
    fn targets(&self) -> Vec<Target> {
        let mut found = Vec::new();
        for (transport, node_port) in NODE_PORTS {
            let mut add = |what: &str, ip: IpAddr, port: u16| {
                let to = To::At(SocketAddr::new(ip, port));
                found.push(Target { what: what.to_owned(), transport, to });
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
            for (ip, board) in self.addresses.iter().zip(&self.cluster.boards) {
                if transport == Transport::Tcp {
                    let to = To::Page(SocketAddr::new((*ip).into(), 80));
                    let what = format!("ingress at {}", board.name);
                    found.push(Target { what, transport, to });
                }
            }
            for (name, port) in NAMES.into_iter().chain([(AWAY, PORT)]) {
                let to = To::Named(name, port);
                found.push(Target { what: name.to_owned(), transport, to });
            }
        }
        found
    }

    fn askers(&self, by_name: bool) -> Vec<Asker> {
        let boards = self.cluster.boards.iter().zip(&self.addresses);
        let mut askers = Vec::new();
        let run = |(board, _): &(&Board, &Ipv4Addr)| by_name && board.pid().is_some();
        let running = boards.clone().filter(run);
        let proxies: Vec<IpAddr> = running.map(|(_, ip)| IpAddr::V4(*ip)).collect();
        for ((board, ip), pod) in boards.zip(&self.pods) {
            let (own, proxies) = (proxies.clone(), proxies.clone());
            let (names, board_ip) = (by_name && board.pid().is_some(), Some(*ip));
            let place = pod.place.clone();
            let ip = Some(pod.ip);
            askers.push(Asker { place, ip, board: board_ip, names, proxies: own });
            let namespace = board.marks().namespace.expect("a namespace");
            let place = Place::new(&format!("board {}", board.name), namespace);
            askers.push(Asker { place, ip: None, board: board_ip, names, proxies });
        }
        let place = Place::new(OUTSIDE, self.cluster.person.path());
        askers.push(Asker { place, ip: None, board: None, names: false, proxies });
        askers
    }

    /// Asks everything from everywhere; how many ways that were, or what went wrong, in sentences.
    pub(crate) fn matrix(&self) -> Result<usize, String> {
        self.ways(true)
    }

    /// Asks everything that has an address, and nothing by name.
    pub(crate) fn by_address(&self) -> Result<usize, String> {
        self.ways(false)
    }

    fn ways(&self, by_name: bool) -> Result<usize, String> {
        let targets = Arc::new(self.targets());
        let threads: Vec<_> = self
            .askers(by_name)
            .into_iter()
            .map(|asker| {
                let targets = targets.clone();
                std::thread::spawn(move || asker.ask(&targets))
            })
            .collect();
        let (mut count, mut wrong) = (0, Vec::new());
        for thread in threads {
            let (asked, complaints) = thread.join().expect("no panic");
            count += asked;
            wrong.extend(complaints);
        }
        if wrong.is_empty() { Ok(count) } else { Err(wrong.join("\n")) }
    }

    /// Waits until everything answers; how long that took.
    #[track_caller]
    pub(crate) fn settle(&self, when: &str) -> Duration {
        let begin = Instant::now();
        until(&format!("everybody reaches everything {when}"), || self.matrix());
        begin.elapsed()
    }

    /// Takes a board's link down and up again, which takes all routes of the board along; its
    /// default route stays away. From then on it checks sources as strictly as it can.
    pub(crate) fn flap(&self, n: usize) {
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
    pub(crate) fn move_board(&mut self, n: usize, to: Ipv4Addr) {
        let board = &self.cluster.boards[n];
        let old = std::mem::replace(&mut self.addresses[n], to);
        board.kill();
        let gateway = address(PERSON);
        board.shell(&format!(
            "ip addr del {old}/24 dev lan0 && ip addr add {to}/24 dev lan0 && \
             ip route add default via {gateway}"
        ));
        let mut command = board.inside(built("edged"));
        let flags = board.flags().into_iter();
        let flags = flags.map(|flag| if flag == old.to_string() { to.to_string() } else { flag });
        command.arg("agent").args(flags).args(["--resolv-conf", &self.resolv]);
        board.run(command);
    }
}

impl Asker {
    /// Asks everything that it can; how much that was, and what went wrong.
    fn ask(&self, targets: &[Target]) -> (usize, Vec<String>) {
        self.place.enter();
        let mut wrong = Vec::new();
        let can = |target: &&Target| match target.to {
            To::At(_) => true,
            To::Named(..) => self.names,
            To::Page(at) => self.proxies.contains(&at.ip()),
        };
        let asked: Vec<&Target> = targets.iter().filter(can).collect();
        for target in &asked {
            let (to, transport) = (&target.to, target.transport);
            let complaint = match target.ask() {
                Err(error) => Some(error),
                Ok(answer) => self.misled(&target.what, &answer),
            };
            let name = &self.place.name;
            let say = |why| format!("{name} -> {} ({to:?} {transport:?}): {why}", target.what);
            wrong.extend(complaint.map(say));
        }
        (asked.len(), wrong)
    }

    /// Whether somebody else than the asked one answered, or it did not see who asked.
    fn misled(&self, what: &str, answer: &Answer) -> Option<String> {
        let Answer { server, peer } = answer;
        if let Some(pod) = what.strip_prefix("pod ")
            && pod != server
        {
            return Some(format!("{server} answered"));
        }
        if what == AWAY {
            // What leaves the cluster has the address of its board.
            let right = server == OUTSIDE && self.board.map(IpAddr::from) == Some(*peer);
            return (!right).then(|| format!("{server} answered and saw {peer}"));
        }
        if let Some(board) = what.strip_prefix(LOCAL).filter(|_| self.place.name == OUTSIDE) {
            let person = IpAddr::from(address(PERSON));
            let right = *server == format!("on-{board}") && *peer == person;
            return (!right).then(|| format!("{server} answered and saw {peer}"));
        }
        let named = NAMES.iter().any(|(name, _)| *name == what);
        let kept = what.starts_with("pod ") || what == "cluster address" || named;
        match self.ip {
            // A pod that meets itself through a Service sees its gateway.
            Some(ip) if kept && ip != *peer && *server != self.place.name => {
                Some(format!("{server} saw {peer} instead of {ip}"))
            }
            _ => None,
        }
    }
}

impl Target {
    /// Asks it, after its name, if it has one, by the same protocol.
    fn ask(&self) -> Result<Answer, String> {
        match self.to {
            To::At(to) => ask(self.transport, to),
            To::Page(to) => page(to, HOST),
            To::Named(name, port) => {
                let found = lookup::addresses(self.transport, name);
                let found = found.map_err(|why| format!("no such name: {why}"))?;
                let ip = found.first().ok_or("a name without an address")?;
                ask(self.transport, SocketAddr::new((*ip).into(), port))
            }
        }
    }
}
