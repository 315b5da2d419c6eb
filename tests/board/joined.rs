//! Two boards on one LAN, each in a network namespace of its own: one founds a cluster, the other
//! joins it with a token, runs a pod, is killed, comes back without a word, and is thrown out.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::command::{Outcome, must, run, until};
use super::machine::{ADDRESS, Board, built};

/// The address of the board that joins.
const OWN: &str = "192.168.77.2";

/// A board that joins another's cluster.
struct Joiner {
    name: String,
    dir: PathBuf,
    edged: Option<Child>,
}

impl Joiner {
    /// A machine on the LAN of `server`, on which nothing runs yet.
    fn beside(server: &Board) -> Joiner {
        let name = format!("{}-joiner", server.name);
        let dir = server.dir.with_file_name(&name);
        std::fs::create_dir(&dir).expect("a fresh directory");
        must("ip", &["netns", "add", &name]);
        let end = format!("j{}", std::process::id());
        let joiner = Joiner { name: name.clone(), dir, edged: None };
        let pair = ["link", "add", &end, "type", "veth", "peer", "name", "lan0", "netns", &name];
        for args in
            [&pair[..], &["link", "set", &end, "master", "lan0"], &["link", "set", &end, "up"]]
        {
            assert!(
                server.inside("ip").args(args).status().expect("ip runs").success(),
                "{args:?}"
            );
        }
        let cidr = format!("{OWN}/24");
        for args in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", &cidr, "dev", "lan0"],
            &["link", "set", "lan0", "up"],
            &["route", "add", "default", "via", "192.168.77.254"],
        ] {
            assert!(
                joiner.inside("ip").args(args).status().expect("ip runs").success(),
                "{args:?}"
            );
        }
        joiner
    }

    fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program.as_ref());
        command
    }

    /// Where this board keeps its things; `data` in a directory of this name.
    fn flags(&self, data: &str) -> Vec<String> {
        let dir = |part: &str| self.dir.join(part).display().to_string();
        let cgroup = format!("/{}", self.name);
        let flags =
            ["--data-dir", &dir(data), "--run-dir", &dir("run"), "--cgroup-parent", &cgroup];
        flags.map(str::to_owned).to_vec()
    }

    /// `edged agent` that is expected to end by itself.
    fn try_agent(&self, data: &str, token: &str, args: &[&str]) -> Outcome {
        let mut command = self.inside(built("edged"));
        command.arg("agent").args(self.flags(data)).args(args).env("EDGED_TOKEN", token);
        run(command)
    }

    /// Starts `edged agent`; its words go to a file.
    fn start(&mut self, token: &str, args: &[&str]) {
        let path = self.dir.join("edged.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let mut command = self.inside(built("edged"));
        command.arg("agent").args(self.flags("data")).args(args).env("EDGED_TOKEN", token);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log file"));
        self.edged = Some(command.spawn().expect("edged starts"));
    }

    /// What `edged` said so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("edged.log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.edged.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, self.log());
        }
        let mut cleanup = self.inside(built("edged"));
        cleanup.arg("cleanup").args(self.flags("data")).args(["--name", "x"]);
        let outcome = run(cleanup);
        if outcome.status != 0 {
            eprintln!("cleanup of {}: {}", self.name, outcome.stderr);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Makes a token on the server's board.
fn token(server: &Board, args: &[&str]) -> String {
    let mut command = server.inside(built("edged"));
    command.args(["token", "create"]).args(server.flags()).args(args);
    let printed = run(command).ok();
    printed.lines().last().expect("a token").to_owned()
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: far}\nspec:\n  nodeName: joiner\n  \
                   tolerations: [{operator: Exists}]\n  containers:\n  - {name: web, \
                   image: 'edged/webserver:1'}\n";

#[track_caller]
fn ready(server: &Board) {
    server.ctl(&["wait", "--for=create", "node/joiner", "--timeout=30s"]).ok();
    server.ctl(&["wait", "--for=condition=Ready", "node/joiner", "--timeout=30s"]).ok();
}

/// What is wrong is said in one line, and costs nothing.
fn refused(board: &Joiner, good: &str, there: &[&str], url: &str) {
    let flip = |text: &str, at: usize| {
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    };
    let bare = ["--name", "joiner", "--join", "foo"];
    let broker = format!("https://{ADDRESS}:8883");
    let broker = ["--name", "joiner", "--join", &broker];
    let agent = format!("https://{ADDRESS}:10250");
    let agent = ["--name", "joiner", "--join", &agent];
    let cases: [(&str, &str, &[&str], i32, &str); 9] = [
        ("a word for a server", good, &bare, 64, "\"foo\" is not a server such as"),
        ("no token", "", there, 1, "--join needs a token"),
        ("no server", good, &["--name", "joiner"], 1, "has not joined a cluster yet"),
        ("cut", &good[..good.len() - 4], there, 64, "its end is missing"),
        ("another authority", &flip(good, 10), there, 1, "not the one that the token names"),
        ("another secret", &flip(good, good.len() - 3), there, 1, "has another secret"),
        ("the broker's port", good, &broker, 1, "the API is on 6443: --join https://192.168.77.1"),
        ("the agent's port", good, &agent, 1, "the API is on 6443: --join https://192.168.77.1"),
        ("a taken name", good, &["--name", "board-1", "--join", url], 1, "is a server's"),
    ];
    for (what, token, args, status, words) in cases {
        let outcome = board.try_agent("wrong", token, args);
        assert_eq!(outcome.status, status, "{what}: {outcome:?}");
        let line = outcome.stderr.trim_end();
        assert!(line.contains(words) && !line.contains('\n'), "{what}: {line:?}");
        assert!(!board.dir.join("wrong/cluster.json").exists(), "{what}");
    }
}

#[test]
fn a_board_joins_runs_a_pod_returns_and_is_thrown_out() {
    if !super::can_run() {
        return;
    }
    let server = Board::start("founder");
    let mut board = Joiner::beside(&server);
    let url = format!("https://{ADDRESS}:6443");
    let there = ["--name", "joiner", "--join", &url];
    let good = token(&server, &["--ttl", "1h"]);

    refused(&board, &good, &there, &url);

    // Where nobody answers it goes on asking, and says so once.
    board.start(&good, &["--name", "joiner", "--join", "https://192.168.77.9:6443"]);
    until("the board says that it waits", || {
        let log = board.log();
        let waits = log.contains("it is tried again until a server answers");
        waits.then_some(()).ok_or(log)
    });
    board.kill();

    // The address need not be known: servers of the LAN answer, and the token says which is meant.
    board.start(&good, &["--name", "joiner", "--join", "auto"]);
    ready(&server);
    let used = board.try_agent("late", &good, &["--name", "late", "--join", &url]).fails();
    assert!(used.contains("was used by joiner"), "{used}");

    server.load_example();
    let file = server.file("far.yaml", POD);
    server.ctl(&["apply", "-f", &file]).ok();
    server.ctl(&["wait", "--for=condition=Ready", "pod/far", "--timeout=60s"]).ok();
    let at = server.ctl(&["get", "pod", "far", "-o", "jsonpath={.status.podIP}"]).ok();
    assert!(at.starts_with("10.42.1."), "the joined board's own part: {at}");
    let id = "jsonpath={.status.containerStatuses[0].containerID}";
    let first = server.ctl(&["get", "pod", "far", "-o", id]).ok();
    server.ctl(&["logs", "far"]).ok();

    // Killed and started again, it knows where it belongs; the container never noticed.
    board.kill();
    let other = board.try_agent("data", "", &["--name", "other"]).fails();
    assert!(other.contains("belongs to the board \"joiner\""), "{other}");
    key_of_another(&board);
    board.start("", &[]);
    until("the board listens again", || {
        let outcome = server.ctl(&["logs", "far"]);
        (outcome.status == 0).then_some(()).ok_or(outcome.stderr)
    });
    assert_eq!(server.ctl(&["get", "pod", "far", "-o", id]).ok(), first);

    thrown_out_and_let_in(&server, &mut board, &url);
    assert_eq!(server.ctl(&["get", "pod", "far", "-o", id]).ok(), first, "it ran on");
    server.ctl(&["delete", "pod", "far"]).ok();
}

/// A directory with another board's key is refused, as it is with another cluster's token,
/// and good again when its own key is back.
fn key_of_another(board: &Joiner) {
    let key = board.dir.join("data/pki/board.key");
    let own = std::fs::read(&key).expect("the board's key");
    std::fs::copy(board.dir.join("wrong/pki/board.key"), &key).expect("another's key");
    let mixed = board.try_agent("data", "", &[]);
    assert_eq!(mixed.status, 1, "{mixed:?}");
    assert!(mixed.stderr.contains("are not of one board"), "{mixed:?}");
    std::fs::write(&key, own).expect("its own key is back");
    let another = format!("edged1.{}.0123abcd.{}", "p".repeat(43), "s".repeat(22));
    let moved = board.try_agent("data", &another, &["--join", "https://192.168.77.9"]);
    assert_eq!(moved.status, 1, "{moved:?}");
    assert!(moved.stderr.contains("and the token is of another one"), "{moved:?}");
}

/// A board that is thrown out says so, once, and keeps its pod; with a new token it is back.
fn thrown_out_and_let_in(server: &Board, board: &mut Joiner, url: &str) {
    server.ctl(&["node", "revoke", "joiner"]).ok();
    let words = format!("connection of {OWN}");
    until("its session on the bus is ended", || {
        let log = server.log();
        log.contains("ended the bus session of joiner").then_some(()).ok_or(log)
    });
    until("its connections are ended", || {
        let log = server.log();
        let told = log.lines().any(|l| l.contains(&words) && l.contains("was revoked"));
        told.then_some(()).ok_or(log)
    });
    let turned_away = "the cluster turns this board away: this key was revoked";
    until("the board says so", || {
        let log = board.log();
        log.contains(turned_away).then_some(()).ok_or(log)
    });
    let log = board.log();
    assert_eq!(log.matches(turned_away).count(), 1, "{log}");
    assert!(!log.contains("docs.rs"), "{log}");
    server.ctl(&["wait", "--for=condition=Ready=Unknown", "node/joiner", "--timeout=30s"]).ok();
    board.kill();
    board.start(&token(server, &[]), &["--join", url]);
    ready(server);
    until("the board answers with its new key", || {
        let outcome = server.ctl(&["logs", "far"]);
        (outcome.status == 0).then_some(()).ok_or(outcome.stderr)
    });
}
