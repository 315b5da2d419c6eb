//! All servers are lost at once, with their disks. A backup that was taken under load brings the
//! cluster back on a board that has never been in it: every object that was acknowledged before,
//! the same authority, and the pods of a board that lives untouched.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use edge_api::kinds;
use edge_client::{Client, WriteParams};
use serde_json::json;

use super::Ended;
use super::board::Board;
use super::cluster::Cluster;
use super::load::{clients, runtime};
use super::pods::{deployment, programs};
use crate::board::command::{Outcome, run, until};
use crate::board::machine::built;

/// What backups are encrypted with here.
const PASSPHRASE: &str = "correct horse battery staple";
/// Writes that go on while the backup is taken, before it is.
const BEFORE: usize = 40;

/// Runs `edgectl` with the passphrase in its environment, and a kubeconfig of one's own.
fn ctl(cluster: &Cluster, kubeconfig: &str, args: &[&str]) -> Outcome {
    let mut command: Command = cluster.person.command(built("edgectl"));
    command.env("EDGED_BACKUP_PASSPHRASE", PASSPHRASE).env("HOME", &cluster.dir);
    command.args(["--kubeconfig", kubeconfig]).args(args);
    run(command)
}

/// One client's ConfigMaps, one after the other; each is noted once it is acknowledged.
async fn write(client: &Client, acknowledged: &Mutex<Vec<String>>, done: &AtomicBool) {
    for number in 0.. {
        if done.load(Ordering::Acquire) {
            return;
        }
        let name = format!("w-{number}");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                         "data": {"filling": "x".repeat(500)}});
        let params = WriteParams::default();
        let made = client.create(kinds::CONFIG_MAP, "default", &map, &params).await;
        if made.is_ok() {
            acknowledged.lock().expect("no panic").push(name);
        }
    }
}

/// Takes a backup, from a server that does not lead, while somebody writes; what had been
/// acknowledged before, and after it.
fn backup_under_load(cluster: &Cluster, kubeconfig: &str, file: &str) -> [Vec<String>; 2] {
    let acknowledged = Mutex::new(Vec::new());
    // The third server does not run yet.
    let leader = &cluster.leader().expect("somebody leads").name;
    let follower = cluster.boards[..2].iter().find(|board| board.name != *leader);
    let url = format!("https://{}:6443", follower.expect("two servers").ip);
    let known = || acknowledged.lock().expect("no panic").clone();
    let client = clients(cluster).remove(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Ended(&done);
        scope.spawn(|| {
            cluster.person.within(|| runtime().block_on(write(&client, &acknowledged, &done)))
        });
        until("some writes are acknowledged", || {
            (known().len() >= BEFORE).then_some(()).ok_or_else(|| known().len().to_string())
        });
        let before = known();
        ctl(cluster, kubeconfig, &["--server", &url, "backup", file, "--encrypt"]).ok();
        let at_end = known().len();
        until("writes go on", || {
            (known().len() > at_end).then_some(()).ok_or_else(|| at_end.to_string())
        });
        drop(ended);
        [before, known()]
    })
}

/// Every name of a kind in all namespaces.
fn names(outcome: Outcome) -> BTreeSet<String> {
    outcome.ok().split_whitespace().map(str::to_owned).collect()
}

/// A board loses its current, and its card is another one.
fn lose(board: &Board) {
    board.power_cut();
    std::fs::remove_dir_all(board.dir.join("data")).expect("a card");
    board.power_on();
}

#[test]
fn a_lost_cluster_comes_back_on_a_board_that_was_never_in_it() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(3, 1);
    let [first, second, spare, agent] = &cluster.boards[..] else { panic!("four boards") };
    cluster.found(&["--service-cidr", "10.44.0.0/16"]);
    cluster.join(second);
    cluster.join(agent);
    cluster.wait_ready(first, &["s1", "s2", "a1"]);
    cluster.load_example();
    let placed =
        deployment("web", 1).replace("      containers:", "      nodeName: a1\n      containers:");
    let placed = placed.replacen("name: web", "name: stays", 1);
    let both = format!("{}\n---{placed}", deployment("free", 3));
    cluster.ctl(first, &["apply", "-f", &cluster.file("both.yaml", both)]).ok();
    cluster.wait_running("web", 1);
    cluster.wait_running("free", 3);
    cluster.ctl(first, &["create", "secret", "generic", "kept", "--from-literal=a=b"]).ok();
    // What a person has on a laptop, of before.
    let old = cluster.dir.join("laptop.kubeconfig").display().to_string();
    std::fs::copy(cluster.kubeconfig(first), &old).expect("a kubeconfig");
    let token = ["create", "token", "default"];
    let token = cluster.ctl(first, &token).ok().trim().to_owned();
    let file = cluster.dir.join("all.edgebak").display().to_string();
    let [before, ever] = backup_under_load(&cluster, &old, &file);
    let revision: u64 = {
        let args = ["get", "cm", ever.last().expect("writes"), "-o"];
        let path = "jsonpath={.metadata.resourceVersion}";
        cluster.ctl(first, &[&args[..], &[path]].concat()).ok().parse().expect("a revision")
    };
    let own: BTreeSet<_> = programs(agent).into_iter().collect();
    assert!(!own.is_empty());

    lose(first);
    lose(second);
    spare.spawn();
    cluster.wait_ready(spare, &["s3"]);
    refused_where_something_is(&cluster, spare, &file);
    let fresh = cluster.kubeconfig(spare).display().to_string();
    let said = ctl(&cluster, &fresh, &["restore", &file]).ok();
    assert!(said.contains("kubeconfigs of old work again"), "{said}");

    // The laptop's own, with nothing changed but where the server is.
    let text = std::fs::read_to_string(&old).expect("a kubeconfig");
    let text = text.replace(&first.ip.to_string(), &spare.ip.to_string());
    std::fs::write(&old, text).expect("a kubeconfig");
    token_counts(&cluster, spare, &token);
    as_before(&cluster, &old, &before, revision);
    let now: BTreeSet<_> = programs(agent).into_iter().collect();
    assert!(now.is_superset(&own), "the living board's pods went on: {own:?} {now:?}");
    // A board of old comes as a new one, under its old name.
    let token = cluster.token_of(spare, "--server");
    let url = format!("https://{}:6443", spare.ip);
    second.spawn_with(&["--join", &url, "--token", &token]);
    cluster.wait_ready(spare, &["s2", "s3", "a1"]);
}

/// Everything is there that was, and runs.
fn as_before(cluster: &Cluster, old: &str, before: &[String], revision: u64) {
    let get = |args: &[&str]| ctl(cluster, old, &[&["get"], args].concat());
    let path = "jsonpath={range .items[*]}{.metadata.name} {end}";
    let maps = names(get(&["cm", "-o", path]));
    for name in before {
        assert!(maps.contains(name), "{name} was acknowledged before the backup");
    }
    get(&["secret", "kept"]).ok();
    let number = "jsonpath={.metadata.resourceVersion}";
    ctl(cluster, old, &["create", "configmap", "later"]).ok();
    let later: u64 = get(&["cm", "later", "-o", number]).ok().parse().expect("a revision");
    assert!(later > revision + 1_000_000, "{later} after {revision}");
    let address = "jsonpath={.spec.clusterIP}";
    assert_eq!(get(&["service", "kubernetes", "-o", address]).ok(), "10.44.0.1");
    until("the agent has found it, and all runs again", || {
        let ready = "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type==\
                     \"Ready\")].status} {end}";
        let nodes = get(&["nodes", "-o", ready]).stdout;
        let running = get(&["pods", "--field-selector=status.phase=Running", "-o", path]).stdout;
        let pods = running.split_whitespace().count();
        let all = nodes.contains("a1=True") && nodes.contains("s3=True") && pods == 4;
        let others = nodes.contains("s1=") || nodes.contains("s2=");
        (all && !others).then_some(()).ok_or_else(|| format!("{nodes}\n{running}"))
    });
}

/// A ServiceAccount's token of before is known, though it may not do much.
fn token_counts(cluster: &Cluster, server: &Board, token: &str) {
    let mut command: Command = cluster.person.command(built("edgectl"));
    command.env_remove("KUBECONFIG").env("HOME", &cluster.dir);
    command.args(["--server", &format!("https://{}:6443", server.ip), "--token", token]);
    command.args(["--insecure-skip-tls-verify", "get", "nodes"]);
    let why = run(command).fails();
    assert!(why.contains("system:serviceaccount:default:default"), "{why}");
}

/// A cluster with something in it keeps it, and says why.
fn refused_where_something_is(cluster: &Cluster, spare: &Board, file: &str) {
    let fresh = cluster.kubeconfig(spare).display().to_string();
    ctl(cluster, &fresh, &["create", "configmap", "mine"]).ok();
    let why = ctl(cluster, &fresh, &["restore", file]).fails();
    let last = why.lines().last().unwrap_or_default();
    assert!(last.contains("not empty, it has configmap/mine in default"), "{why}");
    ctl(cluster, &fresh, &["get", "cm", "mine"]).ok();
    assert!(!spare.dir.join("data/restore/backup").exists());
    ctl(cluster, &fresh, &["delete", "configmap", "mine"]).ok();
}
