//! The tables kept up event by event are those made of everything, after any events.

use super::super::*;
use super::any_cluster::{Chance, realise};
use super::{elements, service, slice};
use crate::proxy::lens::announced;
use serde_json::{Value, json};

/// Everything, as a list would say it.
#[derive(Default)]
struct All {
    services: BTreeMap<Name, Object>,
    slices: BTreeMap<Name, Object>,
    pods: BTreeMap<Front, Route>,
}

impl All {
    fn tables(&self) -> Tables {
        let mut tables = Tables::gather(self.services.values(), self.slices.values(), "a");
        for (front, route) in &self.pods {
            tables.routes.entry(*front).or_insert_with(|| route.clone());
        }
        tables
    }
}

fn own(ip: Ipv4Addr) -> bool {
    ip.octets()[..3] == [10, 42, 0]
}

fn name(object: &Object) -> Name {
    let meta = &object["metadata"];
    let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn pick<'a>(chance: &mut Chance, words: &[&'a str]) -> &'a str {
    words[usize::try_from(chance.below(words.len() as u64)).expect("small")]
}

fn number(chance: &mut Chance, from: u64, count: u64) -> u64 {
    from + chance.below(count)
}

/// A Service that claims what others may claim as well, and sometimes makes no sense.
fn any_service(chance: &mut Chance) -> Object {
    let kind = ["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"];
    let policy = ["Local", "Cluster"];
    let ports: Vec<Value> = (0..chance.below(3))
        .map(|_| {
            json!({"name": pick(chance, &["", "b"]), "port": number(chance, 80, 2),
                   "protocol": pick(chance, &["TCP", "UDP", "SCTP", "none"]),
                   "nodePort": number(chance, 30000, 3)})
        })
        .collect();
    let ranges = ["10.0.0.0/16", "10.1.0.0/16", "0.0.0.0/0"];
    let ranges: Vec<&str> = (0..chance.below(3)).map(|_| pick(chance, &ranges)).collect();
    let mut object = service(
        &format!("s{}", chance.below(7)),
        json!({
            "type": pick(chance, &kind), "ports": ports,
            "clusterIP": pick(chance, &["10.43.0.1", "10.43.0.2", "10.43.0.3", "None"]),
            "externalIPs": [format!("192.0.2.{}", chance.below(3))],
            "loadBalancerSourceRanges": ranges,
            "internalTrafficPolicy": pick(chance, &policy),
            "externalTrafficPolicy": pick(chance, &policy),
            "healthCheckNodePort": number(chance, 31000, 2),
            "publishNotReadyAddresses": chance.below(5) == 0,
            "sessionAffinity": pick(chance, &["ClientIP", "None"]),
        }),
    );
    object["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": format!("192.0.2.{}", chance.below(4))}]}});
    let meta = &mut object["metadata"];
    meta["creationTimestamp"] = format!("2026-01-0{}T00:00:00Z", number(chance, 1, 3)).into();
    if chance.flag() {
        meta["annotations"] = json!({ANNOUNCED_BY: pick(chance, &["", "a", "b"])});
    }
    if chance.below(9) == 0 {
        meta["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    }
    object
}

/// A slice of some Service, which may be there or not, and another one's tomorrow.
fn any_slice(chance: &mut Chance) -> Object {
    let endpoints: Vec<Value> = (0..chance.below(5))
        .map(|_| {
            json!({
                "addresses": [format!("10.42.{}.{}", chance.below(2), chance.below(4))],
                "nodeName": pick(chance, &["a", "b"]),
                "conditions": {"ready": chance.flag(), "serving": chance.flag(),
                               "terminating": chance.flag()},
            })
        })
        .collect();
    let ports: Vec<Value> = (0..number(chance, 1, 2))
        .map(|_| {
            json!({"name": pick(chance, &["", "b"]), "port": number(chance, 8000, 2),
                   "protocol": pick(chance, &["TCP", "UDP"])})
        })
        .collect();
    let mut object = slice(&format!("s{}", chance.below(8)), ports.into(), endpoints.into());
    object["metadata"]["name"] = format!("x{}", chance.below(9)).into();
    match chance.below(12) {
        0 => object["addressType"] = "IPv6".into(),
        1 => object["metadata"]["labels"] = Value::Null,
        _ => {}
    }
    object
}

fn any_pods(chance: &mut Chance) -> BTreeMap<Front, Route> {
    let some = (0..chance.below(4)).map(|_| {
        let port = u16::try_from(number(chance, 30000, 4)).expect("a port");
        let target = Target { address: Ipv4Addr::new(10, 42, 0, 3), port };
        let choice = Choice::Spread(vec![target]);
        let (inside, outside) = (choice.clone(), choice);
        let name = format!("default/p{}:hostPort {port}", chance.below(2));
        let front = Front { address: None, protocol: Protocol::Tcp, port };
        (front, Route { name, inside, outside, affinity_seconds: None })
    });
    some.collect()
}

/// One event, told to both.
fn happen(chance: &mut Chance, all: &mut All, live: &mut Live) {
    match chance.below(20) {
        0..7 => {
            let service = any_service(chance);
            all.services.insert(name(&service), service.clone());
            live.set_service(service);
        }
        7..14 => {
            let slice = any_slice(chance);
            all.slices.insert(name(&slice), slice.clone());
            live.set_slice(slice);
        }
        14..16 => {
            let gone = ("default".to_owned(), format!("s{}", chance.below(7)));
            all.services.remove(&gone);
            live.remove_service(&gone);
        }
        16..18 => {
            let gone = ("default".to_owned(), format!("x{}", chance.below(9)));
            all.slices.remove(&gone);
            live.remove_slice(&gone);
        }
        18 => {
            all.pods = any_pods(chance);
            live.set_pods(all.pods.clone());
        }
        _ => relist(chance, all, live),
    }
}

/// A list says what became of everything meanwhile.
fn relist(chance: &mut Chance, all: &mut All, live: &mut Live) {
    all.services.retain(|_, _| chance.below(4) > 0);
    all.slices.retain(|_, _| chance.below(4) > 0);
    for _ in 0..chance.below(3) {
        let (service, slice) = (any_service(chance), any_slice(chance));
        all.services.insert(name(&service), service);
        all.slices.insert(name(&slice), slice);
    }
    live.set_services(all.services.values().cloned().collect());
    live.set_slices(all.slices.values().cloned().collect());
}

#[test]
fn for_any_events_a_patch_leads_to_what_everything_makes() {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let (mut all, mut live) = (All::default(), Live::new("a"));
    let (mut kernel, mut hairpins) = (Elements::default(), Hairpins::default());
    let mut before = Tables::default();
    let (mut patched, mut clashed) = (0, 0);
    for round in 0..6000 {
        for _ in 0..=chance.below(3) {
            happen(&mut chance, &mut all, &mut live);
        }
        let (tables, patch) = (all.tables(), live.patch());
        assert_eq!(live.tables(), tables, "round {round}");
        assert_eq!(live.announced(), announced(all.services.values()), "round {round}");
        assert!(patch.health || before.health == tables.health, "round {round}");
        let mut clashes: Vec<Clash> = tables.clashes.difference(&before.clashes).cloned().collect();
        let mut said = patch.clashes.clone();
        clashes.sort();
        said.sort();
        assert_eq!(said, clashes, "round {round}");
        let mut change = kernel.change(&patch);
        hairpins.follow(&mut change, own);
        let read = realise(&kernel, &change);
        kernel.apply(&change);
        assert_eq!(kernel, elements(&tables), "round {round}");
        assert_eq!(read.as_ref(), Some(&kernel), "round {round}");
        assert_eq!(hairpins, Hairpins::of(&kernel, own), "round {round}");
        (patched, clashed) = (patched + change.len(), clashed + tables.clashes.len());
        before = tables;
    }
    assert!(patched > 10_000 && clashed > 1000, "{patched} {clashed}: nothing was tried");
    assert_eq!(live.patch(), Patch::default(), "nothing happened");
}

#[test]
fn what_is_told_again_changes_nothing_and_one_slice_touches_its_services_fronts() {
    let mut live = Live::new("a");
    let web = |n: u64| {
        let address = format!("10.43.0.{n}");
        service(&format!("s{n}"), json!({"clusterIP": address, "ports": [{"port": 80}]}))
    };
    let pods = |n: u64, last: u64| {
        let ports = json!([{"port": 8080, "protocol": "TCP"}]);
        slice(&format!("s{n}"), ports, json!([{"addresses": [format!("10.42.0.{last}")]}]))
    };
    live.set_services((0..100).map(web).collect());
    live.set_slices((0..100).map(|n| pods(n, 1)).collect());
    assert_eq!(live.patch().fronts.len(), 100);
    live.set_services((0..100).map(web).collect());
    live.set_slice(pods(7, 1));
    assert_eq!(live.patch(), Patch::default());
    live.set_slice(pods(7, 2));
    let patch = live.patch();
    assert_eq!(patch.fronts.len(), 1);
    let (route, _) = patch.fronts.values().next().and_then(Option::as_ref).expect("a route");
    assert_eq!(route.name, "default/s7:");
}
