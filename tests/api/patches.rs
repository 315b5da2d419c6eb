//! Patches of every kind, conflicts, and many writers at once.

use serde_json::json;

use super::{DEPLOYMENTS, Lab, MAPS, config_map, deployment};

const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];
const JSON: [(&str, &str); 1] = [("content-type", "application/json-patch+json")];
const STRATEGIC: [(&str, &str); 1] = [("content-type", "application/strategic-merge-patch+json")];

#[tokio::test]
async fn each_kind_of_patch() {
    let lab = Lab::start().await;
    lab.create(DEPLOYMENTS, &deployment("web", 1)).await;
    let path = format!("{DEPLOYMENTS}/web");
    let merge = json!({"metadata": {"labels": {"app": null, "a": "b"}}}).to_string();
    let answer = lab.ask("PATCH", &path, &MERGE, &merge).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    assert_eq!(answer.json()["metadata"]["labels"], json!({"a": "b"}));
    let strategic = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "side", "image": "side:1"}]}}}})
    .to_string();
    let answer = lab.ask("PATCH", &path, &STRATEGIC, &strategic).await.json();
    let containers = answer["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2, "{containers:?}");
    assert!(answer["metadata"]["generation"].as_u64().unwrap() > 1);
    let operations = json!([
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
    ])
    .to_string();
    let answer = lab.ask("PATCH", &path, &JSON, &operations).await;
    assert_eq!(answer.json()["spec"]["replicas"], 3, "{}", answer.text);
    let answer = lab.ask("PATCH", &path, &JSON, &operations).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    for (headers, body) in [(JSON, "{}"), (MERGE, "[]"), (STRATEGIC, "\"x\""), (MERGE, "{")] {
        let answer = lab.ask("PATCH", &path, &headers, body).await;
        assert_eq!(answer.code, 400, "{body}: {}", answer.text);
    }
    let apply = [("content-type", "application/apply-patch+yaml")];
    let answer = lab.ask("PATCH", &path, &apply, "{}").await;
    assert_eq!(answer.code, 415);
    assert!(answer.message().contains("server-side apply is not supported"), "{}", answer.text);
    lab.end().await;
}

#[tokio::test]
async fn revisions_guard_writes() {
    let lab = Lab::start().await;
    let first = lab.create(MAPS, &config_map("a", "1")).await;
    let path = format!("{MAPS}/a");
    let mut newer = first.clone();
    newer["data"]["key"] = json!("2");
    let answer = lab.send("PUT", &path, &newer).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    let second = answer.json();
    // The same again is refused, and so is a patch that names the old revision.
    let answer = lab.send("PUT", &path, &newer).await;
    assert_eq!((answer.code, answer.json()["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        answer.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please \
         apply your changes to the latest version and try again"
    );
    let old = first["metadata"]["resourceVersion"].clone();
    let patch = json!({"metadata": {"resourceVersion": old}, "data": {"key": "3"}}).to_string();
    assert_eq!(lab.ask("PATCH", &path, &MERGE, &patch).await.code, 409);
    // Another's uid is another object.
    let patch = json!({"metadata": {"uid": "other"}}).to_string();
    let answer = lab.ask("PATCH", &path, &MERGE, &patch).await;
    assert_eq!(answer.code, 409);
    assert!(answer.message().contains("UID in precondition: other"), "{}", answer.text);
    // What changes nothing writes nothing.
    let answer = lab.send("PUT", &path, &second).await.json();
    assert_eq!(answer["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let patch = json!({"data": {"key": "2"}}).to_string();
    let answer = lab.ask("PATCH", &path, &MERGE, &patch).await.json();
    assert_eq!(answer["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    lab.end().await;
}

#[tokio::test]
async fn system_fields_are_the_systems() {
    let lab = Lab::start().await;
    let made = lab.create(DEPLOYMENTS, &deployment("web", 1)).await;
    let path = format!("{DEPLOYMENTS}/web");
    let patch = json!({
        "metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 77,
                     "deletionTimestamp": "2001-01-01T00:00:00Z", "selfLink": "x"},
        "status": {"replicas": 9},
    });
    let answer = lab.ask("PATCH", &path, &MERGE, &patch.to_string()).await.json();
    assert_ne!(answer["metadata"]["generation"], 77);
    for field in ["creationTimestamp", "uid"] {
        assert_eq!(answer["metadata"][field], made["metadata"][field], "{field}");
    }
    assert_eq!(answer["metadata"].get("deletionTimestamp"), None);
    assert_ne!(answer["status"]["replicas"], 9);
    // A status write changes the status alone.
    let patch = json!({"spec": {"replicas": 9}, "status": {"observedGeneration": 5}}).to_string();
    let answer = lab.ask("PATCH", &format!("{path}/status"), &MERGE, &patch).await.json();
    assert_eq!(answer["spec"]["replicas"], 1);
    assert_eq!(answer["status"]["observedGeneration"], 5);
    lab.end().await;
}

#[tokio::test]
async fn many_writers_lose_nothing() {
    let lab = Lab::start().await;
    lab.create(MAPS, &config_map("a", "1")).await;
    let path = format!("{MAPS}/a");
    let one = |i: usize| {
        let (client, path) = (lab.client.clone(), path.clone());
        let patch = json!({"data": {format!("k{i}"): "v"}}).to_string();
        tokio::spawn(async move { super::ask(&client, "PATCH", &path, &MERGE, &patch).await.code })
    };
    let running: Vec<_> = (0..6).map(one).collect();
    for task in running {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(lab.get(&path).await.json()["data"].as_object().unwrap().len(), 7);
    lab.end().await;
}

#[tokio::test]
async fn scale_is_a_view() {
    let lab = Lab::start().await;
    lab.create(DEPLOYMENTS, &deployment("web", 2)).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = lab.get(&path).await.json();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["apiVersion"], "autoscaling/v1");
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = json!(4);
    scale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let answer = lab.send("PUT", &path, &scale).await;
    assert_eq!(answer.json()["spec"]["replicas"], 4, "{}", answer.text);
    let patch = json!({"spec": {"replicas": 5}}).to_string();
    let answer = lab.ask("PATCH", &path, &MERGE, &patch).await;
    assert_eq!(answer.json()["spec"]["replicas"], 5, "{}", answer.text);
    let whole = lab.get(&format!("{DEPLOYMENTS}/web")).await.json();
    assert_eq!(whole["spec"]["replicas"], 5);
    assert!(whole["metadata"]["generation"].as_u64().unwrap() > 2);
    let patch = json!({"spec": {"replicas": -1}}).to_string();
    assert_eq!(lab.ask("PATCH", &path, &MERGE, &patch).await.code, 422);
    scale["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(lab.send("PUT", &path, &scale).await.code, 409);
    lab.end().await;
}
