//! Whatever a client sends, nothing here panics, and what was accepted once is accepted again
//! unchanged: good objects are damaged at random, by a seed, and sent through every step.

use serde_json::{Map, Value, json};

use super::{Kind, Strictness, all};
use crate::strategy::Stamp;
use crate::{Object, patch, selector::LabelSelector, time};

/// Damaged objects of each kind.
const ROUNDS: usize = 150;

/// Chance by a seed (the constants are Knuth's).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn junk(chance: &mut Chance) -> Value {
    let words = ["", "a", "Ä", "-1", "1Gi", "25%", "..", "2025-01-31T10:20:30Z", "a/b/c", "None"];
    match chance.below(9) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1.5),
        4 => json!(u64::MAX),
        5 => json!([]),
        6 => json!({}),
        7 => json!([{"name": "a", "$patch": "delete"}, null, 1]),
        _ => json!(words[chance.below(words.len())]),
    }
}

/// Replaces or removes one value somewhere in the object.
fn damage(value: &mut Value, chance: &mut Chance) {
    let deeper = chance.below(6) > 0;
    match value {
        Value::Object(map) if !map.is_empty() && deeper => {
            let at = chance.below(map.len());
            let Some(key) = map.keys().nth(at).cloned() else { return };
            if chance.below(12) == 0 {
                map.remove(&key);
            } else if let Some(child) = map.get_mut(&key) {
                damage(child, chance);
            }
        }
        Value::Array(list) if !list.is_empty() && deeper => {
            let at = chance.below(list.len());
            damage(&mut list[at], chance);
        }
        other => *other = junk(chance),
    }
}

/// An object with something in every field that the checks look at.
fn full(kind: &Kind) -> Object {
    let container = json!({"name": "a", "image": "x:1", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "envFrom": [{"secretRef": {"name": "s"}}],
        "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "livenessProbe": {"httpGet": {"port": "http"}}, "lifecycle": {"preStop": {"exec": {}}}});
    let pod = json!({"containers": [container], "initContainers": [container],
        "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}],
        "tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}});
    let mut spec = pod.clone();
    merge(
        &mut spec,
        json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod},
        "strategy": {"rollingUpdate": {"maxSurge": "25%"}}, "type": "NodePort",
        "ports": [{"port": 80, "targetPort": "http"}], "clusterIPs": ["10.0.0.1"],
        "taints": [{"key": "a", "effect": "NoSchedule"}], "finalizers": ["kubernetes"]}),
    );
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "a", "state": {"running": {}}, "lastState": {}}],
        "initContainerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0}}}],
        "capacity": {"cpu": "4"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
    match kind.kind {
        "Service" => spec["selector"] = json!({"a": "b"}),
        "Ingress" => {
            let path = json!({"path": "/a", "pathType": "Prefix",
                              "backend": {"service": {"name": "s", "port": {"number": 80}}}});
            spec["rules"] = json!([{"host": "*.a.b", "http": {"paths": [path]}}]);
            spec["tls"] = json!([{"hosts": ["a.b"], "secretName": "s"}]);
        }
        "IngressClass" => spec["parameters"] = json!({"kind": "K", "name": "n"}),
        "Lease" => spec["strategy"] = json!("OldestEmulationVersion"),
        _ => {}
    }
    let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": "x", "namespace": "d", "labels": {"a": "b"}, "finalizers": ["a/b"],
                     "annotations": {"a": "b"}, "ownerReferences": [{"uid": "u"}]},
        "status": status, "data": {"a": "eA=="}, "stringData": {"b": "c"}, "type": "Opaque",
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}],
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
        "involvedObject": {"kind": "Pod"}, "series": {"count": 1}});
    if kind.kind != "Event" {
        object["spec"] = spec;
    }
    object
}

fn merge(into: &mut Value, more: Value) {
    patch::merge_patch(into, &more);
}

/// Everything that is done with an object of any shape.
fn read(kind: &Kind, object: &Object) {
    let now = time::stamp(1_738_318_830_000);
    assert_eq!(kind.row(object, now).len(), kind.columns().len());
    kind.selectable.iter().for_each(|path| drop(kind.field(object, path)));
    drop(LabelSelector::from_object(&object["spec"]["selector"]));
}

/// The steps of a write; says whether the object was accepted.
fn write(kind: &Kind, old: &Object, mut object: Object) -> bool {
    if kind.decode(&mut object, Strictness::Warn).is_err() {
        return false;
    }
    let mut again = object.clone();
    let findings = kind.decode(&mut again, Strictness::Strict);
    assert!(findings.is_ok() && again == object, "{object}\n{again}");
    kind.default(&mut object);
    let mut again = object.clone();
    kind.default(&mut again);
    assert_eq!(object, again);
    drop(kind.validate(&object, None));
    drop(kind.validate(&object, Some(old)));
    let mut update = object.clone();
    kind.prepare_update(&mut update, old);
    let mut status = object.clone();
    kind.prepare_status_update(&mut status, old);
    drop(kind.validate_status(&status, old));
    let change = patch::diff(kind, old, &object);
    let after = patch::strategic_merge(kind, old, &change);
    let settled = after.map(|after| patch::diff(kind, &after, &object));
    // Items without their key cannot be merged; all else arrives.
    assert!(settled.as_ref().is_err() || settled == Ok(Value::Object(Map::new())), "{change}");
    let stamp = Stamp { uid: "u".into(), now: time::format(0), random: 1 };
    drop(kind.prepare_create(&mut object, &stamp));
    read(kind, &object);
    true
}

#[test]
fn nothing_panics() {
    let mut chance = Chance(42);
    for kind in all() {
        let mut good = full(kind);
        drop(kind.decode(&mut good, Strictness::Ignore).expect("it is well typed"));
        kind.default(&mut good);
        let mut accepted = 0;
        for _ in 0..ROUNDS {
            let mut object = full(kind);
            for _ in 0..=chance.below(4) {
                damage(&mut object, &mut chance);
            }
            read(kind, &object);
            drop(patch::strategic_merge(kind, &good, &object));
            drop(patch::three_way(kind, &object, &good, &good));
            accepted += usize::from(write(kind, &good, object));
        }
        assert!(accepted > ROUNDS / 10, "{}: {accepted}", kind.kind);
    }
}
