//! The command line itself: mistakes, help, versions, and a server that is not there.

use crate::world::{World, run_words};
use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_come_with_a_suggestion() {
    let nowhere = Path::new("/no/such/kubeconfig");
    let said = run_words(nowhere, &["get", "pods", "--show-label"], "").await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("unexpected argument '--show-label'"), "{}", said.err);
    assert!(said.err.contains("'--show-labels'"), "{}", said.err);
    let said = run_words(nowhere, &["gett"], "").await.fails();
    assert!(said.contains("'get'"), "{said}");
    let said = run_words(nowhere, &["get", "pods"], "").await.fails();
    assert!(said.starts_with("error: read /no/such/kubeconfig: "), "{said}");
    let help = run_words(nowhere, &["logs", "--help"], "").await.ok();
    assert!(help.contains("--previous"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let script = run_words(nowhere, &["completion", shell], "").await.ok();
        assert!(script.contains("edgectl"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is() {
    let world = World::new().await;
    let info = world.run("cluster-info").await.ok();
    assert!(
        info.starts_with("Kubernetes control plane is running at https://127.0.0.1:"),
        "{info}"
    );
    let version = world.run("version").await.ok();
    assert!(version.contains("Client Version: v") && version.contains("Server Version: v"));
    let resources = world.run("api-resources").await.ok();
    let deployments: Vec<&str> = resources
        .lines()
        .find(|line| line.starts_with("deployments "))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(deployments, ["deployments", "deploy", "apps/v1", "true", "Deployment"]);
    assert!(world.run("api-versions").await.ok().contains("apps/v1\n"));
    let said = world.run("get nonsense").await.fails();
    assert_eq!(said, "error: the server doesn't have a resource type \"nonsense\"\n");
    let context = world.run("config current-context").await.ok();
    assert!(!context.trim().is_empty());
    let view = world.run("config view").await.ok();
    assert!(view.contains("DATA+OMITTED") && !view.contains("BEGIN"), "{view}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there() {
    let world = World::new().await;
    let line = "get pods -s https://127.0.0.1:1";
    assert_eq!(
        world.run(line).await.fails(),
        "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or \
         port?\n"
    );
    let other = format!("get pods -s https://localhost:{}", world.server.address().port());
    let plain = world.run(&other.replace("https", "http")).await.fails();
    assert!(!plain.is_empty());
}
