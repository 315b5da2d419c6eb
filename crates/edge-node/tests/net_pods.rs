//! Pods' networks as the kernel has them: each test runs in network and mount namespaces of
//! its own, so that the machine's links and rules are neither seen nor touched.

mod lab;

use edge_node::net::{Net, NetError};
use lab::{Lab, in_pod};
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Instant;

fn links() -> BTreeSet<String> {
    let names = std::fs::read_to_string("/proc/thread-self/net/dev").expect("links");
    names.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().into())).collect()
}

fn mounts(below: &std::path::Path) -> usize {
    let below = below.display().to_string();
    let all = std::fs::read_to_string("/proc/thread-self/mounts").expect("mounts");
    all.lines().filter(|line| line.contains(&below)).count()
}

#[test]
fn a_pod_has_namespaces_a_name_an_address_and_reaches_the_board_and_other_pods() {
    Lab::run("pods-reach", async |lab| {
        let net = lab.open();
        let one = net.create_pod("uid-1", "web-1", false).await.expect("a pod");
        let two = net.create_pod("uid-2", "web-2", false).await.expect("a pod");
        assert_eq!(one.ip, Some(IpAddr::from([10, 42, 0, 2])));
        assert_eq!(two.ip, Some(IpAddr::from([10, 42, 0, 3])));
        let again = net.create_pod("uid-1", "web-1", false).await.expect("the same");
        assert_eq!(again, one);
        assert_eq!(net.list_pods(), ["uid-1", "uid-2"]);
        let name = in_pod(&one.namespaces, || nix::unistd::gethostname().expect("a name"));
        assert_eq!(name.to_str(), Some("web-1"));

        let server = lab::serve(&two.namespaces, "0.0.0.0:80", "two");
        let address = (two.ip.expect("an address"), 80);
        assert_eq!(in_pod(&one.namespaces, move || lab::fetch(address)), "two");
        assert_eq!(lab::fetch(address), "two", "from the board");
        let peer = lab::peers(&server).pop().expect("a connection");
        assert_eq!(peer, IpAddr::from([10, 42, 0, 1]));

        let board = TcpListener::bind("10.42.0.1:8080").expect("the board's address");
        let from = in_pod(&one.namespaces, || {
            TcpStream::connect("10.42.0.1:8080").expect("reach the board").local_addr()
        });
        let (_, seen) = board.accept().expect("a connection");
        assert_eq!(seen, from.expect("an address"), "no address translation within");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn a_pod_on_the_boards_network_shares_it_and_has_no_address() {
    Lab::run("pods-host", async |lab| {
        let net = lab.open();
        let pod = net.create_pod("uid-h", "host-pod", true).await.expect("a pod");
        assert_eq!((pod.ip, &pod.namespaces.net, &pod.namespaces.uts), (None, &None, &None));
        assert!(pod.namespaces.ipc.exists());
        assert!(!links().iter().any(|name| name.starts_with("edv")));
        net.remove_pod("uid-h").await.expect("removal");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn two_hundred_pods_come_and_go_and_leave_nothing() {
    Lab::run("pods-leak", async |lab| {
        let net = lab.open();
        let run_dir = lab.run_dir().canonicalize().expect("run dir");
        let (before_links, before_mounts) = (links(), mounts(&run_dir));
        let before = lab.files();
        let mut create = Vec::new();
        let mut remove = Vec::new();
        for round in 0..200 {
            let uid = format!("uid-{round}");
            let start = Instant::now();
            net.create_pod(&uid, "leak", false).await.expect("a pod");
            create.push(start.elapsed());
            let start = Instant::now();
            net.remove_pod(&uid).await.expect("removal");
            remove.push(start.elapsed());
            net.remove_pod(&uid).await.expect("a second removal");
        }
        assert_eq!(links(), before_links);
        assert_eq!(mounts(&run_dir), before_mounts);
        let mut after = lab.files();
        after.remove("last-address");
        assert_eq!(after, before);
        assert_eq!(lab::neighbours(), 0);
        create.sort();
        remove.sort();
        println!("create p50 {:?} p99 {:?}", create[100], create[198]);
        println!("remove p50 {:?} p99 {:?}", remove[100], remove[198]);
        net.cleanup().await.expect("cleanup");
        assert!(!links().contains("edge0"));
        assert!(lab.files().is_empty(), "{:?}", lab.files());
    });
}

#[test]
fn fifty_pods_at_once_all_get_addresses_of_their_own() {
    Lab::run("pods-fifty", async |lab| {
        let net = lab.open();
        let start = Instant::now();
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let net = net.clone();
                tokio::spawn(async move { net.create_pod(&format!("u{i}"), "p", false).await })
            })
            .collect();
        let mut seen = BTreeSet::new();
        for task in tasks {
            seen.insert(task.await.expect("a task").expect("a pod").ip);
        }
        println!("50 pods in {:?}", start.elapsed());
        assert_eq!(seen.len(), 50);
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn pods_outlive_edged_and_what_a_crash_left_half_made_is_swept() {
    Lab::run("pods-restart", async |lab| {
        let net = lab.open();
        let kept = net.create_pod("kept", "kept", false).await.expect("a pod");
        net.create_pod("torn", "torn", false).await.expect("a pod");
        net.create_pod("unpinned", "unpinned", false).await.expect("a pod");
        let server = lab::serve(&kept.namespaces, "0.0.0.0:80", "kept");
        drop(net);
        let pods = lab.run_dir().join("pods");
        let record = pods.join("torn/network");
        let text = std::fs::read_to_string(&record).expect("a record");
        std::fs::write(&record, text.replace("\"ready\":true", "\"ready\":false")).expect("write");
        lab::unmount(&pods.join("unpinned/net"));
        std::fs::create_dir(pods.join("empty")).expect("a directory");
        std::fs::create_dir(pods.join("garbage")).expect("a directory");
        std::fs::write(pods.join("garbage/network"), "{\"rea").expect("write");

        let net = lab.open();
        assert_eq!(net.list_pods(), ["kept"]);
        assert_eq!(net.find_pod("kept"), Some(kept.clone()));
        let left: BTreeSet<_> = links().into_iter().filter(|l| l.starts_with("edv")).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(lab.files().iter().filter(|f| f.starts_with("pods/")).count(), 5);
        let address = (kept.ip.expect("an address"), 80);
        assert_eq!(lab::fetch(address), "kept", "traffic after the restart");
        let next = net.create_pod("next", "next", false).await.expect("a pod");
        assert_eq!(next.ip, Some(IpAddr::from([10, 42, 0, 5])), "addresses go round");
        drop(server);
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn the_bridge_is_mended_when_somebody_removed_it() {
    Lab::run("pods-mend", async |lab| {
        let net = lab.open();
        let one = net.create_pod("one", "one", false).await.expect("a pod");
        lab::remove_link("edge0");
        net.create_pod("two", "two", false).await.expect("a pod");
        let _server = lab::serve(&one.namespaces, "0.0.0.0:80", "one");
        assert_eq!(lab::fetch((one.ip.expect("an address"), 80)), "one");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn a_second_edged_is_refused_and_says_who_is_there() {
    Lab::run("pods-second", async |lab| {
        let net = lab.open();
        let same = Net::open(lab.config()).expect_err("the same run directory");
        assert!(matches!(&same, NetError::InUse { .. }), "{same}");
        let mut other = lab.config();
        other.run_dir = lab.run_dir().with_extension("other");
        let refused = Net::open(other.clone()).expect_err("the same bridge");
        assert!(refused.to_string().contains(&lab.run_dir().display().to_string()), "{refused}");
        drop(net);
        let net = Net::open(other.clone()).expect("the first one is gone");
        net.cleanup().await.expect("cleanup");
        std::fs::remove_dir_all(&other.run_dir).expect("remove");
    });
}

#[test]
fn bad_settings_are_refused_in_words() {
    Lab::run("pods-bad", async |lab| {
        let cases: [(&str, &str, &str, &str); 4] = [
            ("10.42.0.0/24", "10.50.0.0/16", "10.43.0.0/16", "within cluster-cidr"),
            ("10.42.0.0/24", "10.42.0.0/16", "10.42.0.0/16", "overlaps cluster-cidr"),
            ("10.42.0.0/24", "10.42.0.0/16", "192.0.2.0/24", "own address 192.0.2.1"),
            ("10.42.0.0/31", "10.42.0.0/16", "10.43.0.0/16", "from 1 to 30"),
        ];
        for (pods, cluster, services, words) in cases {
            let mut config = lab.config();
            config.pod_cidr = pods.to_owned();
            config.cluster_cidr = cluster.to_owned();
            config.service_cidr = services.to_owned();
            let error = Net::open(config).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        let net = lab.open();
        let error = net.create_pod("../../etc", "x", false).await.expect_err("a bad uid");
        assert!(error.to_string().contains("../../etc"), "{error}");
        net.cleanup().await.expect("cleanup");
    });
}

/// Set for the process that is to be killed.
const VICTIM: &str = "EDGED_TEST_VICTIM_RUN_DIR";

/// Makes and removes pods without end; does nothing in an ordinary run of the tests.
#[test]
fn victim() {
    let Ok(run_dir) = std::env::var(VICTIM) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut config = lab::config();
        config.run_dir = run_dir.into();
        let net = Net::open(config).expect("the network opens");
        for round in 0.. {
            let tasks: Vec<_> = (0..4)
                .map(|i| {
                    let net = net.clone();
                    let uid = format!("u{i}");
                    tokio::spawn(async move {
                        net.create_pod(&uid, "victim", (round + i) % 5 == 0).await.expect("a pod");
                        if (round + i) % 3 != 0 {
                            net.remove_pod(&uid).await.expect("removal");
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("a task");
            }
        }
    });
}

#[test]
fn whenever_edged_is_killed_the_next_one_finds_whole_pods_or_none() {
    Lab::run("pods-kill", async |lab| {
        let program = std::env::current_exe().expect("this test");
        for round in 0..20u64 {
            let mut victim = std::process::Command::new(&program)
                .args(["victim", "--exact"])
                .env(VICTIM, lab.run_dir())
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("start");
            std::thread::sleep(std::time::Duration::from_millis(20 + round * 7919 % 60));
            victim.kill().expect("kill");
            victim.wait().expect("wait");
            let net = lab.open();
            let whole = net.list_pods();
            for uid in &whole {
                let pod = net.find_pod(uid).expect("a pod");
                if let Some(ip) = pod.ip {
                    let _server = lab::serve(&pod.namespaces, "0.0.0.0:80", uid);
                    assert_eq!(lab::fetch((ip, 80)), *uid, "round {round}");
                }
                // What listened there ends with the pod's namespace.
                net.remove_pod(uid).await.expect("removal");
            }
            let left: Vec<_> = links().into_iter().filter(|l| l.starts_with("edv")).collect();
            assert!(left.is_empty(), "round {round}: {left:?}");
            let run_dir = lab.run_dir().canonicalize().expect("run dir");
            assert_eq!(mounts(&run_dir), 0, "round {round}");
            let mut files = lab.files();
            files.remove("last-address");
            assert!(files.is_empty(), "round {round}: {files:?}");
        }
        lab.open().cleanup().await.expect("cleanup");
    });
}
