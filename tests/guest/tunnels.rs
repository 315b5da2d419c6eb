//! Boards on different networks, on kernels that have WireGuard: a router between them knows
//! nothing of pods, and edged makes the tunnel by itself. What crosses the cable is heard.

use std::time::Instant;

use super::pair::{Pair, nothing_plain, told};

/// What a board that is behind the router has to be told after its link went.
const ROUTE: &str = "ip route add 192.168.71.0/24 via 192.168.72.1";

#[test]
fn pods_of_boards_with_a_router_between_them() {
    if !super::asked() {
        return;
    }
    let begin = Instant::now();
    let mut pair = Pair::apart();
    pair.settle("with a router between them");
    let heard = pair.hearing(|pair| {
        pair.settle_inside("heard");
    });
    nothing_plain(&heard);
    pair.large_ones_pass();
    let checked = pair.a.ok("edged ctl net check --timeout 20s");
    assert!(checked.contains(" paths work."), "{checked}");
    println!("net check: {}", checked.lines().last().unwrap_or_default());

    // What is agreed goes on while edged is away, and when it comes again.
    pair.kill(1);
    assert!(pair.pod_asks(0, "tcp=10.42.1.2:7001") && pair.pod_asks(1, "udp=10.42.0.2:7001"));
    pair.start(1, "");
    assert!(pair.pod_asks(0, "udp=10.42.1.2:7001") && pair.pod_asks(1, "tcp=10.42.0.2:7001"));
    pair.settle("an agent killed and started");
    pair.kill(0);
    pair.start(0, "");
    pair.settle("the server killed and started");

    pair.b.ok(&format!("ip link set eth0 down && sleep 1 && ip link set eth0 up && {ROUTE}"));
    pair.settle("a link that flapped");
    let heard = pair.hearing(|pair| {
        pair.move_b([192, 168, 72, 9], ROUTE);
        pair.settle_inside("another address");
    });
    nothing_plain(&heard);
    pair.settle("everything at another address");
    pair.large_ones_pass();
    together(&mut pair);
    told("all of it", begin);
}

/// The router goes, and the tunnel with it: one network is plain as long as nobody asks for more.
fn together(pair: &mut Pair) {
    pair.lan.namespace.ip(
        "addr flush dev ta\naddr flush dev tb\nlink add br0 type bridge\nlink set ta master br0\n\
         link set tb master br0\naddr add 192.168.71.1/24 dev br0\nlink set br0 up\n",
    );
    pair.move_b([192, 168, 71, 9], "ip route add 192.168.72.0/24 via 192.168.71.1");
    for (n, via) in [(1, "via 192.168.71.2"), (0, "via 192.168.71.9")] {
        pair.board(n).until("ip route; ip link; ip link show edge0", |text| {
            text.contains(via) && !text.contains("edge-wg0") && !text.contains("mtu 1440")
        });
    }
    pair.settle("as neighbours");
}
