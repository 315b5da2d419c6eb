//! The Node of a board: it says what is so, and nothing new while nothing is.

use super::*;

fn identity() -> Identity {
    Identity {
        name: "b".into(),
        ip: "10.0.0.1".parse().unwrap(),
        port: 10250,
        version: "0.1.0".into(),
        labels: BTreeMap::from([("site".into(), "farm".into())]),
        pod_cidr: "10.42.0.0/24".into(),
        memory_problem: None,
        network_problem: None,
        conditions: Vec::new(),
    }
}

const WELL: Pressure = Pressure { memory: false, disk: false, read_only: false, pids: false };

#[test]
fn an_unchanged_board_has_nothing_to_say() {
    let facts = Facts::gather(Path::new("/"));
    let first = status(&facts, &identity(), WELL, &[], &Value::Null, 1_000_000);
    let again = status(&facts, &identity(), WELL, &[], &first, 9_000_000);
    assert_eq!(first, again);
    let worse = Pressure { disk: true, ..WELL };
    let later = status(&facts, &identity(), worse, &[], &first, 9_000_000);
    let find = |s: &Value, kind: &str| {
        let list = s["conditions"].as_array().unwrap();
        list.iter().find(|c| c["type"] == kind).unwrap().clone()
    };
    assert_eq!(find(&later, "DiskPressure")["lastTransitionTime"], "1970-01-01T02:30:00Z");
    assert_eq!(find(&later, "Ready"), find(&first, "Ready"));
    let dead = Pressure { disk: true, read_only: true, ..WELL };
    let dead = status(&facts, &identity(), dead, &[], &first, 9_000_000);
    assert_eq!(find(&dead, "DiskPressure")["reason"], "DiskIsReadOnly");
}

#[test]
fn facts_and_labels() {
    let facts = Facts::gather(Path::new("/"));
    assert!(facts.cpus > 0 && facts.memory > 0 && facts.disk > 0);
    assert_eq!(facts.allocatable()["pods"], "110");
    let labels = labels(&identity());
    assert_eq!(labels["kubernetes.io/hostname"], "b");
    assert_eq!(labels["site"], "farm");
    let _ = Pressure::gather(Path::new("/"));
}

#[test]
fn what_is_wrong_with_a_board_is_a_condition_for_as_long_as_it_is() {
    let mut identity = identity();
    identity.memory_problem = Some("add cgroup_enable=memory".into());
    identity.network_problem = Some("no link leads there".into());
    let facts = Facts::gather(Path::new("/"));
    let bad = status(&facts, &identity, WELL, &[], &Value::Null, 0);
    let text = bad["conditions"].to_string();
    assert!(text.contains("MemoryLimitsUnenforced") && text.contains("cgroup_enable"));
    assert!(text.contains("PodNetworkIncomplete") && text.contains("no link leads"));
    let message = "use the board's own supply".to_owned();
    identity.conditions = doctor::condition("UnderVoltage", message).into_iter().collect();
    let weak = status(&facts, &identity, WELL, &[], &bad, 0);
    assert!(weak["conditions"].to_string().contains("SupplyTooWeak"));
    assert_eq!(status(&facts, &identity, WELL, &[], &weak, 9_000_000), weak, "at rest");
    // Another process begins with what the Node says, and has nothing new to say.
    identity.conditions = remembered(&weak);
    assert_eq!(status(&facts, &identity, WELL, &[], &weak, 9_000_000), weak, "after a restart");
    (identity.network_problem, identity.conditions) = (None, Vec::new());
    let good = status(&facts, &identity, WELL, &[], &bad, 0);
    assert!(!good["conditions"].to_string().contains("PodNetworkIncomplete"));
    let good = status(&facts, &identity, WELL, &[], &weak, 0);
    assert!(!good["conditions"].to_string().contains("UnderVoltage"));
}

#[test]
fn images_are_bounded_and_largest_first() {
    let image = |n: u64| ImageSummary {
        id: n.to_string(),
        tags: vec![format!("i:{n}")],
        digests: vec![],
        bytes: n,
    };
    let all: Vec<_> = (0..80).map(image).collect();
    let list = image_list(&all);
    assert_eq!(list.as_array().unwrap().len(), IMAGES);
    assert_eq!(list[0]["sizeBytes"], 79);
}
