//! Tokens of ServiceAccounts: what they say, whom they let in, and when they end.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_client::Client;
use serde_json::{Value, json};

use super::{Answer, Lab, PODS, ask, pod};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const API: &str = "https://kubernetes.default.svc.cluster.local";

impl Lab {
    async fn token(&self, account: &str, spec: Value) -> Answer {
        self.send("POST", &format!("{ACCOUNTS}/{account}/token"), &json!({ "spec": spec })).await
    }

    /// A token that a request gives.
    async fn given(&self, account: &str, spec: Value) -> String {
        let answer = self.token(account, spec).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        answer.json()["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A request without a certificate, with this token.
    async fn with(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let mut config = self.anonymous_config();
        config.token = Some(token.to_owned());
        let client = Client::new(config).unwrap();
        ask(&client, method, path, &[("content-type", "application/json")], body).await
    }

    /// Who the API thinks a token is.
    async fn whose(&self, token: &str) -> Answer {
        self.with(token, "POST", WHO, "{}").await
    }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_pod_gets_its_account_and_the_token_says_whose_it_is() {
    let lab = Lab::start().await;
    lab.create("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    let mut body = pod("a");
    body["spec"]["nodeName"] = json!("n1");
    let made = lab.create(PODS, &body).await;
    let volume = &made["spec"]["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-"), "{name}");
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!((&mount["name"], &mount["readOnly"]), (&volume["name"], &json!(true)));
    let authority = lab.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").await;
    assert!(authority.json()["data"]["ca.crt"].as_str().unwrap().starts_with("-----BEGIN CERT"));

    let uid = made["metadata"]["uid"].clone();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": uid});
    let spec = json!({"expirationSeconds": 3607, "boundObjectRef": bound});
    let answer = lab.token("default", spec).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    let request = answer.json();
    assert_eq!(
        (&request["kind"], &request["spec"]["audiences"]),
        (&json!("TokenRequest"), &json!([API]))
    );
    let token = request["status"]["token"].as_str().unwrap();
    let said = claims(token);
    let account = lab.get(&format!("{ACCOUNTS}/default")).await.json();
    let node = lab.get("/api/v1/nodes/n1").await.json();
    assert_eq!(
        said["kubernetes.io"],
        json!({
            "namespace": "default",
            "node": { "name": "n1", "uid": node["metadata"]["uid"] },
            "pod": { "name": "a", "uid": uid },
            "serviceaccount": { "name": "default", "uid": account["metadata"]["uid"] },
            "warnafter": said["iat"].as_i64().unwrap() + 3607,
        })
    );
    assert_eq!(said["sub"], "system:serviceaccount:default:default");
    let life = said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap();
    assert_eq!(life, 365 * 24 * 3600, "programs that read their token once go on");

    let who = lab.whose(token).await;
    assert_eq!(who.code, 201, "{}", who.text);
    let info = who.json()["status"]["userInfo"].clone();
    assert_eq!(info["username"], "system:serviceaccount:default:default");
    assert_eq!(info["uid"], account["metadata"]["uid"]);
    let groups =
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
    assert_eq!(info["groups"], json!(groups));
    assert_eq!(info["extra"]["authentication.kubernetes.io/pod-name"], json!(["a"]));
    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let status = lab.send("POST", reviews, &review).await.json()["status"].clone();
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!([API])));
    assert_eq!(status["user"], info);

    // The pod is gone, and its token with it, at once.
    let path = format!("{PODS}/a?gracePeriodSeconds=0");
    assert_eq!(lab.ask("DELETE", &path, &[], "").await.code, 200);
    assert_eq!(lab.whose(token).await.code, 401);
    let mut again = pod("a");
    again["spec"]["nodeName"] = json!("n1");
    lab.create(PODS, &again).await;
    assert_eq!(lab.whose(token).await.code, 401, "another pod of that name");
    let status = lab.send("POST", reviews, &review).await.json()["status"].clone();
    assert!(status["authenticated"] != true && status["error"].is_string(), "{status}");
    lab.end().await;
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_nobodys() {
    let (lab, other) = (Lab::start().await, Lab::start().await);
    let good = lab.given("default", json!({})).await;
    assert_eq!(lab.whose(&good).await.code, 201);
    assert_eq!(claims(&good)["exp"], claims(&good)["iat"].as_i64().unwrap() + 3600);
    let foreign = other.given("default", json!({})).await;
    let (head, rest) = good.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
    let kid = |token: &str| {
        let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&head).unwrap()["kid"].clone()
    };
    let hs = json!({"alg": "HS256", "kid": kid(&good)}).to_string();
    let hs = URL_SAFE_NO_PAD.encode(hs);
    let (claims, signature) = rest.split_once('.').unwrap();
    let mut changed = claims.to_owned();
    changed.replace_range(20..21, if &claims[20..21] == "A" { "B" } else { "A" });
    let elsewhere = lab.given("default", json!({"audiences": ["vault"]})).await;
    for (what, token) in [
        ("another cluster's", foreign.clone()),
        ("one without a signature", format!("{none}.{claims}.")),
        ("one of another algorithm", format!("{hs}.{claims}.{signature}")),
        ("changed claims", format!("{head}.{changed}.{signature}")),
        ("a cut signature", good[..good.len() - 4].to_owned()),
        ("one for somebody else", elsewhere.clone()),
        ("a word", "x".to_owned()),
    ] {
        let answer = lab.whose(&token).await;
        assert_eq!(answer.code, 401, "{what}: {}", answer.text);
        assert_eq!(answer.message(), "Unauthorized", "{what}");
    }
    let review = json!({"spec": {"token": elsewhere, "audiences": ["vault", "x"]}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let status = lab.send("POST", reviews, &review).await.json()["status"].clone();
    assert_eq!(status["audiences"], json!(["vault"]), "{status}");
    // A certificate counts before a token does.
    let header = [("authorization", "Bearer x")];
    assert_eq!(lab.ask("GET", PODS, &header, "").await.code, 200);
    let answer = lab.with(&good, "GET", PODS, "").await;
    assert_eq!(
        (answer.code, answer.message().as_str()),
        (
            403,
            "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list \
             resource \"pods\" in API group \"\" in the namespace \"default\""
        )
    );
    // The account is gone; one of its name is another one.
    lab.ask("DELETE", &format!("{ACCOUNTS}/default"), &[], "").await;
    assert_eq!(lab.whose(&good).await.code, 401);
    lab.end().await;
    other.end().await;
}

#[tokio::test]
async fn requests_are_checked_as_kubernetes_checks_them() {
    let lab = Lab::start().await;
    lab.create(PODS, &pod("a")).await;
    let bound = |kind: &str, name: &str, uid: &str| {
        json!({
            "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid},
        })
    };
    lab.create(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await;
    for (account, spec, code, words) in [
        ("nobody", json!({}), 404, "serviceaccounts \"nobody\" not found"),
        ("robot", json!({"expirationSeconds": 599}), 422, "less than 10 minutes"),
        ("robot", bound("Pod", "none", ""), 404, "pods \"none\" not found"),
        ("default", bound("Pod", "a", "other"), 409, "does not match the UID in record"),
        ("robot", bound("Pod", "a", ""), 400, "different serviceaccount name"),
        ("robot", bound("Service", "kubernetes", ""), 400, "cannot bind token to object of type"),
        ("robot", json!({"expirationSeconds": "x"}), 400, "TokenRequest"),
    ] {
        let answer = lab.token(account, spec).await;
        assert_eq!(answer.code, code, "{}", answer.text);
        assert!(answer.message().contains(words), "{words}: {}", answer.text);
    }
    let long = lab.token("robot", json!({"expirationSeconds": 100_000_000})).await;
    assert_eq!(long.code, 201);
    assert!(long.warnings()[0].contains("shortened to 31536000 seconds"), "{:?}", long.warnings());
    let keys = lab.get("/openid/v1/jwks").await.json();
    assert_eq!(
        (&keys["keys"][0]["alg"], &keys["keys"][0]["crv"]),
        (&json!("ES256"), &json!("P-256"))
    );
    let openid = lab.get("/.well-known/openid-configuration").await.json();
    assert_eq!(openid["issuer"], API);
    lab.end().await;
}

#[tokio::test]
async fn a_board_gets_tokens_for_its_own_pods_only() {
    let lab = Lab::start().await;
    for (name, node) in [("mine", "n1"), ("theirs", "n2")] {
        let mut body = pod(name);
        body["spec"]["nodeName"] = json!(node);
        lab.create(PODS, &body).await;
    }
    lab.create(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await;
    let agent = lab.agent("n1");
    let bound = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name});
    let cases = [
        ("default", json!({"boundObjectRef": bound("mine")}), 201),
        ("default", json!({"boundObjectRef": bound("theirs")}), 403),
        ("default", json!({}), 403),
        ("default", json!({"boundObjectRef": bound("mine"), "audiences": ["vault"]}), 403),
        ("robot", json!({"boundObjectRef": bound("mine")}), 403),
    ];
    for (account, spec, code) in cases {
        let path = format!("{ACCOUNTS}/{account}/token");
        let body = json!({ "spec": spec }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = ask(&agent, "POST", &path, &headers, &body).await;
        assert_eq!(answer.code, code, "{body}: {}", answer.text);
    }
    lab.end().await;
}

#[tokio::test]
async fn keys_outlive_the_server_and_show_themselves_nowhere() {
    let lab = Lab::start().await;
    let token = lab.given("default", json!({})).await;
    let kept = lab.server.api().store().get("edged.tokens//keys").unwrap().unwrap();
    let key = serde_json::from_slice::<Value>(&kept.value).unwrap()["keys"][0].clone();
    let key = key.as_str().unwrap().to_owned();
    for path in ["/api/v1/secrets", "/api/v1/configmaps", "/openid/v1/jwks", "/metrics", "/apis"] {
        let answer = lab.get(path).await;
        assert_eq!(answer.code, 200, "{path}");
        assert!(!answer.text.contains(&key) && !answer.text.contains("edged.tokens"), "{path}");
    }
    let dir = lab.stop().await;
    let lab = Lab::start_in(dir).await;
    assert_eq!(lab.whose(&token).await.code, 201);
    lab.end().await;
}
