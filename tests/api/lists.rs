//! Lists: selectors, pages that stay consistent while things change, and the past.

use edge_server::ListOptions;
use serde_json::{Value, json};

use super::{Lab, MAPS, config_map};

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|i| i["metadata"]["name"].as_str())
        // Every namespace has this one, before all others here.
        .filter(|name| *name != "kube-root-ca.crt")
        .collect()
}

#[tokio::test]
async fn pages_show_one_moment() {
    let lab = Lab::start().await;
    for i in 0..10 {
        lab.create(MAPS, &config_map(&format!("m{i}"), "v")).await;
    }
    let first = lab.get(&format!("{MAPS}?limit=5")).await.json();
    assert_eq!(names(&first), ["m0", "m1", "m2", "m3"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    assert_eq!(first["kind"], "ConfigMapList");
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    lab.create(MAPS, &config_map("m55", "later")).await;
    lab.ask("DELETE", &format!("{MAPS}/m5"), &[], "").await;
    let second = lab.get(&format!("{MAPS}?limit=4&continue={token}")).await.json();
    assert_eq!(names(&second), ["m4", "m5", "m6", "m7"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap().to_owned();
    let third = lab.get(&format!("{MAPS}?limit=4&continue={token}")).await.json();
    assert_eq!(names(&third), ["m8", "m9"]);
    assert_eq!(third["metadata"].get("continue"), None);
    let now = lab.get(MAPS).await.json();
    assert_eq!(names(&now), ["m0", "m1", "m2", "m3", "m4", "m55", "m6", "m7", "m8", "m9"]);
    // The past can be listed until it is forgotten.
    let then = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact");
    assert_eq!(lab.get(&exact).await.json()["items"].as_array().unwrap().len(), 11);
    let store = lab.server.api().store();
    store.compact(store.revision());
    let answer = lab.get(&exact).await;
    assert_eq!((answer.code, answer.json()["reason"].as_str()), (410, Some("Expired")));
    let answer = lab.get(&format!("{MAPS}?limit=4&continue={token}")).await;
    assert_eq!(answer.code, 410);
    assert!(answer.message().contains("continue parameter is too old"), "{}", answer.text);
    lab.end().await;
}

#[tokio::test]
async fn selectors_choose() {
    let lab = Lab::start().await;
    for (name, labels) in [
        ("a", json!({"app": "web", "tier": "front"})),
        ("b", json!({"app": "web"})),
        ("c", json!({"app": "db"})),
    ] {
        let mut map = config_map(name, "v");
        map["metadata"]["labels"] = labels;
        lab.create(MAPS, &map).await;
    }
    for (query, want) in [
        ("labelSelector=app%3Dweb", vec!["a", "b"]),
        ("labelSelector=app%3Dweb%2C%21tier", vec!["b"]),
        ("labelSelector=app%20in%20%28web%2Cdb%29", vec!["a", "b", "c"]),
        ("labelSelector=app%21%3Dweb", vec!["c"]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        ("fieldSelector=metadata.name%21%3Dc&labelSelector=app%3Dweb", vec!["a", "b"]),
        ("labelSelector=app%3Dnone", vec![]),
    ] {
        let list = lab.get(&format!("{MAPS}?{query}")).await.json();
        assert_eq!(names(&list), want, "{query}");
    }
    // Pages of a selection go on until they are full.
    let list = lab.get(&format!("{MAPS}?labelSelector=app%3Dweb&limit=1")).await.json();
    assert_eq!(names(&list), ["a"]);
    let token = list["metadata"]["continue"].as_str().unwrap();
    let path = format!("{MAPS}?labelSelector=app%3Dweb&limit=1&continue={token}");
    let list = lab.get(&path).await.json();
    assert_eq!(names(&list), ["b"]);
    // What a selection finds can be deleted together.
    let path = format!("{MAPS}?labelSelector=app%3Dweb");
    let gone = lab.ask("DELETE", &path, &[], "").await;
    assert_eq!((gone.code, names(&gone.json())), (200, vec!["a", "b"]));
    assert_eq!(names(&lab.get(MAPS).await.json()), ["c"]);
    lab.end().await;
}

#[tokio::test]
async fn the_leaders_lease_is_in_memory() {
    let lab = Lab::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let lease = lab.get(&format!("{leases}/edged-leader")).await.json();
    assert_eq!(lease["spec"]["holderIdentity"], "board-1");
    assert_eq!(names(&lab.get(leases).await.json()), ["edged-leader"]);
    assert_eq!(
        names(&lab.get("/apis/coordination.k8s.io/v1/leases").await.json()),
        ["edged-leader"]
    );
    let stored = lab.server.api().store().list("leases.", Default::default()).unwrap();
    assert!(stored.entries.is_empty());
    let answer = lab.send("PUT", &format!("{leases}/edged-leader"), &lease).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    lab.end().await;
}

#[tokio::test]
async fn in_process_lists_are_the_same() {
    let lab = Lab::start().await;
    lab.create(MAPS, &config_map("a", "v")).await;
    let kind = edge_api::kinds::CONFIG_MAP;
    let page = lab.server.api().list(kind, "default", &ListOptions::default()).unwrap();
    let wire = lab.get(&format!("{MAPS}/a")).await;
    assert_eq!(page.entries[0].value, wire.text.as_bytes());
    lab.end().await;
}
