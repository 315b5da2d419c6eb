//! Roles: what a binding lets an account do, that nobody gives away what they have not, and what
//! people are told who ask beforehand.

use edge_client::Client;
use serde_json::{Value, json};

use super::{Lab, MAPS, PODS, ask, config_map, pod};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const MAY: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const AS: &str = "impersonate-user";
const ROBOT: &str = "system:serviceaccount:default:robot";

impl Lab {
    /// A request as somebody else.
    async fn play(&self, who: &str, method: &str, path: &str, body: &Value) -> (u16, String) {
        let headers = [(AS, who), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.ask(method, path, &headers, &body).await;
        (answer.code, answer.text)
    }

    async fn may(&self, who: &str, attributes: Value) -> bool {
        let review = json!({"spec": {"resourceAttributes": attributes}});
        let (code, text) = self.play(who, "POST", MAY, &review).await;
        assert_eq!(code, 201, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["status"]["allowed"] == true
    }

    async fn bind(&self, name: &str, role: &str) {
        let path = format!("{RBAC}/namespaces/default/rolebindings");
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
        });
        self.create(&path, &binding).await;
    }
}

#[tokio::test]
async fn a_binding_lets_in_and_its_end_keeps_out() {
    let lab = Lab::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    lab.create(accounts, &json!({"metadata": {"name": "robot"}})).await;
    let path = format!("{accounts}/robot/token");
    let token = lab.send("POST", &path, &json!({})).await.json()["status"]["token"].clone();
    let mut config = lab.anonymous_config();
    config.token = Some(token.as_str().unwrap().to_owned());
    let robot = Client::new(config).unwrap();
    for path in ["/api", "/apis/apps/v1", "/openapi/v3", "/version"] {
        assert_eq!(ask(&robot, "GET", path, &[], "").await.code, 200, "{path}");
    }
    for path in [PODS, "/metrics", "/api/v1/namespaces"] {
        assert_eq!(ask(&robot, "GET", path, &[], "").await.code, 403, "{path}");
    }
    lab.bind("see", "view").await;
    assert_eq!(ask(&robot, "GET", PODS, &[], "").await.code, 200);
    let json = [("content-type", "application/json")];
    let secrets = "/api/v1/namespaces/default/secrets";
    for (method, path, code) in [
        ("GET", secrets, 403),
        ("GET", "/api/v1/pods", 403),
        ("GET", "/api/v1/namespaces/kube-system/pods", 403),
        ("POST", MAPS, 403),
    ] {
        let body = if method == "POST" { config_map("a", "b").to_string() } else { String::new() };
        let answer = ask(&robot, method, path, &json, &body).await;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.text);
    }
    lab.bind("change", "edit").await;
    let made = ask(&robot, "POST", PODS, &json, &pod("a").to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let path = format!("{RBAC}/namespaces/default/rolebindings/change");
    assert_eq!(lab.ask("DELETE", &path, &[], "").await.code, 200);
    assert_eq!(ask(&robot, "POST", PODS, &json, &pod("b").to_string()).await.code, 403);
    lab.end().await;
}

#[tokio::test]
async fn nobody_gives_away_what_they_have_not() {
    let lab = Lab::start().await;
    lab.bind("run", "admin").await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let role = |name: &str, resource: &str, verb: &str| {
        json!({"metadata": {"name": name},
               "rules": [{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]})
    };
    let bind = |name: &str, role: &str| {
        json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role},
               "subjects": [{"kind": "User", "name": "anna"}]})
    };
    let none = Value::Null;
    for (method, path, body, code) in [
        ("POST", roles.as_str(), role("some", "pods", "get"), 201),
        ("POST", &roles, role("nodes", "nodes", "get"), 403),
        ("POST", &roles, role("all", "*", "*"), 403),
        ("POST", &bindings, bind("see", "view"), 201),
        ("POST", &bindings, bind("rule", "cluster-admin"), 403),
        ("POST", &format!("{RBAC}/clusterrolebindings"), bind("rule", "view"), 403),
        ("PUT", &format!("{roles}/some"), role("some", "nodes", "get"), 403),
        ("PUT", &format!("{roles}/some"), role("some", "configmaps", "get"), 200),
        ("DELETE", &format!("{roles}/some"), none, 200),
    ] {
        let (got, text) = lab.play(ROBOT, method, path, &body).await;
        assert_eq!(got, code, "{method} {path} {body}: {text}");
    }
    let (_, text) = lab.play(ROBOT, "POST", &roles, &role("nodes", "nodes", "get")).await;
    assert!(text.contains("attempting to grant RBAC permissions not currently held"), "{text}");
    // Whoever may do nothing may not say that they are somebody else, either.
    let headers = [(AS, "anna"), ("impersonate-group", "system:masters")];
    let (code, text) = lab.play("anna", "GET", PODS, &Value::Null).await;
    assert_eq!(code, 200, "anna sees: {text}");
    assert_eq!(lab.ask("GET", "/api/v1/nodes", &headers, "").await.code, 200, "as a master");
    let agent = lab.agent("n1");
    assert_eq!(ask(&agent, "GET", "/api/v1/nodes", &headers, "").await.code, 403);
    lab.end().await;
}

#[tokio::test]
async fn who_asks_beforehand_is_told_the_truth() {
    let lab = Lab::start().await;
    lab.bind("see", "view").await;
    let of = |verb: &str, resource: &str, namespace: &str| {
        json!({
            "verb": verb,
            "resource": resource,
            "namespace": namespace,
        })
    };
    assert!(lab.may(ROBOT, of("list", "pods", "default")).await);
    assert!(!lab.may(ROBOT, of("list", "pods", "")).await);
    assert!(!lab.may(ROBOT, of("delete", "pods", "default")).await);
    assert!(!lab.may("kubernetes-admin", of("list", "pods", "default")).await);
    let review = json!({"spec": {"namespace": "default"}});
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (code, text) = lab.play(ROBOT, "POST", rules, &review).await;
    assert!(code == 201 && text.contains("endpointslices") && text.contains("/openapi"), "{text}");
    let about = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review = |user: &str, groups: Value| {
        json!({"spec": {"user": user, "groups": groups,
                        "resourceAttributes": of("list", "pods", "default")}})
    };
    for (user, groups, allowed) in [
        (ROBOT, json!([]), true),
        ("anna", json!([]), false),
        ("anna", json!(["system:masters"]), true),
    ] {
        let answer = lab.send("POST", about, &review(user, groups)).await;
        assert_eq!(answer.json()["status"]["allowed"], allowed, "{user}: {}", answer.text);
    }
    let (code, _) = lab.play(ROBOT, "POST", about, &review("anna", json!([]))).await;
    assert_eq!(code, 403, "only some may ask about others");
    let local = "/apis/authorization.k8s.io/v1/namespaces/other/localsubjectaccessreviews";
    assert_eq!(lab.send("POST", local, &review(ROBOT, json!([]))).await.code, 400);
    lab.end().await;
}
