//! Years go by in jumps: certificates are renewed before their end, whoever was off for longer than
//! they live comes back by itself, old credentials are refused in clear words, and pods run on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use edge_server::pki::CertFacts;

use super::Ended;
use super::board::Board;
use super::cluster::Cluster;
use super::pods::{deployment, programs};
use crate::board::command::{Outcome, run, until};

const DAY_S: i64 = 24 * 60 * 60;

/// When a certificate of a board ends, in days from the real now.
fn ends(board: &Board, file: &str) -> i64 {
    let path = board.dir.join("data").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let now = i64::try_from(now).expect("seconds fit");
    CertFacts::read(&text).map_or(0, |facts| (facts.not_after - now) / DAY_S)
}

/// So many days have passed since the beginning, for all boards that have current.
fn set(cluster: &Cluster, days: i64) {
    cluster.boards.iter().for_each(|board| board.set_clock(days * DAY_S * 1000));
}

/// Waits until everything of a cluster is as it should be on that day.
#[track_caller]
fn well(cluster: &Cluster, days: i64) {
    for server in cluster.servers() {
        let kept = [("pki/server.crt", 100), ("pki/admin.crt", 100)];
        for (file, left) in kept {
            until(&format!("day {days}: {file} of {} is renewed", server.name), || {
                let end = ends(server, file);
                (end > days + left).then_some(()).ok_or_else(|| format!("it ends on day {end}"))
            });
        }
    }
    for board in &cluster.boards[1..] {
        until(&format!("day {days}: the certificate of {} is renewed", board.name), || {
            let end = ends(board, "pki/node.crt");
            (end > days + 8).then_some(()).ok_or_else(|| format!("{end}: {}", board.log()))
        });
    }
    for server in cluster.servers() {
        cluster.wait_ready(server, &["s1", "s2", "a1"]);
        let file = cluster.file("note.yaml", note(days));
        cluster.ctl(server, &["apply", "-f", &file]).ok();
    }
}

fn note(days: i64) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: day}}, data: {{is: '{days}'}}}}")
}

/// Who the pod's token of a board says that it is.
fn whoami(cluster: &Cluster, board: &Board) -> Outcome {
    let mut find = std::process::Command::new("find");
    find.arg(&board.dir).args(["-path", "*kube-api-access*", "-name", "token", "-print", "-quit"]);
    let path = run(find).ok();
    let token = std::fs::read_to_string(path.trim()).unwrap_or_default();
    let server = &cluster.boards[0];
    let mut command = cluster.person("kubectl", server);
    let ca = server.dir.join("data/pki/ca.crt").display().to_string();
    command.env("KUBECONFIG", "/dev/null").args(["auth", "whoami", "-o", "name"]);
    command.args(["--server", &format!("https://{}:6443", server.ip)]);
    command.args(["--certificate-authority", &ca, "--token", token.trim()]);
    run(command)
}

#[test]
fn years_go_by() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(2, 1);
    set(&cluster, 0);
    cluster.form(&[]);
    cluster.load_example();
    let file = cluster.file("web.yaml", deployment("web", 3));
    let first = &cluster.boards[0];
    cluster.ctl(first, &["apply", "-f", &file]).ok();
    cluster.wait_running("web", 3);
    let old = cluster.file("old.kubeconfig", std::fs::read(cluster.kubeconfig(first)).expect("it"));
    let boards: Vec<_> = cluster.boards.iter().map(programs).collect();

    // A month, and a season, while somebody asks without a pause.
    let (over, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let ended = Ended(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                for server in cluster.servers() {
                    cluster.ctl(server, &["get", "pods"]).ok();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for days in [25, 115] {
            set(&cluster, days);
            well(&cluster, days);
        }
        drop(ended);
    });
    println!("{} requests, and none has failed", asked.load(Ordering::Relaxed));
    for board in &cluster.boards {
        until(&format!("the pod's token on {} is of today", board.name), || {
            let outcome = whoami(&cluster, board);
            (outcome.status == 0).then_some(()).ok_or_else(|| format!("{outcome:?}"))
        });
    }

    // Three years at once: everything that was issued is over, and one board was off all the time.
    let off = &cluster.boards[2];
    off.power_cut();
    set(&cluster, 1200);
    off.power_on();
    off.spawn();
    well(&cluster, 1200);
    // `kubectl` keeps what the server says to itself, but for this.
    let kubectl = ("kubectl".into(), &["You must be logged in to the server"][..]);
    let words = &["kubernetes-admin", "ended at", "admin.kubeconfig"][..];
    for (program, words) in [kubectl, (crate::board::machine::built("edgectl"), words)] {
        let mut command = cluster.person.command(&program);
        command.env("KUBECONFIG", &old).env("HOME", &cluster.dir).args(["get", "pods"]);
        let said = run(command).fails();
        assert!(words.iter().all(|word| said.contains(word)), "{}: {said}", program.display());
    }
    cluster.wait_running("web", 3);
    shows_logs(&cluster);
    let now: Vec<_> = cluster.boards.iter().map(programs).collect();
    // The pod of the board that was off may have been placed anew on another.
    for (before, now) in boards[..2].iter().zip(&now) {
        let stay = before.iter().all(|pid| now.contains(pid));
        assert!(stay, "pods that were never off have not been touched: {before:?} {now:?}");
    }
}

/// Waits until every server gets at the logs of all pods.
#[track_caller]
fn shows_logs(cluster: &Cluster) {
    for server in cluster.servers() {
        until("every board shows its logs", || {
            let log = |name: &str| cluster.ctl(server, &["logs", name]);
            let pods = cluster.pods("web");
            let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
            let logs: Vec<_> = names.map(log).collect();
            let all = logs.iter().all(|log| log.stdout.contains("serving on port"));
            (all && !logs.is_empty()).then_some(()).ok_or_else(|| format!("{logs:?}"))
        });
    }
}
