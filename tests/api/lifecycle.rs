//! Deleting in phases: grace for pods, finalizers, namespaces; and what a restart keeps.

use serde_json::{Value, json};

use super::{DEPLOYMENTS, Lab, MAPS, PODS, config_map, deployment, pod};

const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

async fn remove(lab: &Lab, path: &str, options: &Value) -> super::Answer {
    lab.send("DELETE", path, options).await
}

#[tokio::test]
async fn pods_end_gracefully_where_they_run() {
    let lab = Lab::start().await;
    let made = lab.create(PODS, &pod("free")).await;
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(made["status"]["phase"], "Pending");
    let answer = remove(&lab, &format!("{PODS}/free"), &json!({})).await;
    assert_eq!((answer.code, answer.json()["kind"].as_str()), (200, Some("Pod")));
    assert_eq!(lab.get(&format!("{PODS}/free")).await.code, 404);

    lab.create(PODS, &pod("bound")).await;
    let path = format!("{PODS}/bound");
    let binding = json!({"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n1"}});
    let answer = lab.send("POST", &format!("{path}/binding"), &binding).await;
    assert_eq!((answer.code, answer.json()["status"].as_str()), (201, Some("Success")));
    let answer = lab.send("POST", &format!("{path}/binding"), &binding).await;
    assert_eq!(answer.code, 409);
    assert!(answer.message().contains("is already assigned to node \"n1\""), "{}", answer.text);
    let bound = lab.get(&path).await.json();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let conditions = bound["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "PodScheduled" && c["status"] == "True"));
    let answer = remove(&lab, &path, &json!({"gracePeriodSeconds": 20})).await;
    assert_eq!(answer.json()["metadata"]["deletionGracePeriodSeconds"], 20, "{}", answer.text);
    // The board reports that it is over.
    let answer = remove(&lab, &path, &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(answer.code, 200);
    assert_eq!(lab.get(&path).await.code, 404);
    lab.end().await;
}

#[tokio::test]
async fn evictions_and_preconditions() {
    let lab = Lab::start().await;
    lab.create(PODS, &pod("a")).await;
    let path = format!("{PODS}/a");
    let wrong = json!({"preconditions": {"uid": "other"}});
    let answer = remove(&lab, &path, &wrong).await;
    assert_eq!(answer.code, 409);
    assert!(answer.message().contains("UID in precondition: other"), "{}", answer.text);
    let dry = remove(&lab, &format!("{path}?dryRun=All"), &json!({})).await;
    assert_eq!(dry.code, 200);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let answer = lab.send("POST", &format!("{path}/eviction"), &eviction).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert_eq!(lab.get(&path).await.code, 404);
    lab.end().await;
}

#[tokio::test]
async fn finalizers_hold() {
    let lab = Lab::start().await;
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.create(MAPS, &map).await;
    let path = format!("{MAPS}/a");
    let answer = remove(&lab, &path, &json!({})).await.json();
    assert!(answer["metadata"]["deletionTimestamp"].is_string(), "{answer}");
    let again = remove(&lab, &path, &json!({})).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], answer["metadata"]["resourceVersion"]);
    let patch = json!({"metadata": {"finalizers": null}}).to_string();
    let answer = lab.ask("PATCH", &path, &MERGE, &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    assert_eq!(lab.get(&path).await.code, 404);
    let done = json!({"status": "Success", "details": {"name": "b", "kind": "configmaps"}});
    lab.create(MAPS, &config_map("b", "1")).await;
    let answer = remove(&lab, &format!("{MAPS}/b"), &json!({})).await.json();
    assert_eq!(
        (&answer["status"], &answer["details"]["kind"]),
        (&done["status"], &done["details"]["kind"])
    );
    let foreground = json!({"propagationPolicy": "Foreground"});
    let mut with = deployment("web", 0);
    with["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.create(DEPLOYMENTS, &with).await;
    let answer = remove(&lab, &format!("{DEPLOYMENTS}/web"), &foreground).await.json();
    let finalizers = answer["metadata"]["finalizers"].as_array().unwrap();
    assert!(finalizers.contains(&json!("foregroundDeletion")), "{answer}");
    lab.end().await;
}

#[tokio::test]
async fn namespaces_come_furnished_and_go_empty() {
    let lab = Lab::start().await;
    let namespaces = "/api/v1/namespaces";
    let made = lab.create(namespaces, &json!({"metadata": {"name": "shop"}})).await;
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
    let account = "/api/v1/namespaces/shop/serviceaccounts/default";
    assert_eq!(lab.get(account).await.code, 200);
    let mut map = config_map("held", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.create("/api/v1/namespaces/shop/configmaps", &map).await;
    let answer = remove(&lab, "/api/v1/namespaces/shop", &json!({})).await.json();
    assert_eq!(answer["status"]["phase"], "Terminating");
    let maps = "/api/v1/namespaces/shop/configmaps";
    let answer = lab.send("POST", maps, &config_map("late", "1")).await;
    assert_eq!(answer.code, 403);
    assert_eq!(
        answer.message(),
        "configmaps \"late\" is forbidden: unable to create new content in namespace shop because \
         it is being terminated"
    );
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    // What is not empty does not go, even when somebody drops its finalizer.
    let mut namespace = lab.get("/api/v1/namespaces/shop").await.json();
    namespace["spec"] = json!({});
    let answer = lab.send("PUT", "/api/v1/namespaces/shop/finalize", &namespace).await;
    assert_eq!(answer.code, 409, "{}", answer.text);
    for name in ["default", "kube-system", "kube-public"] {
        let answer = remove(&lab, &format!("{namespaces}/{name}"), &json!({})).await;
        assert_eq!(answer.code, 403);
        assert!(answer.message().ends_with("this namespace may not be deleted"));
    }
    lab.end().await;
}

#[tokio::test]
async fn a_restart_keeps_everything_and_writes_nothing() {
    let lab = Lab::start().await;
    let made = lab.create(MAPS, &config_map("a", "1")).await;
    lab.server.api().store().revision();
    let dir = lab.stop().await;
    let kubeconfig = std::fs::read_to_string(dir.join("admin.kubeconfig")).unwrap();
    let lab = Lab::start_in(dir).await;
    assert_eq!(lab.get(&format!("{MAPS}/a")).await.json(), made);
    let credentials = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("server:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let again = std::fs::read_to_string(lab.dir.join("admin.kubeconfig")).unwrap();
    assert_eq!(credentials(&kubeconfig), credentials(&again));
    // A second server on the same directory is told who has it.
    let second = edge_server::Server::start(super::config(&lab.dir)).await.err().unwrap();
    let words = second.to_string();
    assert!(words.contains(&std::process::id().to_string()), "{words}");
    lab.end().await;
}

#[tokio::test]
async fn generated_names_differ() {
    let lab = Lab::start().await;
    let body = json!({"metadata": {"generateName": "job-"}, "data": {}});
    let (first, second) = (lab.create(MAPS, &body).await, lab.create(MAPS, &body).await);
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&first).starts_with("job-") && name(&first).len() == 9, "{}", name(&first));
    assert_ne!(name(&first), name(&second));
    lab.end().await;
}
