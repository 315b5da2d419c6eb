//! A broker whose cable is pulled: nothing is refused, nothing ends, there is only silence. In a
//! network namespace of its own, where the packets of one port are dropped.

use std::process::Command;
use std::time::{Duration, Instant};

use super::boards::Cluster;
use super::client::until;

/// Runs a test in a network namespace with a loopback and nothing else.
fn alone<T: Future<Output = ()>>(test: impl FnOnce() -> T + Send + 'static) {
    if !crate::board::can_run() {
        return;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
        run("ip", "link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test());
    });
    thread.join().unwrap();
}

fn run(program: &str, args: &str) {
    let status = Command::new(program).args(args.split(' ')).status();
    assert!(status.expect("tests/setup.sh test installs it").success(), "{program} {args}");
}

/// From now on nothing goes to or from a port.
fn silence(port: u16) {
    run("nft", "add table ip t");
    run("nft", "add chain ip t out { type filter hook output priority 0 ; }");
    run("nft", &format!("add rule ip t out tcp dport {port} drop"));
    run("nft", &format!("add rule ip t out tcp sport {port} drop"));
}

#[test]
fn an_agent_leaves_a_broker_that_is_silent() {
    alone(|| async {
        let cluster = Cluster::new();
        let mut servers = cluster.three().await;
        let agent = cluster.agent("n").await;
        agent.sessions(1).await;
        let has_agent = |s: &super::boards::Board| s.bus.counters().broker.clients == 4;
        until("the agent is somewhere", || servers.iter().any(has_agent)).await;
        let at = servers.iter().position(has_agent).expect("it was just there");
        agent.bus.beat("before".into());
        let other = (at + 1) % 3;
        servers[other].beat().await;
        silence(servers[at].bus.broker_address().unwrap().port());
        let begin = Instant::now();
        let mut n = 0;
        let heard = loop {
            n += 1;
            agent.bus.beat(format!("beat {n}").into());
            let wait = Duration::from_millis(100);
            if tokio::time::timeout(wait, servers[other].beat()).await.is_ok() {
                break begin.elapsed();
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "the agent did not move");
        };
        eprintln!("heard again {heard:?} after its broker went silent");
        assert!(heard < Duration::from_millis(3500), "{heard:?}");
        servers[other].nobody_gone(Duration::from_millis(500)).await;
    });
}

#[test]
fn a_silent_broker_is_gone_around() {
    alone(|| async {
        let cluster = Cluster::new();
        let [a, mut b, _c] = cluster.three().await;
        a.bus.send("b", "straight".into());
        b.raft().await;
        silence(b.bus.broker_address().unwrap().port());
        let begin = Instant::now();
        loop {
            a.bus.send("b", "around".into());
            let wait = Duration::from_millis(100);
            if tokio::time::timeout(wait, b.raft()).await.is_ok() {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(15), "no way around");
        }
        eprintln!("a way around after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(7));
    });
}
