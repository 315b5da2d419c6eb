//! What is refused, and how: the cases are in `cases.txt`, a good object and its spoiling changes.

use serde_json::json;

use super::*;
use crate::kinds;
use crate::patch::merge_patch;

const CASES: &str = include_str!("cases.txt");

/// The complaints about a good object with a change merged into it.
fn of_create(kind: &Kind, good: &Value, change: &Value) -> Vec<String> {
    let mut object = good.clone();
    merge_patch(&mut object, change);
    kind.default(&mut object);
    kind.validate(&object, None).iter().map(ToString::to_string).collect()
}

/// The complaints about a change of an object that exists.
fn of_update(kind: &Kind, old: &Value, change: &Value) -> Vec<String> {
    let (mut old, mut new) = (old.clone(), old.clone());
    merge_patch(&mut new, change);
    kind.default(&mut old);
    kind.default(&mut new);
    kind.prepare_update(&mut new, &old);
    kind.validate(&new, Some(&old)).iter().map(ToString::to_string).collect()
}

#[test]
fn cases() {
    let json = |text: &str| -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let (mut kind, mut good, mut count) = (kinds::POD, Value::Null, 0);
    let mut lines = CASES.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((word, rest)) = line.split_once(' ').filter(|(word, _)| *word != "#") else {
            continue;
        };
        let got = match word {
            "good" => {
                let (name, object) = rest.split_once(' ').expect("a kind and an object");
                (kind, good) = (kinds::by_name(name).expect("a kind"), json(object));
                of_create(kind, &good, &json!({}))
            }
            "create" => of_create(kind, &good, &json(rest)),
            "update" => of_update(kind, &good, &json(rest)),
            _ => panic!("no case: {line}"),
        };
        let mut want = Vec::new();
        while let Some(complaint) = lines.next_if(|line| line.starts_with("  ")) {
            want.push(complaint.trim_start());
        }
        assert_eq!(got, want, "{line}");
        count += 1;
    }
    assert!(count > 100, "only {count} cases were read");
}

#[test]
fn sizes() {
    let mut pod = json!({"metadata": {"name": "web", "namespace": "default"},
                         "spec": {"containers": [{"name": "a", "image": "nginx:1"}]}});
    pod["metadata"]["annotations"] = json!({"a": "x".repeat(300_000)});
    assert_eq!(
        of_create(kinds::POD, &pod, &json!({})),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    let map = json!({"metadata": {"name": "m", "namespace": "default"},
                     "data": {"a": "x".repeat(1_048_577)}});
    assert_eq!(
        of_create(kinds::CONFIG_MAP, &map, &json!({})),
        ["[]: Too long: may not be more than 1048576 bytes"]
    );
}

#[test]
fn statuses() {
    let set = json!({"metadata": {"name": "web", "namespace": "default"},
                     "status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}});
    let errors = kinds::REPLICA_SET.validate_status(&set, &set);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
        ]
    );
    let pod = json!({"metadata": {"name": "web", "namespace": "default"}});
    assert!(kinds::POD.validate_status(&pod, &pod).is_empty());
}
