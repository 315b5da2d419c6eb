//! A data directory that was copied to another board: two processes with one key. The later one
//! must see it and end, the first must not even notice.

use std::time::Instant;

use super::board::Board;
use super::cluster::Cluster;
use crate::board::command::{Outcome, run, until};
use crate::board::machine::built;

/// Copies the data of a board to another one and starts that.
fn start_copy(of: &Board, on: &Board) -> Outcome {
    let starts = || of.log().matches("API at").count();
    let before = starts();
    let (from, to) = (of.dir.join("data"), on.dir.join("data"));
    let _ = std::fs::remove_dir_all(&to);
    of.kill();
    let mut copy = std::process::Command::new("cp");
    copy.arg("-r").arg(&from).arg(&to);
    run(copy).ok();
    of.spawn();
    until("the first one is up again", || {
        (starts() > before).then_some(()).ok_or_else(|| of.log())
    });
    let mut command = on.inside(built("edged"));
    command.args(["server", "--no-agent", "--node-ip", &on.ip.to_string(), "--data-dir"]);
    command.arg(&to).arg("--run-dir").arg(on.dir.join("run-copy"));
    run(command)
}

#[test]
fn a_copy_of_a_server_is_refused_and_the_first_goes_on() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(4, 0);
    let [founder, second, third, spare] = &cluster.boards[..] else { panic!("four boards") };
    cluster.found(&[]);
    cluster.join(second);
    cluster.join(third);
    let names = ["s1", "s2", "s3"];
    for server in [founder, second, third] {
        cluster.wait_ready(server, &names);
    }
    for first in [founder, second] {
        let outcome = start_copy(first, spare);
        let pid = first.pid();
        assert!(outcome.status > 0, "{outcome:?}");
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("runs elsewhere right now"), "{outcome:?}");
        cluster.wait_ready(first, &names);
        let servers = cluster.ctl(third, &["get", "servers"]).ok();
        assert!(names.iter().all(|name| servers.contains(name)), "{servers}");
        assert!(first.pid().is_some() && first.pid() == pid, "{}", first.log());
        assert!(first.log().contains("another process with this server's identity"));
        let map = format!("copy-of-{}", first.name);
        cluster.ctl(first, &["create", "configmap", &map]).ok();
    }
    // A real restart is no copy: killed, and after a power cut whose connections still stand.
    let begin = Instant::now();
    second.kill();
    second.spawn();
    cluster.wait_ready(second, &names);
    let killed = begin.elapsed();
    let begin = Instant::now();
    second.reboot();
    cluster.wait_ready(second, &names);
    eprintln!("ready again {killed:.1?} after a kill, {:.1?} after a power cut", begin.elapsed());
    assert!(begin.elapsed().as_secs() < 15);
    for server in [founder, third] {
        without_its_store(server);
        cluster.wait_ready(server, &names);
    }
}

/// A server that comes back without its store is refused, makes none, and goes on once it is put
/// back.
fn without_its_store(server: &Board) {
    let store = server.dir.join("data/store");
    let aside = store.with_extension("aside");
    server.kill();
    std::fs::rename(&store, &aside).expect("the store is there");
    let outcome = run(server.edged(&[]));
    let last = outcome.stderr.lines().last().unwrap_or_default();
    assert!(outcome.status == 1 && last.contains("store is missing"), "{outcome:?}");
    assert!(last.contains("edgectl server remove"), "{last}");
    assert!(!store.exists(), "none was begun");
    std::fs::rename(&aside, &store).expect("put back");
    server.spawn();
}
