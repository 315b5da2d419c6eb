//! Boards that come with a token: one that is right, and every one that is not; renewals, also too
//! late; keys that are revoked, and what is left of their connections.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_client::{Client, ListParams, WatchParams};
use edge_core::clock::{ClusterClock, Reading};
use edge_server::Config;
use edge_server::join::{
    Changing, JoinAnswer, KEY_ANNOTATION, Membership, MembershipError, PROTOCOL, RenewAnswer, Role,
    ServerInfo, TOKEN_NAMESPACE, Token,
};
use edge_server::pki::{BoardKey, CertFacts};
use serde_json::{Value, json};

use super::{Answer, Lab, PODS, ask};

pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
pub(super) const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A board that wants to join.
pub(super) struct Applicant {
    pub(super) key: BoardKey,
    dir: std::path::PathBuf,
}

impl Applicant {
    pub(super) fn new(lab: &Lab, name: &str) -> Applicant {
        let dir = lab.dir.join("applicants").join(name);
        Applicant { key: BoardKey::open(&dir).unwrap(), dir }
    }

    /// What it sends.
    pub(super) fn request(&self, token: &str, name: &str, role: &str) -> Value {
        json!({
            "protocol": PROTOCOL, "version": "0.1.0", "token": token, "name": name, "role": role,
            "csr": self.key.request(name).unwrap(), "addresses": ["10.0.0.9"],
            "api": "https://10.0.0.9:6443", "broker": "10.0.0.9:8883", "pods": true,
        })
    }

    pub(super) async fn join(&self, lab: &Lab, token: &Token, name: &str, role: &str) -> Answer {
        post(lab, "join", &self.request(&token.to_string(), name, role)).await
    }

    /// A client with the certificate that a join gave.
    pub(super) fn client(&self, lab: &Lab, cert: &str) -> Client {
        let mut config = lab.anonymous_config();
        config.client_cert_pem = Some(cert.as_bytes().to_vec());
        config.client_key_pem = Some(self.key.pem().into_bytes());
        Client::new(config).unwrap()
    }
}

/// Asks without a certificate.
pub(super) async fn post(lab: &Lab, path: &str, body: &Value) -> Answer {
    let nobody = Client::new(lab.anonymous_config()).unwrap();
    ask(&nobody, "POST", &format!("/edged/v1/{path}"), &JSON, &body.to_string()).await
}

pub(super) fn now_ms() -> i64 {
    edge_server::clock::read().wall_ms
}

/// A token that is stored as `edged token create` stores it.
pub(super) async fn token(lab: &Lab, role: Role, expires_ms: i64) -> Token {
    let ca = ask(&lab.client, "GET", "/edged/v1/ca", &[], "").await.text;
    let token = Token::create(&CertFacts::read(&ca).unwrap().pin).unwrap();
    let path = format!("/api/v1/namespaces/{TOKEN_NAMESPACE}/secrets");
    lab.create(&path, &token.object(role, expires_ms)).await;
    token
}

async fn fresh(lab: &Lab) -> Token {
    token(lab, Role::Agent, now_ms() + DAY_MS).await
}

pub(super) fn joined(answer: &Answer) -> JoinAnswer {
    assert_eq!(answer.code, 200, "{}", answer.text);
    serde_json::from_str(&answer.text).unwrap()
}

#[track_caller]
pub(super) fn refused(answer: &Answer, code: u16, words: &str) {
    let message = answer.message();
    assert_eq!(answer.code, code, "{}", answer.text);
    assert!(message.contains(words) && !message.contains('\n'), "{words:?}: {message}");
}

#[tokio::test]
async fn a_board_joins_once_and_can_ask_again() {
    let lab = Lab::start().await;
    let board = Applicant::new(&lab, "b");
    let token = fresh(&lab).await;
    let answer = joined(&board.join(&lab, &token, "b2", "agent").await);
    assert_eq!((answer.name.as_str(), answer.pod_cidr.as_str()), ("b2", "10.42.1.0/24"));
    assert!(answer.ca_key.is_empty() && answer.secret.is_empty(), "an agent gets no secrets");
    assert_eq!((answer.servers.len(), answer.cluster.len()), (1, 16));
    let facts = CertFacts::read(&answer.node_cert).unwrap();
    assert_eq!((facts.user.as_str(), &facts.key), ("system:node:b2", &board.key.hash()));
    assert_eq!(facts.names.iter().collect::<Vec<_>>(), ["b2"], "no address: those change");
    let days = (facts.not_after * 1000 - now_ms()) / DAY_MS;
    assert!((29..=30).contains(&days), "{days}");
    let node = lab.get("/api/v1/nodes/b2").await.json();
    assert_eq!(node["metadata"]["annotations"][KEY_ANNOTATION], board.key.hash().as_str());
    // Cut off before it had its answer, the board asks again; nobody else can.
    joined(&board.join(&lab, &token, "b2", "agent").await);
    let other = Applicant::new(&lab, "c");
    refused(&other.join(&lab, &token, "c", "agent").await, 403, "was used by b2");
    // The certificate is a board's, and no more than that.
    let client = board.client(&lab, &answer.node_cert);
    let own = "/api/v1/pods?fieldSelector=spec.nodeName%3Db2";
    assert_eq!(ask(&client, "GET", own, &[], "").await.code, 200);
    assert_eq!(ask(&client, "GET", PODS, &[], "").await.code, 403);
    assert_eq!(ask(&client, "GET", "/edged/v1/servers", &[], "").await.code, 200);
    let revoke = "/edged/v1/nodes/b2/revoke";
    assert_eq!(ask(&client, "POST", revoke, &[], "").await.code, 403);
    let second = joined(&other.join(&lab, &fresh(&lab).await, "c", "agent").await);
    assert_eq!(second.pod_cidr, "10.42.2.0/24");
    lab.end().await;
}

#[tokio::test]
async fn tokens_that_are_wrong_are_refused_in_words() {
    let lab = Lab::start().await;
    let board = Applicant::new(&lab, "b");
    let good = fresh(&lab).await;
    let text = good.to_string();
    let try_text = async |text: &str| post(&lab, "join", &board.request(text, "b", "agent")).await;
    refused(&try_text(&text[..text.len() - 3]).await, 403, "its end is missing");
    refused(&try_text("hello").await, 403, "does not begin with");
    let unknown = Token::create(&good.pin).unwrap();
    refused(&try_text(&unknown.to_string()).await, 403, "is not known to this cluster");
    let end = if text.ends_with('A') { "Q" } else { "A" };
    let wrong = format!("{}{end}", &text[..text.len() - 1]);
    refused(&try_text(&wrong).await, 403, "has another secret");
    let expired = token(&lab, Role::Agent, now_ms() - 1000).await;
    refused(&try_text(&expired.to_string()).await, 403, "expired at");
    refused(&board.join(&lab, &good, "b", "server").await, 403, "token create --server");
    for name in ["kubernetes", "10.0.0.1", "Not_A_Name"] {
        refused(&board.join(&lab, &good, name, "agent").await, 400, "board name");
    }
    let mut old = board.request(&text, "b", "agent");
    old["protocol"] = json!(PROTOCOL + 1);
    refused(&post(&lab, "join", &old).await, 400, "is newer, so update");
    old["protocol"] = json!(PROTOCOL);
    old["csr"] = json!("-----BEGIN CERTIFICATE REQUEST-----\nAA==\n");
    assert_eq!(post(&lab, "join", &old).await.code, 400);
    assert_eq!(post(&lab, "join", &json!("x".repeat(100_000))).await.code, 413);
    let servers = token(&lab, Role::Server, now_ms() + DAY_MS).await;
    refused(&board.join(&lab, &servers, "b", "server").await, 409, "start it with --node-ip");
    // After all that the good token is still good, and no board came of it.
    assert_eq!(lab.get("/api/v1/nodes").await.json()["items"], json!([]));
    joined(&board.join(&lab, &good, "b", "agent").await);
    lab.end().await;
}

#[tokio::test]
async fn names_belong_to_keys() {
    let lab = Lab::start().await;
    let (first, second) = (Applicant::new(&lab, "1"), Applicant::new(&lab, "2"));
    let servers = first.join(&lab, &fresh(&lab).await, lab.server.name(), "agent").await;
    refused(&servers, 409, "is a server's: give this board another with --name");
    let answer = joined(&first.join(&lab, &fresh(&lab).await, "b", "agent").await);
    let token = fresh(&lab).await;
    let taken = second.join(&lab, &token, "b", "agent").await;
    refused(&taken, 409, "run `edgectl node revoke b` or `edgectl delete node b`");
    // A board says nothing about whose it is.
    let client = first.client(&lab, &answer.node_cert);
    let patch = json!({"metadata": {"annotations": {KEY_ANNOTATION: "f".repeat(64)}}});
    let merge = [("content-type", "application/merge-patch+json")];
    ask(&client, "PATCH", "/api/v1/nodes/b", &merge, &patch.to_string()).await;
    let node = lab.get("/api/v1/nodes/b").await.json();
    assert_eq!(node["metadata"]["annotations"][KEY_ANNOTATION], first.key.hash().as_str());
    // A Node that the board itself makes anew carries its key again.
    assert_eq!(lab.ask("DELETE", "/api/v1/nodes/b", &[], "").await.code, 200);
    let node = json!({"metadata": {"name": "b"}}).to_string();
    assert_eq!(ask(&client, "POST", "/api/v1/nodes", &JSON, &node).await.code, 201);
    refused(&second.join(&lab, &token, "b", "agent").await, 409, "is taken by another board");
    // Deleted for good, the name goes to whoever joins next, and the old key with it.
    assert_eq!(lab.ask("DELETE", "/api/v1/nodes/b", &[], "").await.code, 200);
    joined(&second.join(&lab, &token, "b", "agent").await);
    until_refused(&client).await;
    assert!(first.dir.join("pki/board.key").exists());
    lab.end().await;
}

/// Waits until a client is not let in any more.
pub(super) async fn until_refused(client: &Client) {
    let path = "/edged/v1/servers";
    let begin = std::time::Instant::now();
    while client.call(&edge_client::Call::get(path)).await.is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(1), "still let in after a second");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_revoked_key_is_out_within_a_second() {
    let lab = Lab::start().await;
    let board = Applicant::new(&lab, "b");
    let answer = joined(&board.join(&lab, &fresh(&lab).await, "b", "agent").await);
    let client = board.client(&lab, &answer.node_cert);
    let services = edge_api::kinds::SERVICE;
    let page = client.list(services, "", &ListParams::default()).await.unwrap();
    let from =
        WatchParams { resource_version: Some(page.resource_version), ..WatchParams::default() };
    let mut watch = client.watch(services, "", &from).await.unwrap();
    let missing = lab.send("POST", "/edged/v1/nodes/nobody/revoke", &json!({})).await;
    assert_eq!(missing.code, 404, "{}", missing.text);
    let done = lab.send("POST", "/edged/v1/nodes/b/revoke", &json!({})).await;
    assert_eq!(done.code, 200, "{}", done.text);
    let ended = async { while let Some(Ok(_)) = watch.next().await {} };
    tokio::time::timeout(Duration::from_secs(1), ended).await.expect("the watch has ended");
    until_refused(&client).await;
    // Whatever it asks, it is told why, and nothing else.
    for path in ["/edged/v1/servers", "/version", "/readyz"] {
        refused(&ask(&client, "GET", path, &[], "").await, 401, "this key was revoked");
    }
    // It cannot come back with the same key, not even with a token; another key can have the name.
    let token = fresh(&lab).await;
    refused(&board.join(&lab, &token, "b9", "agent").await, 403, "key was revoked");
    let other = Applicant::new(&lab, "new");
    joined(&other.join(&lab, &token, "b", "agent").await);
    // The list outlives the server.
    let lab = Lab::start_in(lab.stop().await).await;
    let again = board.client(&lab, &answer.node_cert);
    assert!(again.call(&edge_client::Call::get("/edged/v1/servers")).await.is_err());
    lab.end().await;
}

/// A clock that a test can move.
pub(super) fn moved(by: &Arc<AtomicI64>) -> ClusterClock {
    let by = by.clone();
    ClusterClock::new(0, move || {
        let real = edge_server::clock::read();
        Reading { wall_ms: real.wall_ms + by.load(Ordering::Relaxed), ..real }
    })
}

#[tokio::test]
async fn a_certificate_that_is_over_gets_its_board_another_and_nothing_else() {
    let by = Arc::new(AtomicI64::new(0));
    let lab = Lab::start_with(|config| config.cluster.clock = moved(&by)).await;
    let board = Applicant::new(&lab, "b");
    let answer = joined(&board.join(&lab, &fresh(&lab).await, "b", "agent").await);
    by.store(40 * DAY_MS, Ordering::Relaxed);
    let client = board.client(&lab, &answer.node_cert);
    let own = "/api/v1/pods?fieldSelector=spec.nodeName%3Db";
    // As kube-apiserver answers who shows such a one: it is nobody, not somebody who may nothing.
    refused(&ask(&client, "GET", own, &[], "").await, 401, "it asks for another by itself");
    let renew = |key: &BoardKey| {
        let csr = key.request("b").unwrap();
        json!({"protocol": PROTOCOL, "version": "0.1.0", "csr": csr})
    };
    let path = "/edged/v1/renew";
    let other = Applicant::new(&lab, "o");
    let body = renew(&other.key).to_string();
    refused(&ask(&client, "POST", path, &JSON, &body).await, 403, "another key");
    let body = renew(&board.key).to_string();
    let next = ask(&client, "POST", path, &JSON, &body).await;
    assert_eq!(next.code, 200, "{}", next.text);
    let next: RenewAnswer = serde_json::from_str(&next.text).unwrap();
    assert!(next.time_ms > now_ms() + 39 * DAY_MS);
    let client = board.client(&lab, &next.node_cert);
    assert_eq!(ask(&client, "GET", own, &[], "").await.code, 200);
    refused(&post(&lab, "renew", &renew(&board.key)).await, 403, "with its certificate");
    // A board that nobody knows any more does not come back with what is over.
    assert_eq!(lab.ask("DELETE", "/api/v1/nodes/b", &[], "").await.code, 200);
    by.store(80 * DAY_MS, Ordering::Relaxed);
    let late = board.client(&lab, &next.node_cert);
    refused(&ask(&late, "POST", path, &JSON, &body).await, 403, "knows no board");
    lab.end().await;
}

/// A board's idea of the time.
#[derive(Debug)]
struct Guess {
    now: u64,
    since: Option<u64>,
}

impl edge_client::clock::Clock for Guess {
    fn now(&self) -> u64 {
        self.now
    }

    fn unsure_since(&self) -> Option<u64> {
        self.since
    }
}

#[tokio::test]
async fn a_board_that_does_not_know_the_time_takes_any_that_can_be() {
    let lab = Lab::start().await;
    let today = u64::try_from(now_ms() / 1000).unwrap();
    let (decade, certain) = (10 * 365 * 86_400, Some(today));
    for (now, since, taken) in [
        (today, None, true),
        (0, certain, true),
        (0, None, false),
        (today + decade, certain, true),
        (today + decade, None, false),
        // Since then, the server's certificate cannot have been in time.
        (today, Some(today + decade), true),
        (today + decade, Some(today + decade), false),
    ] {
        let mut config = lab.anonymous_config();
        config.clock = Some(Arc::new(Guess { now, since }));
        let call = edge_client::Call::get("/edged/v1/time");
        let told = Client::new(config).unwrap().call(&call).await;
        assert_eq!(told.is_ok(), taken, "{now} {since:?}: {told:?}");
    }
    lab.end().await;
}

/// Servers that are only written down.
#[derive(Default)]
pub(super) struct Written(pub(super) Mutex<Vec<ServerInfo>>);

impl Membership for Written {
    fn list(&self) -> Vec<ServerInfo> {
        self.0.lock().unwrap().clone()
    }

    fn closed(&self) -> Option<MembershipError> {
        None
    }

    fn add(&self, server: ServerInfo) -> Changing<'_> {
        self.0.lock().unwrap().push(ServerInfo { voter: true, ..server });
        Box::pin(async { Ok(()) })
    }

    fn update(&self, _: ServerInfo) -> Changing<'_> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, name: &str) -> Changing<'_> {
        let mut servers = self.0.lock().unwrap();
        let before = servers.len();
        servers.retain(|server| server.name != name);
        let gone = servers.len() < before;
        let unknown = MembershipError::Unknown(name.to_owned());
        Box::pin(async move { if gone { Ok(()) } else { Err(unknown) } })
    }

    fn transfer(&self, _: Option<&str>) -> Changing<'_> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_server_gets_the_clusters_secrets_and_speaks_for_others() {
    let written = Arc::new(Written::default());
    written.0.lock().unwrap().push(ServerInfo { name: "first".into(), ..ServerInfo::default() });
    let members = written.clone();
    let take = move |config: &mut Config| config.cluster.membership = Some(members);
    let lab = Lab::start_with(take).await;
    let board = Applicant::new(&lab, "s");
    let token = token(&lab, Role::Server, now_ms() + DAY_MS).await;
    let answer = joined(&board.join(&lab, &token, "s2", "server").await);
    assert!(answer.ca_key.contains("PRIVATE KEY") && answer.secret.len() == 64);
    assert!(answer.warnings[0].contains("either of them fails"), "{:?}", answer.warnings);
    let added = written.list()[1].clone();
    assert_eq!((added.name.as_str(), added.broker.as_str()), ("s2", "10.0.0.9:8883"));
    assert_eq!(added.id, board.key.hash().member_id().to_string());
    let facts = CertFacts::read(&answer.server_cert).unwrap();
    assert_eq!(facts.user, "system:server:s2");
    assert_eq!(facts.group.as_deref(), Some(edge_server::SERVERS));
    // What it passes on counts as what the client is.
    let server = board.client(&lab, &answer.server_cert);
    let node = board.client(&lab, &answer.node_cert);
    assert_eq!(ask(&server, "GET", PODS, &[], "").await.code, 200);
    for (group, code) in [("system:masters", 200), ("system:authenticated", 403)] {
        let headers = [("x-remote-user", "eve"), ("x-remote-group", group)];
        assert_eq!(ask(&server, "GET", PODS, &headers, "").await.code, code, "{group}");
        assert_eq!(ask(&node, "GET", PODS, &headers, "").await.code, 403, "{group}");
    }
    // It learns from the others whether it is one of them; nobody else has anything to ask.
    let whether = "/edged/v1/servers/member";
    assert_eq!(ask(&node, "POST", whether, &[], "").await.code, 403);
    assert_eq!(ask(&server, "POST", whether, &[], "").await.json(), json!({"member": true}));
    let gone = lab.ask("DELETE", "/edged/v1/servers/s9", &[], "").await;
    refused(&gone, 404, "no server is called \"s9\"");
    // While it is a member, revoking its key would leave it its vote.
    let revoke = "/edged/v1/nodes/s2/revoke";
    let member = lab.send("POST", revoke, &json!({})).await;
    refused(&member, 409, "take it out with `edgectl server remove s2` first");
    assert_eq!(lab.ask("DELETE", "/edged/v1/servers/s2", &[], "").await.code, 200);
    assert_eq!(ask(&server, "POST", whether, &[], "").await.json(), json!({"member": false}));
    assert_eq!(lab.send("POST", revoke, &json!({})).await.code, 200);
    until_refused(&server).await;
    lab.end().await;
}
