//! Which paths there are to try: boards, sandboxes and what stands in front of them go in, a list
//! of checks comes out. No IO.

use super::board::{Board, Facts};
use edge_api::Object;
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Packets carry these bytes beside the payload of a datagram.
const OVERHEAD: usize = 28;
/// The payload of a small datagram.
const SMALL: usize = 16;
/// The agent's port, which every board has.
const AGENT: u16 = 10250;
/// A clock that differs so much from the others is wrong.
const CLOCK: i64 = 30_000;

/// A family of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Agents,
    Clocks,
    Boards,
    Pods,
    Services,
    NodePorts,
    Names,
    Outside,
    Person,
}

impl Group {
    /// What people read.
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Agents => "server to agents",
            Group::Clocks => "clocks",
            Group::Boards => "board to board",
            Group::Pods => "pod to pod",
            Group::Services => "services",
            Group::NodePorts => "node ports",
            Group::Names => "names",
            Group::Outside => "outside",
            Group::Person => "from this computer",
        }
    }
}

/// What exactly is tried: it decides what a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    /// The API server asks the board's agent.
    Agent,
    /// The board's clock is like the others'.
    Clock,
    /// A port of another board.
    Port(u16),
    /// Another board's pod, by TCP or with small datagrams.
    Pod,
    /// Another board's pod, with packets of this size.
    Full(usize),
    /// A Service's address, from a pod or from the board.
    Service { pod: bool },
    /// A node port of another board.
    NodePort,
    /// A name of the cluster.
    Name { want: Vec<Ipv4Addr> },
    /// A name that somebody else knows.
    Upstream,
    /// Beyond the LAN's router, from a pod or from the board.
    Outside { pod: bool },
    /// From this computer to a board's node port, or to a load balancer's address.
    Person { balancer: bool },
}

/// A path to try.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    pub(super) group: Group,
    pub(super) path: Path,
    pub(super) name: String,
    /// The board where it begins; none for this computer.
    pub(super) from: Option<String>,
    /// The board where it ends, if it is one.
    pub(super) to: Option<String>,
    /// True when it begins in the board's sandbox.
    pub(super) sandbox: bool,
    /// Questions for the agent; all must be answered, or one of them for [`Path::Outside`].
    pub(super) probes: Vec<Object>,
    /// Known without trying.
    pub(super) known: Option<Outcome>,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// It works; after so many milliseconds.
    Passed(f64),
    /// It does not: a word for programs, and one for people.
    Failed(String, String),
    /// It was not tried, for this reason.
    Skipped(String),
}

/// What stands in front of the sandboxes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Front {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) port: u16,
    pub(super) node_port: Option<u16>,
    /// Addresses of the load balancer.
    pub(super) balancers: Vec<Ipv4Addr>,
    /// The headless Service.
    pub(super) headless: String,
}

/// What a plan is made of.
pub(super) struct Scene<'a> {
    pub(super) boards: &'a [Board],
    /// Only paths that begin here.
    pub(super) only: Option<&'a str>,
    /// The Services; or why there are none.
    pub(super) front: Result<&'a Front, &'a str>,
    pub(super) timeout: Duration,
    /// A name that nobody has asked for before.
    pub(super) strange: &'a str,
}

impl Check {
    fn new(group: Group, path: Path, name: String, from: &Board) -> Check {
        let from = Some(from.name.clone());
        let (to, known) = (None, None);
        Check { group, path, name, from, to, sandbox: false, probes: Vec::new(), known }
    }

    fn to(mut self, board: &Board) -> Check {
        self.to = Some(board.name.clone());
        self
    }

    fn within(mut self) -> Check {
        self.sandbox = true;
        self
    }

    fn asks(mut self, probe: Object) -> Check {
        self.probes.push(probe);
        self
    }

    fn skipped(mut self, why: &str) -> Check {
        self.known = Some(Outcome::Skipped(why.to_owned()));
        self
    }
}

/// All paths, in the order in which they build on each other.
pub(super) fn plan(scene: &Scene<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut clocks: Vec<i64> =
        scene.boards.iter().filter_map(|b| Some(b.known()?.ahead_ms)).collect();
    clocks.sort_unstable();
    let median = clocks.get(clocks.len() / 2).copied().unwrap_or(0);
    let begins = |board: &&Board| scene.only.is_none_or(|only| only == board.name);
    for board in scene.boards.iter().filter(begins) {
        let mut agent = Check::new(
            Group::Agents,
            Path::Agent,
            format!("server -> agent of {}", board.name),
            board,
        );
        agent.known = Some(match &board.facts {
            Ok(_) => Outcome::Passed(0.0),
            Err(why) => Outcome::Failed("agent".to_owned(), why.clone()),
        });
        checks.push(agent.to(board));
        let Ok(facts) = &board.facts else { continue };
        checks.push(clock(board, facts, median));
        scene.from(board, facts, &mut checks);
    }
    scene.person(&mut checks);
    checks.sort_by_key(|check| check.group);
    checks
}

fn clock(board: &Board, facts: &Facts, median: i64) -> Check {
    let name = format!("clock of {}", board.name);
    let mut check = Check::new(Group::Clocks, Path::Clock, name, board);
    let off = facts.ahead_ms - median;
    check.known = Some(match off.abs() < CLOCK {
        true => Outcome::Passed(0.0),
        false => {
            let side = if off > 0 { "ahead of" } else { "behind" };
            let words = format!("{} s {side} most boards", off.abs() / 1000);
            Outcome::Failed("clock".to_owned(), words)
        }
    });
    check
}

impl Scene<'_> {
    fn timeout_ms(&self) -> u64 {
        u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX)
    }

    fn tcp(&self, ip: Ipv4Addr, port: u16, answer: bool) -> Object {
        json!({"kind": "tcp", "to": format!("{ip}:{port}"), "answer": answer,
               "timeoutMs": self.timeout_ms()})
    }

    fn udp(&self, ip: Ipv4Addr, port: u16, bytes: usize) -> Object {
        json!({"kind": "udp", "to": format!("{ip}:{port}"), "bytes": bytes,
               "timeoutMs": self.timeout_ms()})
    }

    fn ask(&self, ip: Ipv4Addr, port: u16, name: &str, want: &[Ipv4Addr]) -> Object {
        json!({"kind": "dns", "to": format!("{ip}:{port}"), "name": name, "want": want,
               "timeoutMs": self.timeout_ms()})
    }

    fn from(&self, board: &Board, facts: &Facts, checks: &mut Vec<Check>) {
        for other in self.boards {
            if other.name != board.name {
                self.ports(board, other, checks);
            }
            self.pods(board, facts, other, checks);
        }
        self.services(board, checks);
        self.names(board, facts, checks);
        self.outside(board, facts, checks);
    }

    fn ports(&self, board: &Board, other: &Board, checks: &mut Vec<Check>) {
        let listens = other.known().map_or(&[][..], |facts| &facts.listens);
        let others = listens.iter().copied().filter(|port| *port != AGENT);
        for port in [AGENT].into_iter().chain(others) {
            let name = format!("{} -> {} port {port}", board.name, other.name);
            let check = Check::new(Group::Boards, Path::Port(port), name, board).to(other);
            checks.push(match other.address {
                Some(ip) => check.asks(self.tcp(ip, port, false)),
                None => check.skipped(&format!("board {} has no IPv4 address", other.name)),
            });
        }
    }

    fn pods(&self, board: &Board, facts: &Facts, other: &Board, checks: &mut Vec<Check>) {
        let name = format!("pod on {} -> pod on {}", board.name, other.name);
        let check =
            |path, name: String| Check::new(Group::Pods, path, name, board).to(other).within();
        let small = check(Path::Pod, name.clone());
        let theirs = match (&board.sandbox, &other.sandbox) {
            (Ok(_), Ok(theirs)) => theirs,
            (Err(why), _) => return checks.push(small.skipped(&absent(board, why))),
            (_, Err(why)) => return checks.push(small.skipped(&absent(other, why))),
        };
        let (ip, port) = (theirs.address, theirs.port);
        checks.push(small.asks(self.tcp(ip, port, true)).asks(self.udp(ip, port, SMALL)));
        let full = check(Path::Full(facts.mtu), format!("{name}, packets of {}", facts.mtu));
        let bytes = facts.mtu.saturating_sub(OVERHEAD);
        checks.push(full.asks(self.udp(ip, port, bytes)));
    }

    fn services(&self, board: &Board, checks: &mut Vec<Check>) {
        for pod in [true, false] {
            let who = if pod { "pod on" } else { "board" };
            let name = format!("{who} {} -> service", board.name);
            let mut check = Check::new(Group::Services, Path::Service { pod }, name, board);
            check.sandbox = pod;
            let address = self.front.and_then(|front| {
                let ip = front.address.ok_or("the Service got no address")?;
                Ok((ip, front.port))
            });
            checks.push(match (address, &board.sandbox) {
                (Err(why), _) => check.skipped(why),
                (_, Err(why)) if pod => check.skipped(&absent(board, why)),
                (Ok((ip, port)), _) => {
                    check.asks(self.tcp(ip, port, true)).asks(self.udp(ip, port, SMALL))
                }
            });
        }
        for other in self.boards.iter().filter(|other| other.name != board.name) {
            let name = format!("{} -> node port of {}", board.name, other.name);
            let check = Check::new(Group::NodePorts, Path::NodePort, name, board).to(other);
            let port = self.front.and_then(|f| f.node_port.ok_or("the Service got no node port"));
            checks.push(match (port, other.address) {
                (Err(why), _) => check.skipped(why),
                (_, None) => check.skipped(&format!("board {} has no IPv4 address", other.name)),
                (Ok(port), Some(ip)) => check.asks(self.tcp(ip, port, true)),
            });
        }
    }

    fn names(&self, board: &Board, facts: &Facts, checks: &mut Vec<Check>) {
        let check = |what: &str, path: Path| {
            let name = format!("pod on {}: {what}", board.name);
            Check::new(Group::Names, path, name, board).within()
        };
        let Some((dns, server)) = facts.dns.as_ref().and_then(|dns| Some((dns, dns.server?)))
        else {
            let why = "this board runs without the cluster's names";
            return checks.push(check("names", Path::Upstream).skipped(why));
        };
        if let Err(why) = &board.sandbox {
            let check = check("names", Path::Name { want: Vec::new() });
            return checks.push(check.skipped(&absent(board, why)));
        }
        let mut wanted = vec![("kubernetes".to_owned(), "default", Vec::new())];
        if let Ok(front) = self.front {
            let space = front.namespace.as_str();
            wanted.push((front.name.clone(), space, front.address.into_iter().collect()));
            let all = self.boards.iter().filter_map(|b| Some(b.sandbox.as_ref().ok()?.address));
            wanted.push((front.headless.clone(), space, all.collect()));
        }
        for ((name, space, want), what) in
            wanted.into_iter().zip(["kubernetes.default", "a service", "a headless service"])
        {
            let name = format!("{name}.{space}.svc.{}", dns.domain);
            let asked = self.ask(server, 53, &name, &want);
            checks.push(check(what, Path::Name { want }).asks(asked));
        }
        let upstream = check("a name from outside", Path::Upstream);
        checks.push(match dns.upstreams.is_empty() {
            true => upstream.skipped("the board's resolv.conf names nobody to ask"),
            false => upstream.asks(self.ask(server, 53, self.strange, &[])),
        });
    }

    fn outside(&self, board: &Board, facts: &Facts, checks: &mut Vec<Check>) {
        for pod in [true, false] {
            let who = if pod { "pod on" } else { "board" };
            let name = format!("{who} {} -> outside", board.name);
            let mut check = Check::new(Group::Outside, Path::Outside { pod }, name, board);
            check.sandbox = pod;
            if let (Err(why), true) = (&board.sandbox, pod) {
                checks.push(check.skipped(&absent(board, why)));
                continue;
            }
            let Some(gateway) = facts.gateway() else {
                checks.push(check.skipped("the board has no default route: nothing is outside"));
                continue;
            };
            // That nobody listens there is an answer as well.
            check = check.asks(self.tcp(gateway, 53, false));
            let dns = facts.dns.iter();
            for (ip, port) in dns.flat_map(|dns| dns.upstreams.iter().map(|ip| (*ip, dns.port))) {
                if !ip.is_loopback() {
                    check = check.asks(self.ask(ip, port, self.strange, &[]));
                }
            }
            checks.push(check);
        }
    }

    fn person(&self, checks: &mut Vec<Check>) {
        let Ok(front) = self.front else { return };
        if self.only.is_some() {
            return;
        }
        let check = |name: String, balancer, to: Option<&Board>, ip, port| Check {
            group: Group::Person,
            path: Path::Person { balancer },
            name,
            from: None,
            to: to.map(|board| board.name.clone()),
            sandbox: false,
            probes: vec![self.tcp(ip, port, true)],
            known: None,
        };
        for board in self.boards {
            if let (Some(ip), Some(port)) = (board.address, front.node_port) {
                let name = format!("this computer -> node port of {}", board.name);
                checks.push(check(name, false, Some(board), ip, port));
            }
        }
        for ip in &front.balancers {
            let name = format!("this computer -> load balancer at {ip}");
            let board = self.boards.iter().find(|board| board.address == Some(*ip));
            checks.push(check(name, true, board, *ip, front.port));
        }
    }
}

fn absent(board: &Board, why: &str) -> String {
    format!("board {} has nothing to try with: {why}", board.name)
}
