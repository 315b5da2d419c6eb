//! NetworkPolicies by packets: every recipe on two boards, each way of everybody to everybody
//! against what the table says; new pods, cut connections, and boards without their agent.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use edge_api::Object;
use edge_api::kinds::{EVENT, NETWORK_POLICY, POD};
use edge_client::{Client, DeleteParams, ListParams, WriteParams};

use super::cluster::Cluster;
use super::load::{clients, runtime};
use super::policy_model::{Model, manifest};
use super::policy_probes::{Listener, PATIENCE, answers};
use super::policy_recipes::{DNS, NAMESPACES, OUTSIDE, PODS, PORTS, RECIPES, Way, What};
use super::traffic_places::Place;
use crate::board::command::until;

/// The cluster and its cast.
struct Stage {
    cluster: Cluster,
    places: BTreeMap<String, Place>,
    addresses: BTreeMap<String, Ipv4Addr>,
    /// The policies that there are, by namespace and name.
    there: Vec<(String, String)>,
    count: usize,
    _listeners: Vec<Listener>,
}

impl Stage {
    fn start() -> Stage {
        let cluster = Cluster::start(1, 1);
        cluster.load_example();
        let mut text = String::new();
        for (name, labels) in NAMESPACES {
            text += &format!(
                "apiVersion: v1\nkind: Namespace\n\
                 metadata: {{name: {name}, labels: {{{labels}}}}}\n---\n"
            );
        }
        for pod in PODS {
            let mut pod = manifest(pod, &cluster.boards[pod.2].name);
            pod["metadata"].as_object_mut().expect("metadata").remove("uid");
            text += &format!("{pod}\n---\n");
        }
        let file = cluster.file("cast.yaml", text);
        cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
        let mut stage = Stage {
            places: BTreeMap::from([(
                OUTSIDE.to_owned(),
                Place::new(OUTSIDE, cluster.person.path()),
            )]),
            addresses: BTreeMap::new(),
            cluster,
            there: Vec::new(),
            count: 0,
            _listeners: Vec::new(),
        };
        stage.gather();
        stage
    }

    /// Finds where everybody is, once they run.
    fn gather(&mut self) {
        let person = super::board::address(super::cluster::PERSON);
        self.addresses.insert(OUTSIDE.to_owned(), person);
        for (full, _, board, _) in PODS {
            let (namespace, name) = full.split_once('/').expect("a name");
            let pod = until(&format!("{full} runs"), || {
                let pod = self.api(async |client| client.get(POD, namespace, name).await);
                let pod = pod.map_err(|error| error.to_string())?;
                let runs = pod["status"]["phase"] == "Running";
                if runs { Ok(pod) } else { Err(pod["status"].to_string()) }
            });
            let text = |value: &Object| value.as_str().unwrap_or_default().to_owned();
            let board = &self.cluster.boards[board];
            let pins = board.dir.join("run1/pods").join(text(&pod["metadata"]["uid"]));
            let place = Place::new(full, pins.join("net"));
            let ip = text(&pod["status"]["podIP"]).parse().expect("an address");
            self.places.insert(full.to_owned(), place);
            self.addresses.insert(full.to_owned(), ip);
        }
        // As a router would, the host beside the boards knows where each pod is.
        for (full, _, board, _) in PODS {
            let (pod, board) = (self.addresses[full], self.cluster.boards[board].ip);
            self.cluster.person.ip(&format!("route add {pod}/32 via {board}\n"));
        }
        self._listeners = self.places.values().map(Listener::start).collect();
    }

    fn api<T>(&self, ask: impl AsyncFnOnce(&Client) -> T + Send) -> T
    where
        T: Send,
    {
        let client = clients(&self.cluster).remove(0);
        self.cluster.person.within(|| runtime().block_on(ask(&client)))
    }

    /// Puts these policies in the place of those that there are.
    fn apply(&mut self, policies: &[Object]) {
        let old = std::mem::take(&mut self.there);
        let key = |policy: &Object| {
            let text = |field: &str| policy["metadata"][field].as_str().expect("text").to_owned();
            (text("namespace"), text("name"))
        };
        self.there = policies.iter().map(key).collect();
        self.api(async |client| {
            for policy in policies {
                let (namespace, _) = key(policy);
                let params = WriteParams::default();
                client.create(NETWORK_POLICY, &namespace, policy, &params).await.expect("created");
            }
            for (namespace, name) in &old {
                let params = DeleteParams::default();
                client.delete(NETWORK_POLICY, namespace, name, &params).await.expect("deleted");
            }
        });
    }

    /// Every way of everybody, and whether there is an answer.
    fn ways(&self) -> BTreeMap<Way, bool> {
        let threads: Vec<_> = self
            .places
            .values()
            .cloned()
            .map(|place| {
                let mut ways: Vec<(Way, Ipv4Addr)> = Vec::new();
                let kinds = [What::Tcp(PORTS[0]), What::Tcp(PORTS[1]), What::Udp(PORTS[0])];
                for (to, address) in &self.addresses {
                    for what in kinds.into_iter().filter(|_| *to != place.name) {
                        ways.push(((place.name.clone(), to.clone(), what), *address));
                    }
                }
                if place.name != OUTSIDE {
                    ways.push(((place.name.clone(), "dns".to_owned(), What::Name), DNS));
                }
                std::thread::spawn(move || {
                    place.enter();
                    let asked = ways.into_iter().map(|(way, to)| {
                        let what = way.2;
                        (way, std::thread::spawn(move || answers(what, to)))
                    });
                    let asked: Vec<_> = asked.collect();
                    asked.into_iter().map(|(way, t)| (way, t.join().expect("asked"))).collect()
                })
            })
            .collect();
        let all = threads
            .into_iter()
            .flat_map(|thread| -> Vec<(Way, bool)> { thread.join().expect("no panic") });
        all.collect()
    }

    /// Waits until packets do what the table says, everywhere. Answers how many ways there are.
    fn settle(&self, what: &str, policies: &[Object]) -> usize {
        self.settle_with(what, policies, true)
    }

    fn settle_with(&self, what: &str, policies: &[Object], names: bool) -> usize {
        let model = Model::new(&self.addresses, policies);
        until(&format!("packets do what {what:?} says"), || {
            let ways = self.ways();
            let wrong: Vec<_> =
                // Names are answered by edged itself.
                ways.iter()
                    .filter(|(way, _)| names || way.2 != What::Name)
                    .filter(|(way, seen)| model.allows(way) != **seen)
                    .collect();
            if wrong.is_empty() { Ok(ways.len()) } else { Err(format!("{wrong:?}")) }
        })
    }

    /// A connection that stays open.
    fn connect(&self, from: &str, to: &str) -> TcpStream {
        let (place, to) = (self.places[from].clone(), self.addresses[to]);
        let open = std::thread::spawn(move || {
            place.enter();
            let stream = TcpStream::connect((IpAddr::from(to), PORTS[0])).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE * 4)).expect("a socket");
            stream
        });
        open.join().expect("a connection")
    }
}

fn alive(stream: &mut TcpStream) -> bool {
    stream.write_all(b"!").is_ok() && matches!(stream.read(&mut [0; 16]), Ok(1..))
}

#[test]
fn every_recipe_does_on_two_boards_what_its_words_say() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let begin = Instant::now();
    let mut stage = Stage::start();
    let started = begin.elapsed();
    stage.settle("nothing at all", &[]);
    let mut kept = stage.connect("x/client", "x/web");
    assert!(alive(&mut kept));
    let mut slowest = (Duration::ZERO, "");
    for recipe in RECIPES {
        stage.count += 1;
        let policies = recipe.objects(&format!("r{}", stage.count));
        let at = Instant::now();
        stage.apply(&policies);
        stage.settle(recipe.name, &policies);
        slowest = slowest.max((at.elapsed(), recipe.name));
        if stage.count == 1 {
            assert!(!alive(&mut kept), "what was open before is cut");
        }
    }
    let took = begin.elapsed();
    println!("{} recipes in {took:?} (start {started:?}), slowest {slowest:?}", RECIPES.len());

    unknown_names_are_told(&stage);
    new_pods_start_behind_a_closed_door(&mut stage);
    rules_outlive_edged(&mut stage);
    stage.apply(&[]);
    stage.settle("nothing at all, again", &[]);
    a_board_alone_knows_what_it_was_told(&mut stage);
    println!("all of it took {:?}", begin.elapsed());
}

/// A rule that names a port in vain says so, on the policy.
fn unknown_names_are_told(stage: &Stage) {
    let events = until("the event is there", || {
        let list = stage.api(async |client| client.list(EVENT, "x", &ListParams::default()).await);
        let items = list.map_err(|error| error.to_string())?.items;
        let told = items.into_iter().filter(|event| event["reason"] == "UnknownPortName");
        let told: Vec<Object> = told.collect();
        if told.is_empty() { Err("no such event".to_owned()) } else { Ok(told) }
    });
    let about = &events[0]["involvedObject"];
    assert_eq!(about["kind"], "NetworkPolicy", "{events:#?}");
    assert_eq!(about["apiVersion"], "networking.k8s.io/v1", "{events:#?}");
    let message = events[0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("\"metrics\""), "{message}");
}

/// A pod sends from its first moment on; none of it gets out where its policy forbids it.
fn new_pods_start_behind_a_closed_door(stage: &mut Stage) {
    let deny: Object = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "x", "name": "quiet"},
        "spec": {"podSelector": {"matchLabels": {"app": "eager"}}, "policyTypes": ["Egress"]},
    });
    stage.apply(std::slice::from_ref(&deny));
    stage.settle("an eager pod is to be quiet", std::slice::from_ref(&deny));
    let socket = stage.cluster.person.within(|| UdpSocket::bind(("0.0.0.0", 7009)));
    let socket = socket.expect("listen outside");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let pod = |name: &str, app: &str| {
        let mut pod = manifest(("x/eager", "app: eager", 1, 1), &stage.cluster.boards[1].name);
        pod["metadata"] =
            serde_json::json!({"namespace": "x", "name": name, "labels": {"app": app}});
        pod
    };
    let run = |name: &'static str, app: &str| {
        let made = pod(name, app);
        let params = WriteParams::default();
        stage.api(async |c| c.create(POD, "x", &made, &params).await.expect("created"));
        let uid = until("the pod is made", || {
            let pod = stage.api(async |client| client.get(POD, "x", name).await);
            let pod = pod.map_err(|error| error.to_string())?;
            Ok(pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
        });
        // It talks as soon as there is a network to talk by, long before its first container.
        let net = stage.cluster.boards[1].dir.join("run1/pods").join(uid).join("net");
        let person = super::board::address(super::cluster::PERSON);
        let from = Instant::now();
        while from.elapsed() < Duration::from_secs(3) {
            let place = Place::new(name, &net);
            let sent = std::thread::spawn(move || {
                let Ok(file) = std::fs::File::open(&place.namespace) else { return false };
                let flags = nix::sched::CloneFlags::CLONE_NEWNET;
                if nix::sched::setns(file, flags).is_err() {
                    return false;
                }
                let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
                (0..20).filter(|_| socket.send_to(b"!", (person, 7009)).is_ok()).count() > 0
            });
            if sent.join().expect("no panic") && from.elapsed() > Duration::from_millis(700) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{name} never had a network");
    };
    run("eager", "eager");
    assert!(socket.recv(&mut [0; 8]).is_err(), "something got out");
    run("calm", "calm");
    assert!(socket.recv(&mut [0; 8]).is_ok(), "a pod that nobody is about talks");
}

/// While edged is away its rules stand, and nobody gets through while it starts.
fn rules_outlive_edged(stage: &mut Stage) {
    let recipe = RECIPES.iter().find(|r| r.name == "allow by label").expect("a recipe");
    let policies = recipe.objects("last");
    stage.apply(&policies);
    stage.settle("allow by label, again", &policies);
    stage.cluster.boards[1].kill();
    stage.settle_with("nothing changes while an agent is away", &policies, false);
    stage.cluster.boards[1].spawn();
    for _ in 0..3 {
        let model = Model::new(&stage.addresses, &policies);
        let open = stage.ways().into_iter().filter(|(way, seen)| *seen && !model.allows(way));
        assert_eq!(open.count(), 0, "while an agent starts, nobody gets through");
    }
    stage.settle("after it is back", &policies);
}

/// A board that boots with no server in reach goes by what it was last told.
fn a_board_alone_knows_what_it_was_told(stage: &mut Stage) {
    let recipe = RECIPES.iter().find(|r| r.name == "no rule is nobody").expect("a recipe");
    let policies = recipe.objects("alone");
    stage.apply(&policies);
    stage.settle(recipe.name, &policies);
    stage.cluster.boards[0].kill();
    stage._listeners.clear();
    let board = &stage.cluster.boards[1];
    board.reboot();
    let again = |full: &str| {
        let pins = stage.places[full].namespace.parent().expect("a directory");
        let dir = board.dir.join("run2/pods").join(pins.file_name().expect("a uid"));
        let ip = until(&format!("{full} has a network again"), || {
            let text = std::fs::read_to_string(dir.join("network")).map_err(|e| e.to_string())?;
            let record: Object = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            let ip = record["ip"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
            ip.filter(|_| record["ready"] == true).ok_or(text)
        });
        (Place::new(full, dir.join("net")), ip)
    };
    let [db, client, web] = ["x/db", "x/client", "y/web"].map(again);
    let _listeners = [&db, &client, &web].map(|(place, _)| Listener::start(place));
    let reaches = |from: &(Place, Ipv4Addr), to: &(Place, Ipv4Addr)| {
        let (place, to) = (from.0.clone(), to.1);
        let asked = std::thread::spawn(move || {
            place.enter();
            answers(What::Tcp(PORTS[0]), to)
        });
        asked.join().expect("no panic")
    };
    until("who is open is reached", || {
        assert!(!reaches(&client, &db) && !reaches(&web, &db), "the closed pod was open");
        let open = reaches(&web, &client) && reaches(&db, &web);
        if open { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert!(!reaches(&client, &db) && !reaches(&web, &db), "the closed pod was open");
}
