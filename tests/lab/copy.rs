//! A data directory that was copied to another board: two processes with one key. The later one
//! must see it and end, the first must not even notice.

use std::process::Command;
use std::time::{Duration, Instant};

use super::board::Board;
use super::cluster::Cluster;
use super::pods::{deployment, programs};
use crate::board::command::{Outcome, run, until};
use crate::board::machine::built;

/// What an agent says once it takes part.
const RUNS: &str = "agent a1 listens on";

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

/// `edged agent` with a copy of the first board's data, on another board.
fn copied_agent(of: &Board, on: &Board) -> Command {
    let (from, to) = (of.dir.join("data"), on.dir.join("data"));
    let _ = std::fs::remove_dir_all(&to);
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(&from).arg(&to);
    run(copy).ok();
    // These boards share one boot. On a board of its own nothing that runs is of these records.
    let _ = std::fs::remove_dir_all(to.join("containers"));
    let mut command = on.inside(built("edged"));
    command.args(["agent", "--node-ip", &on.ip.to_string(), "--data-dir"]).arg(&to);
    command.arg("--run-dir").arg(on.dir.join("run-copy"));
    command.args(["--cgroup-parent", &format!("/{}", on.full)]);
    command
}

#[test]
fn a_copy_of_an_agent_gives_way_and_the_first_stays_ready() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(1, 2);
    let [server, first, spare] = &cluster.boards[..] else { panic!("three boards") };
    cluster.found(&[]);
    cluster.join(first);
    let names = ["s1", "a1"];
    cluster.wait_ready(server, &names);
    cluster.load_example();
    let placed =
        deployment("web", 1).replace("      containers:", "      nodeName: a1\n      containers:");
    cluster.ctl(server, &["apply", "-f", &cluster.file("web.yaml", placed)]).ok();
    cluster.wait_running("web", 1);
    let own = programs(first);
    let pid = first.pid();
    let since = || {
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].lastTransitionTime}";
        cluster.ctl(server, &["get", "node", "a1", "-o", path]).ok()
    };
    let ready_since = since();
    let outcome = run(copied_agent(first, spare));
    assert_eq!(outcome.status, 1, "{outcome:?}");
    let last = outcome.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("runs elsewhere right now"), "{outcome:?}");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((since(), first.pid()), (ready_since, pid), "{}", first.log());
    // One that begins while it is cut off gives way when it is not any more.
    spare.pull_cable();
    spare.run(copied_agent(first, spare));
    until("the copy has started", || {
        let runs = spare.log().contains(RUNS) && !programs(spare).is_empty();
        runs.then_some(()).ok_or_else(|| spare.log())
    });
    spare.mend_cable();
    until("the copy gives way", || spare.pid().is_none().then_some(()).ok_or_else(|| spare.log()));
    assert!(spare.log().contains("runs elsewhere right now"), "{}", spare.log());
    assert_eq!(programs(spare), [], "no pod runs twice");
    assert_eq!(programs(first), own);
    cluster.wait_ready(server, &names);
    assert!(pid.is_some() && first.pid() == pid, "{}", first.log());
    // A real restart is no copy, and hardly waits.
    let starts = || first.log().matches(RUNS).count();
    let took = |restart: &dyn Fn()| {
        let (before, begin) = (starts(), Instant::now());
        restart();
        until("it runs again", || (starts() > before).then_some(()).ok_or_else(|| first.log()));
        begin.elapsed()
    };
    let killed = took(&|| {
        first.kill();
        first.spawn();
    });
    let cut = took(&|| first.reboot());
    cluster.wait_ready(server, &names);
    eprintln!("runs pods again {killed:.1?} after a kill, {cut:.1?} after a power cut");
    assert!(killed.as_secs() < 5 && cut.as_secs() < 5, "{killed:?} {cut:?}");
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
    // As after a start that was cut off between the store and the note of it.
    let note = server.dir.join("data/pki/store-begun");
    std::fs::remove_file(&note).expect("it was noted");
    server.spawn();
    until("it is noted again", || note.exists().then_some(()).ok_or_else(|| server.log()));
}
