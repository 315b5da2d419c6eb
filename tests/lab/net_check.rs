//! `edgectl net check` on a cluster that is whole, and on the same one with paths broken for real:
//! each failure gets its own explanation, and nothing is left behind.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edge_core::dns::{Reply, code, encode, parse};

use super::cluster::{Cluster, PERSON};
use super::{Ended, alone, can_run};
use crate::board::command::{Outcome, run, until};
use crate::board::machine::built;

/// A name server beside the boards that knows nothing, until `deaf` is set.
fn upstream(cluster: &Cluster, deaf: Arc<AtomicBool>, ended: Arc<AtomicBool>) {
    let at = SocketAddr::new(IpAddr::V4(super::board::address(PERSON)), 53);
    let socket = cluster.person.within(|| UdpSocket::bind(at).expect("port 53"));
    let patience = Some(std::time::Duration::from_millis(200));
    socket.set_read_timeout(patience).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while !ended.load(Ordering::Acquire) {
            let Ok((length, who)) = socket.recv_from(&mut buffer) else { continue };
            let Ok(query) = parse(&buffer[..length]) else { continue };
            let reply = Reply { code: code::NO_NAME, ..Reply::default() };
            if !deaf.load(Ordering::Acquire) {
                let _ = socket.send_to(&encode(&query, &reply, 512), who);
            }
        }
    });
}

fn check(cluster: &Cluster, more: &[&str]) -> Outcome {
    let args = [&["net", "check", "--timeout", "2500ms"], more].concat();
    cluster.ctl(&cluster.boards[0], &args)
}

/// Fails unless each of these sentences is in what a failing check says.
#[track_caller]
fn explains(cluster: &Cluster, sentences: &[&str]) {
    let outcome = check(cluster, &[]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    for sentence in sentences {
        assert!(outcome.stdout.contains(sentence), "{sentence}\n{}", outcome.stdout);
    }
}

/// Networks and Services of checks that are still there.
fn left(cluster: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    for board in &cluster.boards {
        let entries = std::fs::read_dir(board.dir.join("run1/pods")).into_iter().flatten();
        found.extend(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()));
    }
    let args = ["get", "services,endpointslices", "-A", "-l", "edged.dev/net-check", "-o", "name"];
    let objects = cluster.ctl(&cluster.boards[0], &args).ok();
    found.extend(objects.lines().map(str::to_owned));
    found.retain(|name| name.contains("net-check"));
    found
}

/// Ended by Ctrl-C while it works: it takes away everything before it ends.
fn interrupted(cluster: &Cluster, deaf: &AtomicBool) {
    deaf.store(true, Ordering::Release);
    let mut check = cluster.person(built("edgectl"), &cluster.boards[0]);
    let mut child =
        check.args(["net", "check", "--timeout", "20s"]).spawn().expect("edgectl starts");
    until("the sandboxes are there", || {
        let found = left(cluster);
        (found.len() > 3).then_some(()).ok_or_else(|| format!("{found:?}"))
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it can be interrupted");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(left(cluster), [""; 0], "all of it is gone when the command ends");
}

#[test]
fn every_path_is_tried_and_a_broken_one_explained() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::dark(1, 2);
    let (deaf, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let _ended = Ended(&ended);
    upstream(&cluster, deaf.clone(), ended.clone());
    let text = format!("nameserver {}\n", super::board::address(PERSON));
    let resolv = cluster.file("resolv.conf", text);
    cluster.form(&["--resolv-conf", &resolv]);
    let [s1, a1, a2] = &cluster.boards[..] else { panic!("three boards") };

    let whole = check(&cluster, &["-o", "json"]).ok();
    let whole: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!((&whole["failed"], &whole["skipped"]), (&0.into(), &0.into()), "{whole:#}");
    assert!(whole["passed"].as_u64() > Some(60), "{whole:#}");
    assert_eq!(left(&cluster), [""; 0], "all of it is gone when the command ends");
    interrupted(&cluster, &deaf);

    // Killed while it works: the boards notice by themselves.
    let mut killed = cluster.person(built("edgectl"), s1);
    killed.args(["net", "check", "--timeout", "20s"]);
    let mut child = killed.spawn().expect("edgectl starts");
    until("the sandboxes are there", || {
        let found = left(&cluster).iter().filter(|name| !name.contains('/')).count();
        (found == 3).then_some(()).ok_or_else(|| format!("{found} sandboxes"))
    });
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    until("only Services are left", || {
        let found = left(&cluster);
        found.iter().all(|name| name.contains('/')).then_some(()).ok_or(format!("{found:?}"))
    });

    cluster.fabric.set_both(a1.port, a2.port, |weather| weather.cut = true);
    explains(
        &cluster,
        &[
            "FAIL a1 -> a2 port 10250: no answer in time",
            "board a1 gets no answer from a2",
            "Others reach it: look at the cable, switch port or WiFi between these two",
            "the boards a1 and a2 themselves don't reach each other: that comes first",
            "whom s1 asks for other names (192.168.78.10, from its /etc/resolv.conf) does not",
        ],
    );
    cluster.fabric.heal();
    deaf.store(false, Ordering::Release);
    broken_on_boards(&cluster);
    let again = check(&cluster, &[]).ok();
    assert!(again.contains("All ") && again.contains(" paths work."), "{again}");
    let one = check(&cluster, &["--from", "a1", "-v"]).ok();
    assert!(one.contains("pod on a1 -> pod on a2") && !one.contains("pod on s1 ->"), "{one}");
    let nowhere = check(&cluster, &["--from", "b9"]).fails();
    assert!(nowhere.contains("there is no board \"b9\"; there are a1, a2, s1"), "{nowhere}");
}

/// A route of somebody else, a link that is too small, a firewall, forwarding that is off.
fn broken_on_boards(cluster: &Cluster) {
    let [s1, a1, a2] = &cluster.boards[..] else { panic!("three boards") };
    let ip = |board: &super::board::Board, args: &str| {
        let mut command = board.inside("ip");
        command.args(args.split(' '));
        run(command).ok();
    };
    let path = "jsonpath={.spec.podCIDR}";
    let pods = cluster.ctl(s1, &["get", "node", "a1", "-o", path]).ok();
    ip(s1, &format!("route replace {pods} via 192.168.78.99"));
    ip(a2, "link set lan0 mtu 1300");
    explains(
        cluster,
        &[
            &format!("board s1 sends what is for the pods of a1 ({pods}) to 192.168.78.99 instead"),
            // Whether it is told between whom, or whose link it is, depends on which link edged
            // has looked at since.
            "the way takes packets of 1300 bytes only",
            "while small ones do: the ",
        ],
    );
    ip(s1, &format!("route del {pods}"));
    ip(a2, "link set lan0 mtu 1500");

    let rules = cluster.file(
        "rules.nft",
        "table inet fw { chain forward { type filter hook forward priority 0; drop; }; }",
    );
    let mut nft = a1.inside("nft");
    nft.args(["-f", &rules]);
    run(nft).ok();
    a2.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")).expect("a setting");
    explains(
        cluster,
        &[
            "board a1 has rules of its own that drop packets (nftables chain fw/forward)",
            "forwarding is off on board a2 (net.ipv4.ip_forward=0)",
        ],
    );
    let mut nft = a1.inside("nft");
    nft.args(["delete", "table", "inet", "fw"]);
    run(nft).ok();
    a2.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("a setting");
}
