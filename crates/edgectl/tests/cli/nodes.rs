//! Boards that are marked, tainted and emptied, in kubectl's words.

use crate::world::World;

const NODES: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {room: shed}}\n---\n\
                     apiVersion: v1\nkind: Node\nmetadata: {name: n2}\n";

async fn world() -> World {
    let world = World::new().await;
    world.run_with("apply -f -", NODES).await.ok();
    world
}

async fn pod(world: &World, name: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: n1\n  \
         containers: [{{name: c, image: \"c:1\"}}]\n"
    );
    world.run_with("apply -f -", &text).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boards_are_cordoned_and_uncordoned() {
    let world = world().await;
    let table = [
        ("cordon n1 --dry-run=client", "node/n1 cordoned (dry run)\n"),
        ("cordon n1 --dry-run=server", "node/n1 cordoned (server dry run)\n"),
        ("cordon n1", "node/n1 cordoned\n"),
        ("cordon n1 node/n2", "node/n1 already cordoned\nnode/n2 cordoned\n"),
        ("uncordon n1 n2", "node/n1 uncordoned\nnode/n2 uncordoned\n"),
        ("uncordon -l room=shed", "node/n1 already uncordoned\n"),
    ];
    for (line, said) in table {
        assert_eq!(world.run(line).await.ok(), said, "{line}");
    }
    let table = [
        (
            "cordon",
            "error: USAGE: cordon NODE [flags]\nSee 'edgectl cordon -h' for help and examples\n",
        ),
        ("cordon n9", "Error from server (NotFound): nodes \"n9\" not found\n"),
        (
            "drain n1 -l a=b",
            "error: error: cannot specify both a node name and a --selector option\n\
             See 'edgectl drain -h' for help and examples\n",
        ),
    ];
    for (line, said) in table {
        assert_eq!(world.run(line).await.fails(), said, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boards_are_drained() {
    let world = world().await;
    pod(&world, "a").await;
    let said = world.run("drain n1").await;
    assert_eq!(said.code, 1);
    assert_eq!(said.out, "node/n1 cordoned\n");
    let why = "cannot delete Pods that declare no controller (use --force to override): default/a";
    assert_eq!(
        said.err,
        format!(
            "error: unable to drain node \"n1\" due to error: {why}, continuing command...\n\
             There are pending nodes to be drained:\n n1\n{why}\n"
        )
    );
    let dry = world.run("drain n1 --force --dry-run=client").await;
    assert_eq!(
        dry.ok(),
        "node/n1 already cordoned (dry run)\nevicting pod default/a (dry run)\n\
         node/n1 drained (dry run)\n"
    );
    let server = world.run("drain n1 --force --dry-run=server").await.ok();
    assert!(server.ends_with("node/n1 drained (server dry run)\n"), "{server}");
    // Nobody on that board says that the pod has ended.
    let late = world.run("drain n1 --force --timeout=1s").await;
    assert_eq!(late.code, 1);
    let words = "error when waiting for pod \"a\" in namespace \"default\" to terminate: \
                 global timeout reached: 1s";
    assert!(late.err.contains(words), "{}", late.err);
    assert!(late.err.contains("There are pending pods in node \"n1\""), "{}", late.err);
    let done = world.run("drain n1 --force --grace-period=0").await;
    assert_eq!(done.err, "Warning: deleting Pods that declare no controller: default/a\n");
    assert_eq!(
        done.out,
        "node/n1 already cordoned\nevicting pod default/a\npod/a evicted\nnode/n1 drained\n"
    );
    pod(&world, "b").await;
    let deleted = world.run("drain n1 --force --grace-period=0 --disable-eviction").await.ok();
    assert!(deleted.contains("pod/b deleted\n"), "{deleted}");
    assert_eq!(world.run("drain n2").await.ok(), "node/n2 cordoned\nnode/n2 drained\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boards_are_tainted() {
    let world = world().await;
    let table = [
        ("taint nodes n1 gpu=yes:NoSchedule --dry-run=client", "node/n1 tainted (dry run)\n"),
        ("taint nodes n1 gpu=yes:NoSchedule", "node/n1 tainted\n"),
        ("taint node n1 gpu=no:NoSchedule --overwrite", "node/n1 modified\n"),
        ("taint node n1 x:NoExecute gpu-", "node/n1 modified\n"),
        ("taint nodes --all y:PreferNoSchedule", "node/n1 tainted\nnode/n2 tainted\n"),
        ("taint no -l room=shed y-", "node/n1 untainted\n"),
        ("taint node/n1 x:NoExecute-", "node/n1 untainted\n"),
    ];
    for (line, said) in table {
        assert_eq!(world.run(line).await.ok(), said, "{line}");
    }
    let taints = "get node n1 -o jsonpath={.spec.taints}";
    assert_eq!(world.run(taints).await.ok(), "");
    world.run("taint nodes n1 x:NoExecute").await.ok();
    let when = world.run("get node n1 -o jsonpath={.spec.taints[0].timeAdded}").await.ok();
    assert!(when.ends_with('Z'), "{when}");
    let table = [
        (
            "taint nodes n1 x=1:NoExecute",
            "error: node n1 already has x taint(s) with same effect(s) and --overwrite is false\n",
        ),
        ("taint nodes n1 z-", "error: taint \"z\" not found\n"),
        ("taint nodes n1", "error: at least one taint update is required\n"),
        ("taint nodes n9 z:NoSchedule", "Error from server (NotFound): nodes \"n9\" not found\n"),
        (
            "taint pods p z:NoSchedule",
            "error: invalid resource type pods, only node types are supported\n",
        ),
        (
            "taint nodes z:NoSchedule",
            "error: at least one resource name must be specified since 'all' parameter is not \
             set\n",
        ),
    ];
    for (line, said) in table {
        assert_eq!(world.run(line).await.fails(), said, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_is_described_with_its_heartbeat() {
    let world = world().await;
    world.run("taint nodes n1 x:NoSchedule").await.ok();
    let beat = r#"{"v":1,"node":"n1","boot":"b","session":"s","seq":1,"nonce":"","every":400,
        "usage":{"cpu":1,"cpuUsed":0,"memory":1,"memoryUsed":0,"disk":1,"diskUsed":0}}"#;
    world.server.beats().beat("n1", beat.as_bytes()).unwrap();
    let page = world.run("describe node n1").await.ok();
    for line in ["Taints:             x:NoSchedule", "  HolderIdentity:  n1", "  RenewTime:"] {
        assert!(page.contains(line), "{line:?} in {page}");
    }
    assert!(page.contains("PodCIDR:"), "{page}");
    assert!(!page.contains("Failed to get lease"), "{page}");
}
