//! Servers that run no pods have no Node, and are known all the same; and boards whose joining went
//! wrong on their side ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use edge_server::Config;
use edge_server::join::{KEY_ANNOTATION, Membership, PROTOCOL, Role};
use serde_json::{Value, json};

use super::joins::{
    Applicant, DAY_MS, JSON, Written, joined, moved, now_ms, post, refused, token, until_refused,
};
use super::{Lab, ask};

/// Keys of servers without a Node.
const KEYS: &str = "/api/v1/namespaces/kube-system/configmaps/edged-servers";

/// A server that takes others for members, under a clock that the test moves.
async fn lab(by: &Arc<AtomicI64>) -> (Lab, Arc<Written>) {
    let written = Arc::new(Written::default());
    let members = written.clone();
    let take = |config: &mut Config| {
        config.cluster.membership = Some(members);
        config.cluster.clock = moved(by);
    };
    (Lab::start_with(take).await, written)
}

async fn nodes(lab: &Lab) -> Value {
    lab.get("/api/v1/nodes").await.json()["items"].clone()
}

#[tokio::test]
async fn a_server_without_pods_has_no_node_and_a_key() {
    let by = Arc::new(AtomicI64::new(0));
    let (lab, written) = lab(&by).await;
    let board = Applicant::new(&lab, "s");
    let ticket = token(&lab, Role::Server, now_ms() + DAY_MS).await;
    let mut request = board.request(&ticket.to_string(), "s2", "server");
    request["pods"] = json!(false);
    let answer = joined(&post(&lab, "join", &request).await);
    assert_eq!((answer.pod_cidr.as_str(), nodes(&lab).await), ("", json!([])));
    assert!(written.list().iter().any(|server| server.name == "s2"));
    let kept = lab.get(KEYS).await.json();
    assert_eq!(kept["data"], json!({"s2": board.key.hash().as_str()}));
    // Its name is its own, also while it is off for so long that its certificate ends.
    let other = Applicant::new(&lab, "o");
    let agents = token(&lab, Role::Agent, now_ms() + DAY_MS).await;
    refused(&other.join(&lab, &agents, "s2", "agent").await, 409, "is a server's");
    by.store(40 * DAY_MS, Ordering::Relaxed);
    let csr = board.key.request("s2").unwrap();
    let body = json!({"protocol": PROTOCOL, "version": "0.1.0", "csr": csr}).to_string();
    let client = board.client(&lab, &answer.node_cert);
    let renewed = ask(&client, "POST", "/edged/v1/renew", &JSON, &body).await;
    assert_eq!(renewed.code, 200, "{}", renewed.text);
    by.store(0, Ordering::Relaxed);
    // Taken out, it can be revoked like any other board.
    let server = board.client(&lab, &answer.server_cert);
    let revoke = "/edged/v1/nodes/s2/revoke";
    let member = lab.send("POST", revoke, &json!({})).await;
    refused(&member, 409, "take it out with `edgectl server remove s2` first");
    assert_eq!(lab.ask("DELETE", "/edged/v1/servers/s2", &[], "").await.code, 200);
    let done = lab.send("POST", revoke, &json!({})).await;
    assert_eq!(done.code, 200, "{}", done.text);
    until_refused(&server).await;
    // The next of that name is another board, with a Node that says whose it is.
    joined(&other.join(&lab, &agents, "s2", "agent").await);
    assert!(lab.get(KEYS).await.json()["data"]["s2"].is_null());
    assert_eq!(nodes(&lab).await.as_array().map(Vec::len), Some(1));
    lab.end().await;
}

#[tokio::test]
async fn a_server_that_runs_pods_no_more_gives_its_node_up() {
    let by = Arc::new(AtomicI64::new(0));
    let (lab, _) = lab(&by).await;
    let board = Applicant::new(&lab, "s");
    let ticket = token(&lab, Role::Server, now_ms() + DAY_MS).await;
    let answer = joined(&board.join(&lab, &ticket, "s2", "server").await);
    assert_eq!(answer.pod_cidr, "10.42.1.0/24");
    assert_eq!(lab.get(KEYS).await.code, 404, "its Node says it");
    let path = "/edged/v1/servers/nodeless";
    let node = board.client(&lab, &answer.node_cert);
    assert_eq!(ask(&node, "POST", path, &[], "").await.code, 403, "for its server to say");
    let server = board.client(&lab, &answer.server_cert);
    assert_eq!(ask(&server, "POST", path, &[], "").await.code, 200);
    assert_eq!(nodes(&lab).await, json!([]));
    let kept = lab.get(KEYS).await.json();
    assert_eq!(kept["data"]["s2"], board.key.hash().as_str());
    // Said again, nothing is written.
    assert_eq!(ask(&server, "POST", path, &[], "").await.code, 200);
    assert_eq!(lab.get(KEYS).await.json(), kept);
    // With pods again it makes its Node, which has its key and addresses.
    let made = json!({"metadata": {"name": "s2"}}).to_string();
    let made = ask(&node, "POST", "/api/v1/nodes", &JSON, &made).await.json();
    assert_eq!(made["metadata"]["annotations"][KEY_ANNOTATION], board.key.hash().as_str());
    assert!(made["spec"]["podCIDR"].is_string(), "{made}");
    lab.end().await;
}

#[tokio::test]
async fn whoever_was_let_in_can_ask_again_for_as_long_as_the_token_lives() {
    let by = Arc::new(AtomicI64::new(0));
    let (lab, written) = lab(&by).await;
    let board = Applicant::new(&lab, "s");
    let ticket = token(&lab, Role::Server, now_ms() + DAY_MS).await;
    let first = joined(&board.join(&lab, &ticket, "s2", "server").await);
    by.store(DAY_MS / 2, Ordering::Relaxed);
    let again = joined(&board.join(&lab, &ticket, "s2", "server").await);
    assert_eq!((&again.pod_cidr, &again.secret), (&first.pod_cidr, &first.secret));
    assert!(written.list().iter().all(|server| server.name == "s2"));
    assert_eq!(nodes(&lab).await.as_array().map(Vec::len), Some(1));
    // Not as another board beside the one that it is, and nobody else.
    let renamed = board.join(&lab, &ticket, "s3", "server").await;
    refused(&renamed, 403, "let this board in as s2: give it that name with --name");
    let other = Applicant::new(&lab, "o");
    refused(&other.join(&lab, &ticket, "s2", "server").await, 403, "was used by s2");
    by.store(2 * DAY_MS, Ordering::Relaxed);
    refused(&board.join(&lab, &ticket, "s2", "server").await, 403, "expired at");
    // With another token it is let in as what it is.
    let next = token(&lab, Role::Server, now_ms() + 3 * DAY_MS).await;
    let again = joined(&board.join(&lab, &next, "s2", "server").await);
    assert_eq!(again.pod_cidr, first.pod_cidr);
    lab.end().await;
}
