//! The ways between pods, boards and a host beside them, over tunnels: each is asked from each, by
//! every kind of address and name, by TCP and UDP.

use std::time::{Duration, Instant};

use super::pair::{EXTERNAL_IP, IN_POD, NAMES, PODS, Pair, SECRET};
use crate::board::machine::built;

/// Longest that all ways may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long everybody is left alone before all is asked again.
const REST: Duration = Duration::from_secs(4);

/// Names within the cluster that lead to pods, and one that leads to the host outside.
const LED: [&str; 3] = [
    "bare.default.svc.cluster.local:7001",
    "alias.default.svc.cluster.local:7001",
    "all.default.svc.cluster.local:7000",
];
const AWAY: &str = "away.default.svc.cluster.local:7001";

/// Who asks: a board's pod, a board, or the host outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Pod(usize),
    Board(usize),
    Outside,
}

/// What is to be seen of an answer.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Somebody answers.
    Any,
    /// The pod of this board answers, and sees its asker's own address.
    Pod(usize),
    /// Some pod answers and sees the address of a pod that asks.
    Kept,
    /// The host outside answers, and sees the asking board.
    Away,
}

impl Pair {
    /// All ways of an asker; `inside` are those whose packets stay between pods' addresses.
    fn ways(&self, asker: Asker, inside: bool) -> Vec<(String, Seen)> {
        let mut ways = Vec::new();
        for how in ["tcp", "udp"] {
            for (n, pod) in PODS.iter().enumerate() {
                ways.push((format!("{how}={pod}:7001"), Seen::Pod(n)));
            }
            ways.push((format!("{how}={}:7000", self.service_ip), Seen::Kept));
            if asker != Asker::Outside {
                ways.extend(LED.map(|name| (format!("{how}-name={name}"), Seen::Kept)));
            }
            if inside {
                continue;
            }
            ways.push((format!("{how}={EXTERNAL_IP}:7000"), Seen::Any));
            for at in self.at {
                let port = if how == "tcp" { 30700 } else { 30701 };
                ways.push((format!("{how}={at}:{port}"), Seen::Any));
                ways.push((format!("{how}={at}:7000"), Seen::Any));
            }
            if asker != Asker::Outside {
                ways.push((format!("{how}-name={AWAY}"), Seen::Away));
            }
        }
        if !inside {
            ways.extend(self.at.map(|at| (format!("page={at}:80/echo.test"), Seen::Any)));
        }
        ways
    }

    /// Asks all of an asker's ways; how many, and what went wrong.
    fn asked(&mut self, asker: Asker, inside: bool) -> (usize, Vec<String>) {
        let ways = self.ways(asker, inside);
        let words: Vec<&str> = ways.iter().map(|(way, _)| way.as_str()).collect();
        let line = format!("edge-probe ask {}", words.join(" "));
        let text = match asker {
            Asker::Pod(n) => self.board(n).ok(&format!("{IN_POD} {line}")),
            Asker::Board(n) => self.board(n).ok(&line),
            Asker::Outside => {
                let mut command = self.lan.namespace.command(built("edge-probe"));
                command.arg("ask").args(&words);
                crate::board::command::run(command).ok()
            }
        };
        let answers: Vec<&str> = text.lines().filter(|line| line.contains('=')).collect();
        let mut wrong = Vec::new();
        for (n, (way, seen)) in ways.iter().enumerate() {
            let answer = answers.get(n).copied().unwrap_or_default();
            if !self.right(asker, answer, way, *seen) {
                wrong.push(format!("{asker:?}: {way}: {answer:?}"));
            }
        }
        (ways.len(), wrong)
    }

    fn right(&self, asker: Asker, answer: &str, way: &str, seen: Seen) -> bool {
        let words: Vec<&str> = answer.split(' ').collect();
        let [asked, "ok", server, peer] = words[..] else { return false };
        let own = match asker {
            Asker::Pod(n) => Some((format!("{SECRET}{}", NAMES[n]), PODS[n])),
            _ => None,
        };
        // A pod that meets itself through a Service sees its gateway.
        let kept = own.is_none_or(|(name, ip)| name == server || ip == peer);
        let board = match asker {
            Asker::Pod(n) | Asker::Board(n) => Some(self.at[n].to_string()),
            Asker::Outside => None,
        };
        let right = match seen {
            Seen::Any => server.starts_with(SECRET),
            Seen::Pod(n) => server == format!("{SECRET}{}", NAMES[n]) && kept,
            Seen::Kept => server.starts_with(SECRET) && kept,
            Seen::Away => server == "outside" && board.as_deref() == Some(peer),
        };
        asked == way && right
    }

    /// Asks everything from everywhere until all is right; how many ways that are.
    #[track_caller]
    pub(super) fn settle(&mut self, when: &str) -> usize {
        let everybody =
            [Asker::Pod(0), Asker::Board(0), Asker::Pod(1), Asker::Board(1), Asker::Outside];
        self.asks(when, &everybody, false)
    }

    /// The same of what pods and boards ask by pods' addresses, Services' and names: all of it is
    /// in tunnels.
    #[track_caller]
    pub(super) fn settle_inside(&mut self, when: &str) -> usize {
        let boards = [Asker::Pod(0), Asker::Board(0), Asker::Pod(1), Asker::Board(1)];
        self.asks(when, &boards, true)
    }

    #[track_caller]
    fn asks(&mut self, when: &str, askers: &[Asker], inside: bool) -> usize {
        let begin = Instant::now();
        let mut rounds = 0;
        loop {
            let (mut count, mut wrong) = (0, Vec::new());
            for asker in askers {
                let (asked, complaints) = self.asked(*asker, inside);
                count += asked;
                wrong.extend(complaints);
            }
            rounds += 1;
            if wrong.is_empty() {
                let took = begin.elapsed();
                println!("{when}: {count} ways, all right in round {rounds}, {took:?}");
                return count;
            }
            assert!(begin.elapsed() < PATIENCE, "{when}:\n{}", wrong.join("\n"));
            // Whoever is late needs the guest's one processor for himself.
            std::thread::sleep(REST);
        }
    }

    /// One way from a board's pod; whether it is answered.
    pub(super) fn pod_asks(&mut self, n: usize, way: &str) -> bool {
        let text = self.board(n).ok(&format!("{IN_POD} edge-probe ask {way}"));
        text.contains(&format!("{way} ok "))
    }

    /// Whole packets of the tunnel's size and 64 KiB of a stream, both ways; none is split.
    #[track_caller]
    pub(super) fn large_ones_pass(&mut self) {
        let heard = self.hearing(|pair| {
            for (n, other) in [(0, PODS[1]), (1, PODS[0])] {
                let way = format!("bulk={other}:7002");
                assert!(pair.pod_asks(n, &way), "{way} from {}", NAMES[n]);
                // 1440 bytes with their headers.
                let line = format!("{IN_POD} ping -q -c 5 -W 5 -s 1412 {other}");
                let text = pair.board(n).ok(&line);
                assert!(text.contains("5 packets received, 0% packet loss"), "{text}");
            }
        });
        assert_eq!(heard.pieces(), 0, "of {} frames", heard.frames());
        for guest in [&mut self.a, &mut self.b] {
            let links = guest.ok(&format!("ip link show edge0; {IN_POD} ip link"));
            assert_eq!(links.matches("mtu 1440").count(), 2, "{links}");
        }
        println!("64 KiB and packets of 1440 bytes, both ways, in {} frames", heard.frames());
    }

    /// The host outside says something to the pod of `b` by a datagram, from this address of its
    /// own; whether the pod heard it.
    #[track_caller]
    pub(super) fn says_outside(&mut self, from: &str, words: &str) -> bool {
        let (to, board) = (PODS[1], self.at[1]);
        let own = from.starts_with("10.").then(|| format!("addr add {from}/32 dev lo\n"));
        let own = own.unwrap_or_default();
        self.lan.namespace.ip(&format!("{own}route add {to}/32 via {board}\n"));
        self.lan.namespace.within(|| {
            let socket = std::net::UdpSocket::bind((from, 0)).expect("an address of ours");
            for _ in 0..3 {
                socket.send_to(words.as_bytes(), (to, 7001)).expect("it can be sent");
            }
        });
        let own = own.replace("addr add", "addr del");
        self.lan.namespace.ip(&format!("{own}route del {to}/32 via {board}\n"));
        // Whoever was let through is heard at once; one that may come is waited for.
        std::thread::sleep(Duration::from_secs(1));
        let (status, _) = self.b.shell(&format!("grep -q 'heard {words} from' /tmp/serve"));
        status == 0
    }
}
