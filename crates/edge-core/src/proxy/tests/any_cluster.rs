//! What must hold of tables, elements and changes for any cluster.

use super::super::*;
use super::{elements, gather, service, slice};
use serde_json::{Value, json};

/// A small pseudo-random source, so that the cases are many and the same each time.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(super) fn flag(&mut self) -> bool {
        self.below(2) == 0
    }
}

fn random_cluster(chance: &mut Chance) -> (Vec<Object>, Vec<Object>) {
    let mut services = Vec::new();
    let mut slices = Vec::new();
    let kinds = ["NodePort", "ClusterIP", "LoadBalancer"];
    for i in 0..chance.below(6) {
        let policy = |yes| if yes { "Local" } else { "Cluster" };
        services.push(service(
            &format!("s{i}"),
            json!({
                "type": kinds[usize::try_from(chance.below(3)).expect("small")],
                "loadBalancerSourceRanges": [format!("10.{}.0.0/16", chance.below(2))],
                "clusterIP": format!("10.43.0.{}", chance.below(5)),
                "externalIPs": [format!("192.0.2.{}", chance.below(3))],
                "ports": [{"port": 80 + chance.below(2), "nodePort": 30000 + chance.below(4)}],
                "internalTrafficPolicy": policy(chance.flag()),
                "externalTrafficPolicy": policy(chance.flag()),
                "publishNotReadyAddresses": chance.below(5) == 0,
                "sessionAffinity": if chance.flag() { "ClientIP" } else { "None" },
            }),
        ));
        let last = services.last_mut().expect("a service");
        last["status"] = json!({"loadBalancer": {"ingress": [
            {"ip": format!("192.0.2.{}", 9 + chance.below(3))}]}});
        if chance.flag() {
            last["metadata"]["annotations"] = json!({ANNOUNCED_BY: "a"});
        }
        let endpoints: Vec<Value> = (0..chance.below(5))
            .map(|_| {
                json!({
                    "addresses": [format!("10.42.0.{}", chance.below(9))],
                    "nodeName": if chance.flag() { "a" } else { "b" },
                    "conditions": {"ready": chance.flag(), "serving": chance.flag(),
                                   "terminating": chance.flag()},
                })
            })
            .collect();
        let ports = json!([{"port": 8000 + i, "protocol": "TCP"}]);
        slices.push(slice(&format!("s{i}"), ports, endpoints.into()));
    }
    (services, slices)
}

/// Every target is an endpoint that is ready, is published unready, or still serves while none
/// is ready.
fn check_targets(services: &[Object], slices: &[Object], tables: &Tables) {
    for route in tables.routes.values() {
        let name = route.name.trim_start_matches("default/").trim_end_matches(':');
        let index: usize = name[1..].parse().expect("a number");
        let published = services[index]["spec"]["publishNotReadyAddresses"] == true;
        let endpoints = slices[index]["endpoints"].as_array().expect("endpoints");
        for choice in [&route.inside, &route.outside] {
            let Choice::Spread(targets) = choice else { continue };
            assert!(!targets.is_empty() && targets.is_sorted());
            for target in targets {
                let address = target.address.to_string();
                let known = endpoints.iter().any(|endpoint| {
                    let conditions = &endpoint["conditions"];
                    endpoint["addresses"][0] == address.as_str()
                        && (conditions["ready"] == true
                            || published
                            || (conditions["serving"] == true && conditions["terminating"] == true))
                });
                assert!(known, "{target:?} of {} is no ready endpoint", route.name);
            }
        }
    }
}

/// The change done element by element, as the kernel does it, and read back.
pub(super) fn realise(kernel: &Elements, change: &Change) -> Option<Elements> {
    let mut verdicts: BTreeMap<VerdictKey, Verdict> =
        kernel.fronts.iter().map(|(key, front)| (*key, front.verdict)).collect();
    let mut targets = BTreeMap::new();
    for ((source, front), found) in &kernel.fronts {
        for (number, target) in (0..).zip(&found.targets) {
            targets.insert((*source, *front, number), *target);
        }
    }
    let mut hairpins = kernel.hairpins.clone();
    for (key, verdict) in &change.old_verdicts {
        assert_eq!(verdicts.remove(key), Some(*verdict));
    }
    for (key, target) in &change.old_targets {
        assert_eq!(targets.remove(key), Some(*target));
    }
    assert!(change.old_hairpins.iter().all(|hairpin| hairpins.remove(hairpin)));
    for (key, verdict) in &change.new_verdicts {
        assert_eq!(verdicts.insert(*key, *verdict), None, "added over another");
    }
    for (key, target) in &change.new_targets {
        assert_eq!(targets.insert(*key, *target), None, "added over another");
    }
    assert!(change.new_hairpins.iter().all(|hairpin| hairpins.insert(*hairpin)));
    let (mut restricted, mut addresses) = (kernel.restricted.clone(), kernel.addresses.clone());
    for (front, sources) in &change.old_restricted {
        assert_eq!(restricted.remove(front).as_ref(), Some(sources));
    }
    for (front, sources) in &change.new_restricted {
        assert_eq!(restricted.insert(*front, sources.clone()), None, "added over another");
    }
    assert!(change.old_addresses.iter().all(|address| addresses.remove(address)));
    assert!(change.new_addresses.iter().all(|address| addresses.insert(*address)));
    Some(Elements { hairpins, restricted, addresses, ..Elements::assemble(verdicts, targets)? })
}

#[test]
fn for_any_cluster_targets_are_ready_and_a_realised_change_leaves_nothing_to_do() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut kernel = Elements::default();
    for _ in 0..2000 {
        let (services, slices) = random_cluster(&mut chance);
        let tables = gather(&services, &slices, "a");
        check_targets(&services, &slices, &tables);
        let wanted = elements(&tables);
        let change = kernel.diff(&wanted);
        let read = realise(&kernel, &change);
        kernel.apply(&change);
        assert_eq!(kernel, wanted);
        assert_eq!(read, Some(wanted.clone()));
        assert!(kernel.diff(&wanted).is_empty());
    }
}
