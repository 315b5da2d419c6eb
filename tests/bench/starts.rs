//! How long a container takes, from the request to the running process: a whole pod through our
//! API, our bare runtime, `runc run` and `podman run`, in turn, so that the machine's mood is
//! the same for all.

use std::time::Instant;

use edge_api::{Object, kinds, meta};
use edge_client::{Client, Config, DeleteParams, WatchEvent, WatchParams, WriteParams};
use serde_json::json;

use super::peers::{Bare, Podman, Runc};
use super::table::{Table, percentile};
use crate::board::machine::Board;

/// Runs async work on a thread that stands in the board's network.
fn on_board<T: Send>(board: &Board, work: impl AsyncFnOnce(Client) -> T + Send) -> T {
    let path = format!("/run/netns/{}", board.name);
    let kubeconfig = board.kubeconfig();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let namespace = std::fs::File::open(path).expect("the board's namespace");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let config = Config::from_kubeconfig(&kubeconfig, None).expect("a kubeconfig");
                work(Client::new(config).expect("a client")).await
            })
        });
        thread.join().expect("the work ends")
    })
}

fn pod(name: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"bench": "yes"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": "edged/webserver:1", "imagePullPolicy": "IfNotPresent"}]}})
}

fn is_running(pod: &Object) -> bool {
    pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
}

/// Creates a pod, waits until it is reported running, and deletes it again. Milliseconds.
async fn one_pod(client: &Client, name: &str) -> f64 {
    let params = WatchParams {
        field_selector: Some(format!("metadata.name={name}")),
        ..WatchParams::default()
    };
    let mut watch = client.watch(kinds::POD, "default", &params).await.expect("a watch");
    let begin = Instant::now();
    let options = WriteParams::default();
    client.create(kinds::POD, "default", &pod(name), &options).await.expect("a pod");
    loop {
        match watch.next().await.expect("the watch goes on").expect("no error") {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is_running(&pod) => break,
            _ => {}
        }
    }
    let took = begin.elapsed().as_secs_f64() * 1e3;
    client.delete(kinds::POD, "default", name, &DeleteParams::default()).await.expect("deleted");
    loop {
        if let WatchEvent::Deleted(_) = watch.next().await.expect("the watch").expect("no error") {
            return took;
        }
    }
}

/// The four, in turn.
pub(crate) fn side_by_side(table: &mut Table, board: &Board, times: usize) {
    let rootfs = super::peers::rootfs(&board.dir);
    let mut bare = Bare::new(&board.dir, &rootfs);
    let runc = Runc::new(&board.dir, &rootfs);
    let podman = Podman::new(&rootfs);
    let mut ours = Vec::new();
    let (mut bares, mut runcs, mut podmans) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..times {
        ours.push(on_board(board, async |client| one_pod(&client, &format!("one-{n}")).await));
        bares.push(bare.start(n));
        runcs.extend(runc.as_ref().map(|runc| runc.run(n)));
        podmans.extend(podman.as_ref().map(|podman| podman.run(n)));
    }
    let base = percentile(&bares, 0.5);
    table.add("bare runtime, create + start", "ms", &bares, None, None);
    let to = Some(("bare runtime", base));
    table.add("pod: API create → running", "ms", &ours, Some(3.0 * base), to);
    for (name, samples) in [("runc run", runcs), ("podman run", podmans)] {
        if samples.is_empty() {
            eprintln!("SKIPPED: {name} is not installed");
        } else {
            table.add(name, "ms", &samples, None, Some(("bare runtime", base)));
        }
    }
}

/// Many pods at once, until all are Running. They stay, for whoever measures a loaded board.
pub(crate) fn many(table: &mut Table, board: &Board, count: usize) {
    let took = on_board(board, async move |client| {
        let params =
            WatchParams { label_selector: Some("bench=yes".into()), ..WatchParams::default() };
        let mut watch = client.watch(kinds::POD, "default", &params).await.expect("a watch");
        let begin = Instant::now();
        let creations = (0..count).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let pod = pod(&format!("many-{n}"));
                let options = WriteParams::default();
                client.create(kinds::POD, "default", &pod, &options).await.expect("a pod");
            })
        });
        let creations: Vec<_> = creations.collect();
        let mut running = std::collections::BTreeSet::new();
        while running.len() < count {
            match watch.next().await.expect("the watch goes on").expect("no error") {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is_running(&pod) => {
                    running.insert(meta::name(&pod).to_owned());
                }
                _ => {}
            }
        }
        for creation in creations {
            creation.await.expect("created");
        }
        begin.elapsed().as_secs_f64() * 1e3
    });
    table.one(&format!("{count} pods at once → all running"), "ms", took, None);
}
