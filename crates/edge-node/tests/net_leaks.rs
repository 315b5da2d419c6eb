//! Pods and Services come and go, and nothing of them stays: rules, links, routes, addresses,
//! neighbours, remembered connections, files and descriptors are as before.
//!
//! `EDGED_LEAK_CYCLES=500 cargo test -p edge-node --test net_leaks` is the long run.

#![allow(clippy::panic)]

mod lab;

use edge_core::proxy::{ANNOUNCED_BY, Tables};
use edge_node::net::Net;
use lab::objects::{here, service, slice};
use lab::{Lab, in_pod};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// Cycles where nobody asks for more.
const CYCLES: usize = 50;
/// Every so many cycles edged is as new: what it leaves behind then must be found again.
const RESTART_EVERY: usize = 20;

fn cycles() -> usize {
    let asked = std::env::var("EDGED_LEAK_CYCLES").ok();
    asked.map_or(CYCLES, |text| text.parse().expect("EDGED_LEAK_CYCLES is a number"))
}

fn printed(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_else(|_| format!("no program {program}"))
}

/// The lines of what must be as before; counters and ages are left out.
fn traces(lab: &Lab) -> BTreeMap<&'static str, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let pods = |text: String| {
        // Multicast reports of links that come are nobody's connection.
        let lines = text.lines().filter(|line| !line.contains("224.0.0."));
        let lines = lines.filter(|line| line.contains("10.42.") || line.contains("10.43."));
        lines.map(|line| line.to_owned() + "\n").collect::<String>()
    };
    let fds = std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let mounts = read("/proc/thread-self/mountinfo");
    let run_dir = lab.run_dir().display().to_string();
    BTreeMap::from([
        ("rules", printed("nft", "list ruleset")),
        ("links", printed("ip", "-o -br link show")),
        ("addresses", printed("ip", "-o -br addr show")),
        ("routes", printed("ip", "-4 route show table all")),
        ("neighbours", pods(printed("ip", "-4 neigh show nud permanent"))),
        ("connections", pods(read("/proc/thread-self/net/nf_conntrack"))),
        ("packet sockets", read("/proc/thread-self/net/packet").lines().count().to_string()),
        ("files", format!("{:?}", lab.files())),
        ("mounts", mounts.lines().filter(|line| line.contains(&run_dir)).count().to_string()),
        ("descriptors", fds.to_string()),
    ])
}

/// One pod behind Services of every sort, used and gone again.
async fn cycle(net: &Net, n: usize) {
    let name = format!("one-{n}");
    let one = net.create_pod(&name, &name, false).await.expect("a pod");
    let listener = in_pod(&one.namespaces, || TcpListener::bind("0.0.0.0:8080").expect("listen"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"hello").expect("written");
    });
    let socket = in_pod(&one.namespaces, || UdpSocket::bind("0.0.0.0:8080").expect("a socket"));
    let answer = std::thread::spawn(move || {
        let mut question = [0; 8];
        let (length, from) = socket.recv_from(&mut question).expect("a question");
        socket.send_to(&question[..length], from).expect("an answer");
    });
    let ports = json!([{"name": "t", "port": 80, "nodePort": 30080},
                       {"name": "u", "port": 80, "nodePort": 30080, "protocol": "UDP"}]);
    let mut object = service(json!({"type": "LoadBalancer", "ports": ports,
        "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": [format!("10.{}.0.0/16", n % 200), "192.0.2.0/24"]}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.240"}]}});
    object["metadata"]["annotations"] = json!({ANNOUNCED_BY: "here"});
    let targets: [(IpAddr, &str); 1] = [here(&[&one])[0]];
    let slices = ["TCP", "UDP"].map(|protocol| {
        let mut slice = slice("web", 8080, protocol, &targets);
        slice["ports"][0]["name"] = json!(protocol[..1].to_ascii_lowercase());
        slice
    });
    net.apply_proxy(&Tables::gather(&[object], &slices, "here")).await.expect("rules");
    let ear = net.hear_arp("lan0").expect("a packet socket");
    assert_eq!(lab::fetch(("10.43.0.9", 80)), "hello");
    let asker = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    asker.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    asker.send_to(b"?", "10.43.0.9:80").expect("sent");
    asker.recv(&mut [0; 8]).expect("an answer");
    answer.join().expect("no panic");
    served.join().expect("no panic");
    drop(ear);
    net.apply_proxy(&Tables::default()).await.expect("rules");
    net.remove_pod(&name).await.expect("removed");
}

#[test]
fn nothing_is_left_of_pods_and_services_that_came_and_went() {
    Lab::run("leaks", async |lab| {
        // TCP remembers ended connections by itself, for two minutes.
        for state in ["time_wait", "close_wait", "last_ack", "close"] {
            let setting = format!("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{state}");
            let _ = std::fs::write(setting, "1");
        }
        let mut net = lab.open();
        net.cleanup().await.expect("cleanup");
        drop(net);
        let bare = traces(&lab);
        net = lab.open();
        cycle(&net, 0).await;
        let mut standing = traces(&lab);
        // The kernel takes a second to forget.
        standing.insert("connections", String::new());
        let (begin, count) = (Instant::now(), cycles());
        for n in 1..=count {
            cycle(&net, n).await;
            if n % RESTART_EVERY == RESTART_EVERY - 1 {
                drop(net);
                net = lab.open();
            }
        }
        println!("{count} cycles in {:?}", begin.elapsed());
        same(&lab, &standing, "after all of them");
        net.cleanup().await.expect("cleanup");
        drop(net);
        same(&lab, &bare, "after cleanup");
    });
}

/// What the kernel frees a moment later (namespaces, connections) has some time.
#[track_caller]
fn same(lab: &Lab, before: &BTreeMap<&'static str, String>, when: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let now = traces(lab);
        let differs = before.iter().find(|(what, text)| now[*what] != **text);
        match differs {
            None => return,
            Some((what, text)) if Instant::now() > end => {
                panic!("{what} {when}:\n{}\nbefore:\n{text}", now[what])
            }
            Some(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
