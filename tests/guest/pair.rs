//! Two boards that are guests, what lies between them, and a host beside them: one cluster with a
//! pod on each board, and with everything that leads to these pods.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::files::Files;
use super::kernel::Kernel;
use super::lan::{Heard, Lan};
use super::machine::Guest;
use crate::board::machine::built;
use crate::lab::{cargo, lookup};

const IMAGE: &str = "example.org/box:1";
/// What each board's pod answers begins so; the board's name follows.
pub(super) const SECRET: &str = "PLAINTEXT-of-";
/// The boards' names, by their number.
pub(super) const NAMES: [&str; 2] = ["a", "b"];
/// Their pods' addresses: the first that each board gives away.
pub(super) const PODS: [&str; 2] = ["10.42.0.2", "10.42.1.2"];
/// The UDP port of each end of a tunnel.
pub(super) const TUNNEL_PORT: u16 = 51820;
/// Where the host beside the boards is, for all of them; the router as well, and who knows a name.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 71, 1);
/// What it is called by its own server of names.
const OUTSIDE_NAME: &str = "echo.lan";
/// What no board has, and the Service takes.
pub(super) const EXTERNAL_IP: &str = "192.168.72.200";
/// In a pod's network.
pub(super) const IN_POD: &str = "nsenter --net=$(ls -d /run/edged/pods/*/net)";

/// Pods, and Services, names and an Ingress before them.
const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: all}
spec:
  type: LoadBalancer
  externalIPs: [EXTERNAL]
  selector: {app: box}
  ports:
  - {name: t, protocol: TCP, port: 7000, targetPort: 7001, nodePort: 30700}
  - {name: u, protocol: UDP, port: 7000, targetPort: 7001, nodePort: 30701}
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {clusterIP: None, selector: {app: box}, ports: [{port: 7001}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: bare.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: away}
spec: {type: ExternalName, externalName: AWAY}
---
apiVersion: v1
kind: Service
metadata: {name: pages}
spec: {selector: {app: box}, ports: [{port: 80, targetPort: 8080}]}
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
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: on-BOARD, labels: {app: box, board: BOARD}}
spec:
  nodeName: BOARD
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - name: c
    image: IMAGE
    imagePullPolicy: IfNotPresent
    command:
    - /bin/busybox
    - sh
    - -c
    - echo SECRETBOARD > /hostname; exec /bin/busybox httpd -f -p 8080 -h /
---
";

fn manifests() -> String {
    let mut text = MANIFESTS.replace("EXTERNAL", EXTERNAL_IP).replace("AWAY", OUTSIDE_NAME);
    for board in NAMES {
        let pod = POD.replace("SECRET", SECRET).replace("BOARD", board).replace("IMAGE", IMAGE);
        text += &pod;
    }
    text
}

/// How a board's network begins.
struct Place {
    /// The board's own address; the network has 24 bits.
    at: [u8; 4],
    /// A line that makes its further routes.
    routes: &'static str,
}

/// Two boards and what lies between them.
pub(super) struct Pair {
    pub(super) a: Guest,
    pub(super) b: Guest,
    pub(super) lan: Lan,
    /// Where the boards are now.
    pub(super) at: [Ipv4Addr; 2],
    pub(super) service_ip: String,
    outside: Option<Child>,
    dir: PathBuf,
}

impl Pair {
    /// Two boards with a router between them; `b` has no default route.
    pub(super) fn apart() -> Pair {
        let pair = |lan: &Lan| {
            lan.namespace.ip("addr add 192.168.71.1/24 dev ta\naddr add 192.168.72.1/24 dev tb\n");
        };
        let a = Place { at: [192, 168, 71, 2], routes: "ip route add default via 192.168.71.1" };
        let b = Place {
            at: [192, 168, 72, 2],
            routes: "ip route add 192.168.71.0/24 via 192.168.72.1",
        };
        Pair::boot("apart", pair, [a, b])
    }

    /// Two boards of one network.
    pub(super) fn together() -> Pair {
        let pair = |lan: &Lan| {
            lan.namespace.ip("link add br0 type bridge\nlink set ta master br0\n\
                 link set tb master br0\naddr add 192.168.71.1/24 dev br0\nlink set br0 up\n");
        };
        let routes = "ip route add default via 192.168.71.1";
        let [a, b] = [2, 3].map(|last| Place { at: [192, 168, 71, last], routes });
        Pair::boot("together", pair, [a, b])
    }

    fn boot(what: &str, wire: impl FnOnce(&Lan), places: [Place; 2]) -> Pair {
        let begin = Instant::now();
        let kernel = Kernel::find();
        let dir = std::env::temp_dir().join(format!("edged-guests-{}-{what}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let disk = disk(&kernel, &dir);
        let lan = Lan::new(what);
        for tap in ["ta", "tb"] {
            lan.tap(tap);
        }
        wire(&lan);
        let [mut a, mut b] = [("a", "ta"), ("b", "tb")]
            .map(|(name, tap)| Guest::start(name, &kernel, &disk, &lan, &[tap]));
        let at = places.each_ref().map(|place| Ipv4Addr::from(place.at));
        for (guest, (name, place)) in [&mut a, &mut b].into_iter().zip(NAMES.iter().zip(&places)) {
            guest.booted();
            let ip = Ipv4Addr::from(place.at);
            guest.ok(&format!("hostname {name}; echo nameserver {OUTSIDE} > /etc/resolv.conf"));
            guest.ok(&format!("ip addr add {ip}/24 dev eth0 && ip link set eth0 up"));
            guest.ok(place.routes);
        }
        let mut probe = lan.namespace.command(built("edge-probe"));
        // At that address only: a datagram's answer has to come from where it was asked.
        probe
            .args(["serve", "outside", &OUTSIDE.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let outside = Some(probe.spawn().expect("edge-probe starts"));
        lookup::serve(&lan.namespace, OUTSIDE, OUTSIDE_NAME, OUTSIDE);
        println!("booted in {:?}", begin.elapsed());
        let mut pair = Pair { a, b, lan, at, service_ip: String::new(), outside, dir };
        pair.routes_outside();
        pair.form();
        println!("a cluster with its pods after {:?}", begin.elapsed());
        pair
    }

    /// The host beside the boards knows where the cluster is, as a router would: by the first.
    fn routes_outside(&self) {
        let [a, b] = self.at;
        self.lan.namespace.ip(&format!(
            "route replace 10.42.0.0/15 via {a}\nroute replace {EXTERNAL_IP}/32 via {b}\n"
        ));
    }

    /// Makes one cluster of them, with a pod on each.
    fn form(&mut self) {
        // A guest without hardware help may be silent for long, and is not lost then.
        spawn(&mut self.a, "edged server --name a --silent-after 30s --node-grace 90s");
        self.a.until("edged ctl get nodes", |text| text.contains(" Ready"));
        self.join("");
        self.a.until("edged ctl get nodes", |text| text.matches(" Ready").count() == 2);
        self.a.ok("edged ctl image load /files/box.tar > /dev/null 2>&1");
        self.a.ok("edged ctl apply -f /files/cluster.yaml");
        self.a.until("edged ctl get pods", |text| text.matches(" Running").count() == 2);
        let path = "edged ctl get service all -o jsonpath={.spec.clusterIP}";
        self.service_ip = self.a.ok(path);
        for guest in [&mut self.a, &mut self.b] {
            serve(guest);
        }
    }

    /// Lets `b` join, with these variables.
    pub(super) fn join(&mut self, with: &str) {
        let token = self.a.ok("edged token create 2>/dev/null");
        let join = "edged agent --name b --join";
        let server = self.at[0];
        spawn(&mut self.b, &format!("{with} {join} https://{server}:6443 --token {token}"));
    }

    /// A board by its number.
    pub(super) fn board(&mut self, n: usize) -> &mut Guest {
        if n == 0 { &mut self.a } else { &mut self.b }
    }

    /// Hears what crosses the cable of `b` while something is done.
    pub(super) fn hearing(&mut self, work: impl FnOnce(&mut Pair)) -> Heard {
        let ear = self.lan.listen("tb");
        work(self);
        ear.stop()
    }

    /// Ends `edged` on a board as a power cut would.
    pub(super) fn kill(&mut self, n: usize) {
        self.board(n).ok("kill -9 $(cat /tmp/pid); while test -d /proc/$(cat /tmp/pid); \
                          do sleep 0.1; done");
    }

    /// Starts it again, with these variables.
    pub(super) fn start(&mut self, n: usize, with: &str) {
        let line = match n {
            0 => "edged server --silent-after 30s --node-grace 90s",
            _ => "edged agent",
        };
        spawn(self.board(n), &format!("{with} {line}"));
    }

    /// Gives `b` another address, and the routes that go with it.
    pub(super) fn move_b(&mut self, to: [u8; 4], routes: &str) {
        let (from, to) = (self.at[1], Ipv4Addr::from(to));
        self.at[1] = to;
        self.b
            .ok(&format!("ip addr del {from}/24 dev eth0; ip addr add {to}/24 dev eth0; {routes}"));
        self.routes_outside();
        let nodes = "edged ctl get nodes -o wide";
        let to = to.to_string();
        self.a.until(nodes, |text| text.contains(&to) && text.matches(" Ready").count() == 2);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Some(mut child) = self.outside.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for guest in [&mut self.a, &mut self.b] {
                if !guest.answers() {
                    continue;
                }
                let line = "grep -v DEBUG /tmp/log | tail -n 40; ip route; ip link; \
                            WG_COLOR_MODE=never wg show edge-wg0; tail -n 5 /tmp/serve";
                let (_, text) = guest.shell(line);
                println!("{text}");
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Writes the disk that both boot from.
fn disk(kernel: &Kernel, dir: &Path) -> PathBuf {
    let archive = dir.join("box.tar");
    cargo::named(&archive, IMAGE, 0, 1);
    let disk = dir.join("disk");
    let files = Files::new(kernel, &["wireguard"])
        .program(&built("edged"))
        .program(&built("edge-probe"))
        .program(Path::new("/usr/bin/wg"))
        .program(Path::new("/usr/sbin/nft"))
        .file("box.tar", &std::fs::read(&archive).expect("an archive"))
        .file("cluster.yaml", manifests().as_bytes());
    std::fs::write(&disk, files.finish()).expect("a disk");
    disk
}

fn spawn(guest: &mut Guest, line: &str) {
    guest.ok(&format!("EDGED_LOG=debug setsid env {line} >> /tmp/log 2>&1 & echo $! > /tmp/pid"));
}

/// Starts what answers in a board's pod.
pub(super) fn serve(guest: &mut Guest) {
    let probe = format!("edge-probe serve {SECRET}$(hostname)");
    guest.ok(&format!("setsid {IN_POD} {probe} > /tmp/serve 2>&1 & sleep 0.2"));
}

/// Neither an address of a pod nor what pods say was heard, and tunnels were.
#[track_caller]
pub(super) fn nothing_plain(heard: &Heard) {
    let frames = heard.frames();
    assert_eq!(heard.with(SECRET.as_bytes()), 0, "of {frames} frames");
    assert_eq!(heard.about([10, 42]), 0, "of {frames} frames");
    assert!(heard.udp_to(TUNNEL_PORT) > 0, "of {frames} frames");
    println!("{frames} frames, {} to the tunnel, none plain", heard.udp_to(TUNNEL_PORT));
}

/// How long something took.
pub(super) fn told(what: &str, begin: Instant) -> Duration {
    let took = begin.elapsed();
    println!("{what}: after {took:?}");
    took
}
