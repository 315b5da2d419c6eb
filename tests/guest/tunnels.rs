//! Tunnels between boards, on kernels that have WireGuard: two boards with a router between them,
//! then as neighbours of whom one asks for encryption. What crosses the cable is heard.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::files::Files;
use super::kernel::Kernel;
use super::lan::{Heard, Lan};
use super::machine::Guest;
use crate::board::machine::built;
use crate::lab::cargo;

const IMAGE: &str = "example.org/box:1";
/// What each board's pod answers begins so; the board's name follows.
const SECRET: &str = "PLAINTEXT-of-";
const PORT: u16 = 8080;
const NODE_PORT: u16 = 30080;
const TUNNEL_PORT: u16 = 51820;
/// A board sends one last sign of life this long after it was spoken to, and then is quiet.
const LAST_WORD: Duration = Duration::from_secs(12);
/// How long nothing must be heard.
const QUIET: Duration = Duration::from_secs(10);

fn pods() -> String {
    let pod = |board: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: on-{board}, labels: {{app: box}}}}\n\
             spec:\n  nodeName: {board}\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
             - name: c\n    image: {IMAGE}\n    imagePullPolicy: IfNotPresent\n    command: \
             [/bin/busybox, sh, -c, \"echo {SECRET}{board} > /index.html; exec /bin/busybox httpd \
             -f -p {PORT} -h /\"]\n---\n"
        )
    };
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: box}}\nspec: {{type: NodePort, selector: \
         {{app: box}}, ports: [{{port: 80, targetPort: {PORT}, nodePort: {NODE_PORT}}}]}}\n"
    );
    pod("a") + &pod("b") + &service
}

/// A line that asks somebody for the first page, `within` another network if that is said.
fn asking(within: &str, host: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | {within} nc -w 3 {host} {port} | grep {SECRET}")
}

/// A line that asks a pod of another board from all places of this one: the board and its pod.
fn asking_both(host: &str) -> String {
    let pod = asking("nsenter --net=$(ls -d /run/edged/pods/*/net)", host, PORT);
    format!("{} && {pod}", asking("", host, PORT))
}

/// Two boards and what lies between them.
struct Pair {
    a: Guest,
    b: Guest,
    lan: Lan,
    dir: PathBuf,
}

impl Pair {
    /// Boots both; each has a network of its own, and `b` no default route.
    fn boot() -> Pair {
        let kernel = Kernel::find();
        let dir = std::env::temp_dir().join(format!("edged-guests-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let archive = dir.join("box.tar");
        cargo::named(&archive, IMAGE, 0, 1);
        let disk = dir.join("disk");
        let files = Files::new(&kernel, &["wireguard"])
            .program(&built("edged"))
            .file("box.tar", &std::fs::read(&archive).expect("an archive"))
            .file("pods.yaml", pods().as_bytes());
        std::fs::write(&disk, files.finish()).expect("a disk");
        let lan = Lan::new("tunnels");
        for tap in ["ta", "tb"] {
            lan.tap(tap);
        }
        lan.namespace.ip("addr add 192.168.71.1/24 dev ta\naddr add 192.168.72.1/24 dev tb\n");
        let [mut a, mut b] = [("a", "ta"), ("b", "tb")]
            .map(|(name, tap)| Guest::start(name, &kernel, &disk, &lan, &[tap]));
        for (guest, name) in [(&mut a, "a"), (&mut b, "b")] {
            guest.booted();
            guest.ok(&format!("hostname {name}"));
        }
        a.ok("ip addr add 192.168.71.2/24 dev eth0 && ip link set eth0 up");
        a.ok("ip route add default via 192.168.71.1");
        b.ok("ip addr add 192.168.72.2/24 dev eth0 && ip link set eth0 up");
        b.ok("ip route add 192.168.71.0/24 via 192.168.72.1");
        Pair { a, b, lan, dir }
    }

    /// Makes one cluster of them, with a pod on each.
    fn form(&mut self) {
        // A guest without hardware help may be silent for long, and is not lost then.
        spawn(&mut self.a, "edged server --name a --silent-after 30s --node-grace 90s");
        self.a.until("edged ctl get nodes", |text| text.contains(" Ready"));
        let token = self.a.ok("edged token create 2>/dev/null");
        let join = "edged agent --name b --join https://192.168.71.2:6443 --token";
        spawn(&mut self.b, &format!("{join} {token}"));
        self.a.until("edged ctl get nodes", |text| text.matches(" Ready").count() == 2);
        self.a.ok("edged ctl image load /files/box.tar > /dev/null 2>&1");
        self.a.ok("edged ctl apply -f /files/pods.yaml");
        self.a.until("edged ctl get pods", |text| text.matches(" Running").count() == 2);
    }

    /// Everybody reaches the other board's pod; how long that took.
    #[track_caller]
    fn settle(&mut self, when: &str) {
        let begin = Instant::now();
        let both = |text: &str| text.matches(SECRET).count() == 2;
        self.a.until(&asking_both("10.42.1.2"), both);
        self.b.until(&asking_both("10.42.0.2"), both);
        println!("{when}: settled in {:?}", begin.elapsed());
    }

    /// Hears what crosses the cable of `b` while something is done.
    fn hearing(&mut self, work: impl FnOnce(&mut Pair)) -> Heard {
        let ear = self.lan.listen("tb");
        work(self);
        ear.stop()
    }

    /// Ends `edged` on `b` as a power cut would, and starts it again.
    fn again(&mut self, with: &str) {
        self.b.ok("kill -9 $(cat /tmp/pid)");
        self.b.ok(&asking_both("10.42.0.2"));
        spawn(&mut self.b, &format!("{with} edged agent"));
    }

    /// Gives `b` another address, and the routes that go with it.
    fn move_b(&mut self, from: &str, to: &str, route: &str) {
        self.b
            .ok(&format!("ip addr del {from}/24 dev eth0; ip addr add {to}/24 dev eth0; {route}"));
        let nodes = "edged ctl get nodes -o wide";
        self.a.until(nodes, |text| text.contains(to) && text.matches(" Ready").count() == 2);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for guest in [&mut self.a, &mut self.b] {
                if !guest.answers() {
                    continue;
                }
                let (_, text) = guest.shell("tail -n 40 /tmp/log; ip route; ip link");
                println!("{text}");
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(guest: &mut Guest, line: &str) {
    guest.ok(&format!("EDGED_LOG=debug setsid env {line} >> /tmp/log 2>&1 & echo $! > /tmp/pid"));
}

fn nothing_plain(heard: &Heard) {
    assert_eq!(heard.with(SECRET.as_bytes()), 0, "of {} frames", heard.frames());
    assert_eq!(heard.about([10, 42]), 0, "of {} frames", heard.frames());
    assert!(heard.udp_to(TUNNEL_PORT) > 0, "of {} frames", heard.frames());
}

#[test]
fn pods_of_boards_on_two_networks_and_of_boards_that_encrypt() {
    if !super::asked() {
        return;
    }
    let begin = Instant::now();
    let mut pair = Pair::boot();
    println!("booted in {:?}", begin.elapsed());
    pair.form();
    println!("a cluster with its pods after {:?}", begin.elapsed());
    apart(&mut pair);
    println!("all of the first part took {:?}", begin.elapsed());
    together(&mut pair);
    leave(&mut pair);
    println!("all of it took {:?}", begin.elapsed());
}

/// A router between them.
fn apart(pair: &mut Pair) {
    let heard = pair.hearing(|pair| {
        pair.settle("with a router between them");
        // Packets of full size, and whole connections' worth of them.
        let size = std::fs::metadata("/bin/busybox").expect("busybox").len();
        let whole =
            "printf 'GET /bin/busybox HTTP/1.0\\r\\n\\r\\n' | timeout 60 nc 10.42.1.2 8080 | wc -c";
        let count: u64 = pair.a.ok(whole).parse().expect("a number");
        assert!(count > size, "{count} of {size} bytes");
        pair.again("");
        pair.b.ok(&asking_both("10.42.0.2"));
        pair.settle("edged killed and started");
        let up = "ip link set eth0 up && ip route add 192.168.71.0/24 via 192.168.72.1";
        pair.b.ok(&format!("ip link set eth0 down && sleep 1 && {up}"));
        pair.settle("a link that flapped");
        let route = "ip route add 192.168.71.0/24 via 192.168.72.1";
        pair.move_b("192.168.72.2", "192.168.72.9", route);
        pair.settle("another address");
    });
    nothing_plain(&heard);
    for guest in [&mut pair.a, &mut pair.b] {
        let links =
            guest.ok("ip link show edge0; nsenter --net=$(ls -d /run/edged/pods/*/net) ip l");
        assert_eq!(links.matches("mtu 1440").count(), 2, "{links}");
    }
    // Services: what is asked at a board's own address is as plain as it ever was, and whoever is
    // sent on to the other board's pod goes through the tunnel there.
    let heard = pair.hearing(|pair| {
        let line =
            format!("for n in 1 2 3 4 5 6 7 8; do {}; done", asking("", "192.168.72.9", 30080));
        let both = |text: &str| ["a", "b"].iter().all(|b| text.contains(&format!("{SECRET}{b}")));
        pair.a.until(&line, both);
    });
    assert!(heard.with(SECRET.as_bytes()) > 0 && heard.about([10, 42]) == 0);
}

/// One network: plain as long as nobody asks for more.
fn together(pair: &mut Pair) {
    pair.lan.namespace.ip(
        "addr flush dev ta\naddr flush dev tb\nlink add br0 type bridge\nlink set ta master br0\n\
         link set tb master br0\naddr add 192.168.71.1/24 dev br0\nlink set br0 up\n",
    );
    pair.move_b("192.168.72.9", "192.168.71.9", "true");
    for (guest, via) in [(&mut pair.b, "via 192.168.71.2"), (&mut pair.a, "via 192.168.71.9")] {
        guest.until("ip route; ip link; ip link show edge0", |text| {
            text.contains(via) && !text.contains("edge-wg0") && !text.contains("mtu 1440")
        });
    }
    let heard = pair.hearing(|pair| pair.settle("as neighbours"));
    assert!(heard.with(SECRET.as_bytes()) > 0 && heard.udp_to(TUNNEL_PORT) == 0);

    pair.again("EDGED_ENCRYPT_PODS=true");
    for (guest, pods) in [(&mut pair.b, "10.42.0.0/24"), (&mut pair.a, "10.42.1.0/24")] {
        guest.until("ip route", |text| {
            text.contains(&format!("{pods} dev edge-wg0"))
                && text.contains("unreachable 10.42.0.0/16")
        });
    }
    let heard = pair.hearing(|pair| pair.settle("one of them encrypts"));
    nothing_plain(&heard);
    let heard = pair.hearing(|pair| {
        pair.again("EDGED_ENCRYPT_PODS=true");
        pair.settle("it encrypts, killed and started");
    });
    nothing_plain(&heard);
    std::thread::sleep(LAST_WORD);
    let heard = pair.hearing(|_| std::thread::sleep(QUIET));
    assert_eq!(heard.udp_to(TUNNEL_PORT), 0, "neighbours at rest say nothing");
}

/// Nothing of ours stays.
fn leave(pair: &mut Pair) {
    pair.b.ok("kill $(cat /tmp/pid); while test -d /proc/$(cat /tmp/pid); do sleep 1; done");
    pair.b.ok("edged cleanup");
    let left = pair.b.ok("ip link; ip route");
    assert!(!left.contains("edge-wg0") && !left.contains("10.42"), "{left}");
}
