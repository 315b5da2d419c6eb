//! Commands that show things.

use crate::board::Board;
use crate::world::{World, deployment};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_other_formats() {
    let world = World::new().await;
    let _board = Board::join(&world).await;
    let nothing = world.run("get pods").await;
    assert_eq!(
        (nothing.code, nothing.err.as_str()),
        (0, "No resources found in default namespace.\n")
    );
    world.run_with("apply -f -", &deployment("web", 2, "web:1")).await.ok();
    world.run("expose deploy web").await.ok();
    world.run("rollout status deploy/web --timeout=30s").await.ok();
    let pods = world.run("get pods").await.ok();
    let mut lines = pods.lines();
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert!(cells[0].starts_with("web-"), "{line}");
        assert_eq!(cells[1..4], ["1/1", "Running", "0"]);
    }
    let wide = world.run("get pods -o wide").await.ok();
    assert!(wide.contains("10.42.0.2") && wide.contains("board"), "{wide}");
    let several = world.run("get deploy,rs,svc").await.ok();
    assert!(several.contains("deployment.apps/web   2/2 "), "{several}");
    assert!(several.contains("\n\nNAME") && several.contains("service/web"), "{several}");
    let all = world.run("get all --show-labels").await.ok();
    assert!(all.contains("pod/web-") && all.contains("app=web"), "{all}");
    let names = world.run("get deploy/web svc/web -o name").await.ok();
    assert_eq!(names, "deployment.apps/web\nservice/web\n");
    let everywhere = world.run("get svc -A --no-headers").await.ok();
    let first = |line: &str| line.split_whitespace().take(2).eq(["default", "kubernetes"]);
    assert!(everywhere.lines().any(first), "{everywhere}");
    let json = world.run("get deploy web -o json").await.ok();
    assert!(json.starts_with("{\n    \"apiVersion\": \"apps/v1\",\n"), "{json}");
    let list = world.run("get pods -o yaml -l app=web").await.ok();
    assert!(list.starts_with("apiVersion: v1\nitems:\n- apiVersion: v1\n"), "{list}");
    let ready = "get pods -o jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(world.run(ready).await.ok(), "True True");
    let columns = world.run("get deploy -o custom-columns=N:.metadata.name,R:.spec.replicas").await;
    assert_eq!(columns.ok(), "N     R\nweb   2\n");
    let field = world.run("get pods --field-selector status.phase=Pending").await;
    assert_eq!(field.err, "No resources found in default namespace.\n");
    let raw = world.run("get --raw /readyz").await.ok();
    assert!(raw.starts_with("ok"), "{raw}");
    let flags = world.run("get deploy --watch=false --no-headers=true -o name").await.ok();
    assert_eq!(flags, "deployment.apps/web\n");
    let sorted = world.run("get ns --sort-by=.metadata.name -o name").await.ok();
    let mut in_order: Vec<&str> = sorted.lines().collect();
    in_order.sort_unstable();
    assert_eq!(sorted.lines().collect::<Vec<_>>(), in_order);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_shows_each_change_once() {
    let world = World::new().await;
    world.run("create configmap a").await.ok();
    let watch = world.start("get cm -w -o name");
    watch.until("configmap/a\n").await;
    world.run("create configmap b").await.ok();
    watch.until("configmap/b\n").await;
    world.run("delete configmap b").await.ok();
    world.run("create configmap c").await.ok();
    let seen = watch.until("configmap/c\n").await;
    assert_eq!(seen.matches("configmap/b\n").count(), 2, "{seen}");
    let one = world.start("get cm c -w --watch-only");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    world.run("label cm a x=y").await.ok();
    world.run("label cm c x=y").await.ok();
    let seen = one.until("c ").await;
    assert!(seen.starts_with("NAME   DATA   AGE\nc      0      "), "{seen}");
    assert_eq!(seen.lines().count(), 2, "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_description() {
    let world = World::new().await;
    let _board = Board::join(&world).await;
    world.run_with("apply -f -", &deployment("web", 1, "web:1")).await.ok();
    world.run("expose deploy web").await.ok();
    world.run("rollout status deploy/web --timeout=30s").await.ok();
    let page = world.run("describe deploy web").await.ok();
    for part in [
        "Name:                   web\n",
        "Replicas:               1 desired | 1 updated | 1 total | 1 available | 0 unavailable\n",
        "NewReplicaSet:   web-",
        "(1/1 replicas created)\n",
    ] {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
    let pod = world.run("describe pod web").await.ok();
    for part in
        ["Node:             board/127.0.0.1\n", "Controlled By:  ReplicaSet/web-", "QoS Class"]
    {
        assert!(pod.contains(part), "{part:?} is not in\n{pod}");
    }
    let service = world.run("describe svc web").await.ok();
    assert!(service.contains("Endpoints:                10.42.0.2:80\n"), "{service}");
    let node = world.run("describe node board").await.ok();
    assert!(node.contains("(1 in total)") && node.contains("default"), "{node}");
    let missing = world.run("describe pod nothing").await.fails();
    assert_eq!(missing, "Error from server (NotFound): pods \"nothing\" not found\n");
    assert!(world.run("describe cm,ns,secret").await.ok().contains("Status:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_conditions() {
    let world = World::new().await;
    let _board = Board::join(&world).await;
    world.run("run one --image=web:1").await.ok();
    let met = world.run("wait --for=condition=Ready pod/one --timeout=20s").await.ok();
    assert_eq!(met, "pod/one condition met\n");
    let met = world.run("wait --for=jsonpath={.status.phase}=Running pod/one").await.ok();
    assert_eq!(met, "pod/one condition met\n");
    let late = world.run("wait --for=condition=Never pod/one --timeout=1s").await.fails();
    assert_eq!(late, "error: timed out waiting for the condition on pods/one\n");
}
