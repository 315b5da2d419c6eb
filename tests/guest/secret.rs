//! Boards of one network that are set to encrypt: all that their pods say to each other is in
//! tunnels, or is not said; who claims to be a pod is not believed; keys go with their boards; and
//! nothing is left behind.

use std::time::{Duration, Instant};

use super::pair::{IN_POD, NAMES, PODS, Pair, SECRET, TUNNEL_PORT, nothing_plain, told};

/// A board sends one last sign of life this long after it was spoken to, and then is quiet.
const LAST_WORD: Duration = Duration::from_secs(12);
/// How long nothing must be heard.
const QUIET: Duration = Duration::from_secs(10);
const ENCRYPTS: &str = "EDGED_ENCRYPT_PODS=true";
const KEY_FILE: &str = "/var/lib/edged/pki/wireguard.key";

#[test]
fn boards_of_one_network_that_encrypt() {
    if !super::asked() {
        return;
    }
    let begin = Instant::now();
    let mut pair = Pair::together();
    plain(&mut pair);
    one_asks(&mut pair);
    both_ask(&mut pair);
    policies(&mut pair);
    closed(&mut pair);
    pair.move_b([192, 168, 71, 9], "ip route add default via 192.168.71.1");
    pair.settle("another address, encrypted");
    keys(&mut pair);
    leave(&mut pair);
    told("all of it", begin);
}

/// As long as nobody asks there is no tunnel; the host outside can say that it is a pod.
fn plain(pair: &mut Pair) {
    let heard = pair.hearing(|pair| {
        pair.settle("as neighbours");
    });
    assert!(heard.with(SECRET.as_bytes()) > 0 && heard.udp_to(TUNNEL_PORT) == 0);
    let links = pair.b.ok("ip link");
    assert!(!links.contains("edge-wg0"), "{links}");
    assert!(pair.says_outside(PODS[0], "plain-as-a-pod"));
    assert!(pair.says_outside("192.168.71.1", "plain-as-itself"));
}

/// One of two boards is enough, and both ends know; the other one remembers when it boots alone.
fn one_asks(pair: &mut Pair) {
    pair.kill(0);
    pair.start(0, ENCRYPTS);
    for (n, pods) in [(1, "10.42.0.0/24"), (0, "10.42.1.0/24")] {
        pair.board(n).until("ip route", |text| {
            text.contains(&format!("{pods} dev edge-wg0"))
                && text.contains("unreachable 10.42.0.0/16")
        });
    }
    pair.settle("one of them encrypts");
    let heard = pair.hearing(|pair| {
        pair.settle_inside("one of them encrypts, heard");
        // As after a power cut, but for the pods: without a server, a link, a route.
        pair.kill(0);
        pair.kill(1);
        pair.b.ok("ip link del edge-wg0 && ip route del unreachable 10.42.0.0/16");
        pair.start(1, "");
        let begin = Instant::now();
        pair.b.until("ip route", |text| text.contains("unreachable 10.42.0.0/16"));
        pair.b.until("ip route", |text| text.contains("10.42.0.0/24 dev edge-wg0"));
        told("a board alone has its tunnel again", begin);
        for way in [format!("tcp={}:7001", PODS[0]), format!("udp={}:7001", PODS[0])] {
            assert!(pair.pod_asks(1, &way), "{way} while no server is there");
        }
    });
    nothing_plain(&heard);
    pair.start(0, ENCRYPTS);
}

/// All traffic of pods between boards is in tunnels; who isn't in one is no pod.
fn both_ask(pair: &mut Pair) {
    pair.kill(1);
    pair.start(1, ENCRYPTS);
    pair.settle("both encrypt");
    let heard = pair.hearing(|pair| {
        pair.settle_inside("both encrypt, heard");
    });
    nothing_plain(&heard);
    pair.large_ones_pass();
    assert!(pair.says_outside("192.168.71.1", "secret-as-itself"));
    assert!(!pair.says_outside(PODS[0], "secret-as-a-pod"), "a pod's address came in plain");
    let heard = pair.hearing(|pair| {
        for n in [1, 0] {
            pair.kill(n);
            pair.start(n, ENCRYPTS);
        }
        pair.settle_inside("both killed and started");
    });
    nothing_plain(&heard);
    pair.settle("both killed and started, everything");
    std::thread::sleep(LAST_WORD);
    let heard = pair.hearing(|_| std::thread::sleep(QUIET));
    assert_eq!(heard.udp_to(TUNNEL_PORT), 0, "neighbours at rest say nothing");
}

/// What is judged is who a packet is from, through a tunnel as well.
fn policies(pair: &mut Pair) {
    let [tcp, udp] = ["tcp", "udp"].map(|how| format!("{how}={}:7001", PODS[1]));
    let back = format!("tcp={}:7001", PODS[0]);
    let deny = "{podSelector: {matchLabels: {board: b}}, policyTypes: [Ingress]}";
    let label = "{podSelector: {matchLabels: {board: b}}, ingress: [{from: [{podSelector: \
                 {matchLabels: {board: a}}}], ports: [{port: 7001}]}]}";
    let other = "{podSelector: {matchLabels: {board: b}}, ingress: [{from: [{podSelector: \
                 {matchLabels: {board: c}}}]}]}";
    let dns = "{podSelector: {matchLabels: {board: a}}, policyTypes: [Egress], egress: [{to: \
               [{ipBlock: {cidr: 10.43.0.10/32}}], ports: [{port: 53, protocol: UDP}]}]}";
    // Whether `a` gets to `b` by TCP and by UDP, and `b` to `a`.
    let recipes = [
        ("deny all ingress", deny, [false, false, true]),
        ("allow by label, one port by TCP", label, [true, false, true]),
        ("allow another label", other, [false, false, true]),
        ("egress DNS only", dns, [false, false, true]),
    ];
    for (name, spec, wanted) in recipes {
        let policy = format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p}}, \
             spec: {spec}}}"
        );
        pair.a.ok(&format!("printf '%s' '{policy}' > /tmp/p && edged ctl apply -f /tmp/p"));
        holds(pair, name, [&tcp, &udp, &back], wanted);
        pair.a.ok("edged ctl delete networkpolicy p");
        holds(pair, "without a policy", [&tcp, &udp, &back], [true; 3]);
    }
}

#[track_caller]
fn holds(pair: &mut Pair, name: &str, ways: [&str; 3], wanted: [bool; 3]) {
    let begin = Instant::now();
    loop {
        let seen = [(0, ways[0]), (0, ways[1]), (1, ways[2])].map(|(n, way)| pair.pod_asks(n, way));
        if seen == wanted {
            println!("policy: {name}: holds after {:?}", begin.elapsed());
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{name}: {seen:?}, not {wanted:?}");
    }
}

/// Without its tunnel a board's pods say nothing to those of others.
fn closed(pair: &mut Pair) {
    let heard = pair.hearing(|pair| {
        for n in [0, 1] {
            pair.kill(n);
            pair.board(n).ok("ip link del edge-wg0");
        }
        for (n, other) in [(0, PODS[1]), (1, PODS[0])] {
            for way in [format!("tcp={other}:7001"), format!("udp={other}:7001")] {
                assert!(!pair.pod_asks(n, &way), "{way} without a tunnel");
            }
            // The board itself, too, and what is answered from a Service.
            let at = format!("tcp={}:7000", pair.service_ip);
            let line = format!("edge-probe ask tcp={other}:7001; {IN_POD} edge-probe ask {at}");
            let text = pair.board(n).ok(&line);
            assert!(!text.contains(&format!("{SECRET}{}", NAMES[1 - n])), "{text}");
        }
        assert!(!pair.says_outside(PODS[0], "without-a-tunnel"), "a pod's address came in plain");
    });
    // What the host outside has just said of itself is all.
    let said = heard.with(b"without-a-tunnel");
    assert!(said > 0 && heard.about([10, 42]) == said, "{said}, {}", heard.about([10, 42]));
    assert_eq!((heard.with(SECRET.as_bytes()), heard.udp_to(TUNNEL_PORT)), (0, 0));
    let heard = pair.hearing(|pair| {
        for n in [0, 1] {
            pair.start(n, ENCRYPTS);
        }
        pair.settle_inside("the tunnel made again");
    });
    nothing_plain(&heard);
    pair.settle("the tunnel made again, everything");
}

/// A private key is its board's alone, and ends with the board's place in the cluster.
fn keys(pair: &mut Pair) {
    let peers = |pair: &mut Pair| pair.a.ok("wg show edge-wg0 peers");
    let first = pair.b.ok("wg show edge-wg0 public-key");
    assert_eq!(peers(pair), first);
    let told = pair.a.ok("edged ctl get nodes -o yaml");
    for n in [0, 1] {
        assert_eq!(pair.board(n).ok(&format!("stat -c %a {KEY_FILE}")), "600");
        let private = pair.board(n).ok("wg show edge-wg0 private-key");
        let file = pair.board(n).ok(&format!("cut -d ' ' -f 1 {KEY_FILE}"));
        assert_eq!(private, file);
        assert!(!told.contains(&private), "a private key on a Node");
        let found = pair.board(n).ok(&format!(
            "grep -rlF {private} /var/lib/edged /run/edged /tmp /etc 2>/dev/null; true"
        ));
        assert_eq!(found, KEY_FILE, "the private key is in its file and nowhere else");
    }
    pair.a.ok("edged ctl node revoke b");
    pair.a.until("wg show edge-wg0 peers", str::is_empty);
    assert!(!pair.pod_asks(0, &format!("tcp={}:7001", PODS[1])), "a revoked board");
    assert!(!pair.pod_asks(1, &format!("udp={}:7001", PODS[0])), "a revoked board");
    pair.b.shell("kill -9 $(cat /tmp/pid)");
    pair.join(ENCRYPTS);
    pair.a.until("wg show edge-wg0 peers", |text| !text.is_empty());
    let second = pair.b.ok("wg show edge-wg0 public-key");
    assert!(second != first && peers(pair) == second, "{first} {second}");
    pair.settle_inside("joined again, with another key");
}

/// Nothing of ours stays.
fn leave(pair: &mut Pair) {
    for n in [1, 0] {
        let guest = pair.board(n);
        guest.ok("kill $(cat /tmp/pid); while test -d /proc/$(cat /tmp/pid); do sleep 0.2; done");
        guest.ok("edged cleanup");
        let left = guest.ok("ip link; ip route; ip rule; ip addr; nft list tables; wg show");
        for word in ["edge", "10.42", "10.43"] {
            assert!(!left.contains(word), "{word} in\n{left}");
        }
        let keys = guest.ok("find /var/lib/edged /run -name 'wireguard.key*'");
        assert_eq!(keys, "", "a key is left");
    }
}
