//! NetworkPolicies as the kernel enforces them on one board, and who may say that it is who.

#![allow(clippy::panic)]

mod lab;

use edge_core::policy::{Compiled, Labels, Pod, Policy, Traffic, World};
use edge_node::net::Net;
use edge_node::seams::PodNetwork;
use lab::objects::ip;
use lab::{Lab, in_pod};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const BOARD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PORTS: [u16; 3] = [7001, 7002, 7003];
/// How long something that is dropped is waited for.
const PATIENCE: Duration = Duration::from_millis(250);

fn v4(pod: &PodNetwork) -> Ipv4Addr {
    match ip(pod) {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("an IPv4 address"),
    }
}

/// What the board would enforce for these specs; each pod's label `app` is its uid.
fn compile(net: &Net, specs: &[Value]) -> Compiled {
    let mut world = World::default();
    for (number, spec) in specs.iter().enumerate() {
        let meta = json!({"namespace": "x", "name": format!("p{number}")});
        let mut policy = json!({"metadata": meta, "spec": spec});
        edge_api::kinds::NETWORK_POLICY.default(&mut policy);
        let policy = Policy::read(&policy);
        world.policies.insert((policy.namespace.clone(), policy.name.clone()), policy);
    }
    world.namespaces.insert("x".to_owned(), Labels::new());
    let own = net.pod_addresses();
    for uid in own.keys() {
        let meta = json!({"namespace": "x", "name": uid, "uid": uid, "labels": {"app": uid}});
        let ports = json!([{"ports": [{"name": "second", "containerPort": PORTS[1]}]}]);
        let pod = json!({"metadata": meta, "spec": {"containers": ports}});
        world.pods.insert(uid.clone(), Pod::read(&pod));
    }
    world.compile(&own)
}

async fn apply(net: &Net, specs: &[Value]) -> usize {
    net.apply_policies(Some(compile(net, specs))).await.expect("rules")
}

async fn pod(net: &Net, name: &str) -> PodNetwork {
    let pod = net.create_pod(name, name, false).await.expect("a pod");
    for port in PORTS {
        in_pod(&pod.namespaces, move || listen(Ipv4Addr::UNSPECIFIED, port));
    }
    pod
}

/// Answers every connection with its own words; sends `tick` for ever once it has read some.
fn listen(address: Ipv4Addr, port: u16) {
    let listener = TcpListener::bind((address, port)).expect("listen");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            std::thread::spawn(move || {
                let mut word = [0; 16];
                while let Ok(1..) = stream.read(&mut word) {
                    if stream.write_all(b"tick").is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn reaches(to: Ipv4Addr, port: u16) -> bool {
    match TcpStream::connect_timeout(&SocketAddr::new(to.into(), port), PATIENCE) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::TimedOut => false,
        Err(error) => panic!("{to}:{port}: {error}"),
    }
}

fn from_app(app: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}})
}

fn about(app: &str, more: Value) -> Value {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    spec
}

/// Several policies at once, and what the kernel makes of them for everybody at every port must
/// be what the table says.
#[test]
fn the_kernel_judges_as_the_table_says() {
    Lab::run("policy-judge", async |lab| {
        let net = lab.open();
        let (web, friend, foe) =
            (pod(&net, "web").await, pod(&net, "friend").await, pod(&net, "foe").await);
        lab.outside(|| PORTS.into_iter().for_each(|port| listen(OUTSIDE, port)));
        PORTS.into_iter().for_each(|port| listen(BOARD, port));
        let block =
            |cidr: &str, except: &[&str]| json!({"ipBlock": {"cidr": cidr, "except": except}});
        let sets: Vec<Vec<Value>> = vec![
            vec![about("web", json!({}))],
            vec![about(
                "web",
                json!({"ingress": [{"from": [from_app("friend")],
                "ports": [{"port": 7001, "endPort": 7002}]}]}),
            )],
            vec![
                about("web", json!({"ingress": [{"ports": [{"port": "second"}]}]})),
                about(
                    "web",
                    json!({"ingress": [{"from": [block("192.0.2.0/24", &[])],
                    "ports": [{"port": 7003}, {"port": 7003, "protocol": "UDP"}]}]}),
                ),
                about("foe", json!({"policyTypes": ["Egress"]})),
            ],
            vec![about(
                "foe",
                json!({"egress": [
                {"to": [block("0.0.0.0/0", &["10.42.0.0/16", "192.0.2.1/32"])]},
                {"to": [from_app("web")], "ports": [{"port": 7003, "endPort": 65535}]}]}),
            )],
            vec![about("web", json!({"ingress": [{}], "egress": [{}]}))],
        ];
        let all = [v4(&web), v4(&friend), v4(&foe), OUTSIDE, BOARD];
        for specs in sets {
            let compiled = compile(&net, &specs);
            net.apply_policies(Some(compiled.clone())).await.expect("rules");
            let seen = |from: Ipv4Addr| {
                let work = move || {
                    let tries = all.iter().flat_map(|to| PORTS.map(|port| (*to, port)));
                    let threads: Vec<_> = tries
                        .map(|(to, port)| {
                            let ask = std::thread::spawn(move || reaches(to, port));
                            (to, port, ask)
                        })
                        .collect();
                    let done = threads.into_iter();
                    done.map(|(to, port, ask)| (to, port, ask.join().expect("asked")))
                        .collect::<Vec<_>>()
                };
                match [&web, &friend, &foe].into_iter().find(|pod| v4(pod) == from) {
                    Some(pod) => in_pod(&pod.namespaces, work),
                    None => lab.outside(work),
                }
            };
            for from in [v4(&web), v4(&friend), v4(&foe), OUTSIDE] {
                for (to, port, reached) in seen(from) {
                    let want = compiled.rules.allow(from, to, Traffic::new(6, port));
                    assert_eq!(reached, want, "{from} -> {to}:{port} with {specs:#?}");
                }
            }
            // The board's kubelet reaches its pods whatever anybody says.
            assert!(reaches(v4(&web), 7001));
        }
        assert_eq!(net.apply_policies(None).await.expect("gone"), 0);
        assert!(!lab::nft("list table ip edged-policy"), "nothing is left");
        net.cleanup().await.expect("cleanup");
        assert!(!lab::nft("list table bridge edged"), "nothing is left");
    });
}

#[test]
fn rules_stand_without_edged_and_are_taken_over() {
    Lab::run("policy-restart", async |lab| {
        let net = lab.open();
        let (web, foe) = (pod(&net, "web").await, pod(&net, "foe").await);
        let specs = [about(
            "web",
            json!({"ingress": [{"from": [from_app("friend"),
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "10.9.0.0/16"]}}],
                "ports": [{"port": 7001, "endPort": 65535}, {"protocol": "UDP"}]}, {
                "from": [from_app("friend")]}]}),
        )];
        apply(&net, &specs).await;
        let before = net.rules_generation().expect("a number");
        drop(net);
        let to = v4(&web);
        let blocked = move || !reaches(to, 7001);
        assert!(in_pod(&foe.namespaces, blocked), "while edged is away");
        let net = lab.open();
        assert!(net.holds_pods());
        apply(&net, &specs).await;
        assert_eq!(net.rules_generation().expect("a number"), before, "all was right");
        assert!(in_pod(&foe.namespaces, blocked));
        // Somebody flushes everything: the next look puts it back.
        assert!(lab::nft("flush ruleset"));
        assert!(in_pod(&foe.namespaces, move || reaches(to, 7001)));
        apply(&net, &specs).await;
        assert!(in_pod(&foe.namespaces, blocked));
    });
}

#[test]
fn a_new_pod_talks_to_nobody_until_it_is_judged() {
    Lab::run("policy-held", async |lab| {
        let net = lab.open();
        let old = pod(&net, "old").await;
        net.hold_pods(true);
        let new = pod(&net, "new").await;
        let (of_old, of_new) = (v4(&old), v4(&new));
        assert!(in_pod(&new.namespaces, move || !reaches(of_old, 7001)));
        assert!(in_pod(&old.namespaces, move || !reaches(of_new, 7001)));
        assert!(reaches(of_new, 7001), "the board itself");
        // What was planned before the pod was there does not let it go, nor does a restart.
        let mut early = compile(&net, &[about("nobody", json!({}))]);
        early.judged.remove(&of_new);
        net.apply_policies(Some(early.clone())).await.expect("rules");
        assert!(in_pod(&new.namespaces, move || !reaches(of_old, 7001)));
        drop(net);
        let net = lab.open();
        net.apply_policies(Some(early)).await.expect("rules");
        assert!(in_pod(&new.namespaces, move || !reaches(of_old, 7001)));
        apply(&net, &[about("nobody", json!({}))]).await;
        assert!(in_pod(&new.namespaces, move || reaches(of_old, 7001)));
        assert!(in_pod(&old.namespaces, move || reaches(of_new, 7001)));
        let third = pod(&net, "third").await;
        assert!(in_pod(&third.namespaces, move || !reaches(of_old, 7001)), "held as well");
        net.apply_policies(None).await.expect("gone");
        assert!(in_pod(&third.namespaces, move || reaches(of_old, 7001)));
    });
}

#[test]
fn after_an_update_a_new_pod_waits_while_others_stay_kept() {
    Lab::run("policy-update", async |lab| {
        let net = lab.open();
        drop(net);
        // As an edged of another version might have left it.
        assert!(lab::nft("add table ip edged-policy { comment \"edged, policies 0123\"; }"));
        assert!(lab::nft("add chain ip edged-policy theirs"));
        let net = lab.open();
        let why = net.create_pod("early", "early", false).await.expect_err("too early");
        assert!(why.to_string().contains("not known yet"), "{why}");
        assert!(lab::nft("list chain ip edged-policy theirs"), "what stood still stands");
        apply(&net, &[]).await;
        assert!(!lab::nft("list chain ip edged-policy theirs"));
        pod(&net, "early").await;
    });
}

#[test]
fn a_connection_that_is_forbidden_later_is_cut() {
    Lab::run("policy-cut", async |lab| {
        let net = lab.open();
        let (web, friend) = (pod(&net, "web").await, pod(&net, "friend").await);
        let to = v4(&web);
        let open = || {
            in_pod(&friend.namespaces, move || {
                let stream = TcpStream::connect((to, 7001)).expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                stream
            })
        };
        let alive = |stream: &mut TcpStream| {
            let mut word = [0; 16];
            stream.write_all(b"tock").is_ok() && matches!(stream.read(&mut word), Ok(1..))
        };
        let mut stream = open();
        assert!(alive(&mut stream));
        let allow = about("web", json!({"ingress": [{"from": [from_app("friend")]}]}));
        assert_eq!(apply(&net, std::slice::from_ref(&allow)).await, 0, "it is still allowed");
        assert!(alive(&mut stream));
        assert_eq!(apply(&net, &[about("web", json!({}))]).await, 1);
        assert!(!alive(&mut stream));
        // What is left of it, from either side, is no new connection.
        apply(&net, std::slice::from_ref(&allow)).await;
        let mut fresh = open();
        assert!(alive(&mut fresh));
        let egress = about("friend", json!({"policyTypes": ["Egress"]}));
        assert_eq!(apply(&net, &[allow, egress]).await, 1, "now by its client's policy");
        assert!(!alive(&mut fresh));
    });
}

/// Sends a datagram from an address that the namespace takes for itself.
fn send(from: Ipv4Addr, device: &str, to: Ipv4Addr) {
    lab::ip(&format!("addr replace {from}/32 dev {device}"));
    let socket = UdpSocket::bind((from, 0)).expect("a socket");
    socket.send_to(b"!", (to, 9)).expect("sent");
    lab::ip(&format!("addr del {from}/32 dev {device}"));
}

#[test]
fn nobody_sends_with_an_address_that_is_not_its_own() {
    Lab::run("policy-spoof", async |lab| {
        let net = lab.open();
        assert!(net.warnings().is_empty(), "{:?}", net.warnings());
        let (victim, rogue) = (pod(&net, "victim").await, pod(&net, "rogue").await);
        let (to, own, other) = (v4(&victim), v4(&rogue), Ipv4Addr::new(10, 42, 0, 77));
        let heard = in_pod(&victim.namespaces, || UdpSocket::bind("0.0.0.0:9").expect("a socket"));
        // What has to come may take its time on a busy machine; only what must not is waited for.
        heard.set_read_timeout(Some(PATIENCE * 20)).expect("a socket");
        let next = || heard.recv_from(&mut [0; 8]).ok().map(|(_, from)| from.ip());
        in_pod(&rogue.namespaces, move || {
            let socket = UdpSocket::bind((own, 0)).expect("a socket");
            socket.send_to(b"!", (to, 9)).expect("sent");
        });
        assert_eq!(next(), Some(own.into()), "its own address");
        heard.set_read_timeout(Some(PATIENCE)).expect("a socket");
        in_pod(&rogue.namespaces, move || send(other, "eth0", to));
        assert_eq!(next(), None, "another pod's address");
        // Past the board, straight to the neighbour on the bridge.
        in_pod(&rogue.namespaces, move || {
            let [a, b, c, d] = to.octets();
            let mac = format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
            lab::ip(&format!("neigh replace {to} lladdr {mac} dev eth0 nud permanent"));
            lab::ip(&format!("route replace {to} dev eth0"));
            let socket = UdpSocket::bind((own, 0)).expect("a socket");
            socket.send_to(b"!", (to, 9)).expect("sent");
        });
        assert_eq!(next(), None, "past the board");
        for (spoofed, heard) in [
            (Ipv4Addr::new(198, 51, 100, 7), true),
            (Ipv4Addr::new(10, 43, 0, 10), false),
            (other, false),
            (Ipv4Addr::new(10, 42, 9, 9), false),
        ] {
            lab.outside(move || send(spoofed, "lo", to));
            assert_eq!(next(), heard.then_some(spoofed.into()), "{spoofed} from the LAN");
        }
        // Another board's pods come by the link that leads to them, and by no other.
        lab::ip("route add 10.42.9.0/24 via 192.0.2.2 dev lan0");
        let remote = Ipv4Addr::new(10, 42, 9, 9);
        lab.outside(move || send(remote, "lo", to));
        assert_eq!(next(), Some(remote.into()));
    });
}

/// Many policies and pods of the whole cluster: one pod more is a few elements.
#[test]
fn one_pod_among_thousands_changes_quickly() {
    Lab::run("policy-many", async |lab| {
        let net = lab.open();
        let web = net.create_pod("web", "web", false).await.expect("a pod");
        for (pods, policies) in [(10, 2), (1000, 50), (4000, 200)] {
            let mut world = World::default();
            world.namespaces.insert("x".to_owned(), Labels::new());
            let pod = |uid: &str, app: usize, address: Option<Ipv4Addr>| {
                let labels = json!({"app": format!("a{app}"), "web": "yes"});
                let meta = json!({"namespace": "x", "name": uid, "uid": uid, "labels": labels});
                Pod { address, ..Pod::read(&json!({"metadata": meta})) }
            };
            world.pods.insert("web".to_owned(), pod("web", 0, None));
            for n in 0..pods {
                let number = 0x0a2a_0100 + u32::try_from(n).expect("small");
                let uid = format!("pod-{n}");
                let made = pod(&uid, n % policies, Some(Ipv4Addr::from(number)));
                world.pods.insert(uid, made);
            }
            for n in 0..policies {
                let from = json!({"podSelector": {"matchLabels": {"app": format!("a{n}")}}});
                let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"],
                    "ingress": [{"from": [from],
                        "ports": [{"protocol": "TCP", "port": 1000 + n}]}]});
                let meta = json!({"namespace": "x", "name": format!("p{n}")});
                let policy = Policy::read(&json!({"metadata": meta, "spec": spec}));
                world.policies.insert(("x".to_owned(), policy.name.clone()), policy);
            }
            let own = net.pod_addresses();
            let begin = std::time::Instant::now();
            net.apply_policies(Some(world.compile(&own))).await.expect("rules");
            let all = begin.elapsed();
            let (mut compile, mut change) = (Vec::new(), Vec::new());
            for round in 0..10 {
                let uid = format!("late-{round}");
                let made = pod(&uid, 1, Some(Ipv4Addr::new(10, 42, 99, 2 + round)));
                world.pods.insert(uid, made);
                let begin = std::time::Instant::now();
                let compiled = world.compile(&own);
                compile.push(begin.elapsed());
                let begin = std::time::Instant::now();
                net.apply_policies(Some(compiled)).await.expect("rules");
                change.push(begin.elapsed());
            }
            compile.sort();
            change.sort();
            println!(
                "{pods} pods, {policies} policies: {all:?}; one pod more: table {:?}, kernel {:?}",
                compile[5], change[5]
            );
        }
        drop(web);
    });
}
