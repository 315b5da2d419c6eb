//! What people get wrong: each gets one clear line and a failing exit status, and the board goes
//! on as if nothing had been asked.

use std::os::unix::fs::PermissionsExt;

use super::command::{run, until};
use super::machine::{Board, built};

/// (file name, content, words that must be in the complaint).
const MANIFESTS: &[(&str, &str, &[&str])] = &[
    ("tabs.yaml", "apiVersion: v1\nkind: Pod\n\tmetadata: x\n", &["tabs.yaml", "line 3"]),
    ("open.yaml", "apiVersion: v1\nkind: [Pod\n", &["open.yaml", "line"]),
    ("kind.yaml", "apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n", &["Gadget"]),
    (
        "name.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n",
        &["metadata.name", "Invalid value", "Not_A_Name"],
    ),
    (
        "empty.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n",
        &["spec.containers", "Required value"],
    ),
    (
        "type.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: many}\n",
        &["replicas"],
    ),
    (
        "selector.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n  selector: \
         {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: c}}, spec: {containers: \
         [{name: c, image: i}]}}\n",
        &["spec.template.metadata.labels", "Invalid value"],
    ),
];

#[test]
fn manifests_that_are_wrong_are_refused_in_words() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("manifests");
    for (name, content, words) in MANIFESTS {
        let file = board.file(name, content);
        let why = board.ctl(&["apply", "-f", &file]).fails();
        for word in *words {
            assert!(why.contains(word), "{name}: {word:?} is not in {why:?}");
        }
    }
    let file = board.file(
        "unknown.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\ndata: {a: b}\ncolour: red\n",
    );
    let why = board.ctl(&["apply", "--validate=strict", "-f", &file]).fails();
    assert!(why.contains("unknown field \"colour\""), "{why}");
    let warned = board.ctl(&["apply", "--validate=warn", "-f", &file]);
    assert!(warned.stderr.contains("unknown field \"colour\""), "{warned:?}");
    assert_eq!(warned.status, 0);
    let large = "x".repeat(3 << 20);
    let file = board.file(
        "large.yaml",
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: l}}\ndata: {{a: {large}}}\n"),
    );
    let why = board.ctl(&["apply", "-f", &file]).fails();
    assert!(why.len() < 2000 && why.to_lowercase().contains("too large"), "{:.300}", why);
    let names = board.ctl(&["get", "configmaps", "-o", "name"]).ok();
    assert_eq!(names, "configmap/kube-root-ca.crt\nconfigmap/odd\n");
}

#[test]
fn an_update_of_an_old_copy_conflicts() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("conflict");
    board.ctl(&["create", "configmap", "a", "--from-literal=n=1"]).ok();
    let old = board.kubectl(&["get", "configmap", "a", "-o", "json"]).ok();
    board.ctl(&["annotate", "configmap", "a", "touched=yes"]).ok();
    let file = board.file("old.json", old);
    let why = board.kubectl(&["replace", "-f", &file]).fails();
    assert!(why.contains("the object has been modified"), "{why}");
}

#[test]
fn a_second_edged_and_a_taken_port_are_told_apart() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("second");
    let mut second = board.inside(built("edged"));
    second.args(["server", "--listen", "127.0.0.1:7000"]).args(board.flags());
    let why = run(second).fails();
    assert!(why.contains("data") && why.contains("in use"), "{why}");
    let other = board.dir.join("other").display().to_string();
    let mut taken = board.inside(built("edged"));
    taken.args(["server", "--no-agent", "--name", "x", "--node-ip", "127.0.0.1"]);
    taken.args(["--data-dir", &other, "--run-dir", &other]);
    let why = run(taken).fails();
    assert!(why.contains("6443") && why.to_lowercase().contains("in use"), "{why}");
    board.ctl(&["get", "nodes"]).ok();
}

#[test]
fn settings_that_are_wrong_end_with_64_and_their_name() {
    let dir = std::env::temp_dir().join(format!("edt-settings-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a fresh directory");
    let file = dir.join("config.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:1\nlissten: x\n").expect("written");
    let file = file.display().to_string();
    let keys = dir.join("keys.yaml");
    std::fs::write(&keys, "upgrade-keys: [RWQ-and-no-more]\n").expect("written");
    let keys = keys.display().to_string();
    let (pin, secret) = ("p".repeat(43), "s".repeat(22));
    let token = format!("edged1.{pin}.0123abcd.{secret}");
    let data = dir.join("data").display().to_string();
    for (args, word) in [
        (&["server", "--lissten", "x"][..], "--lissten"),
        (&["server", "--listen", "6443"], "listen"),
        (&["server", "--cluster-cidr", "10.42.0.0/99"], "cluster-cidr"),
        (&["server", "--service-cidr", "10.44.0.5/16"], "service-cidr"),
        (&["server", "--service-cidr", "224.1.0.0/16"], "overlaps 224.0.0.0/3"),
        (&["server", "--service-cidr", "10.42.0.0/16"], "overlaps cluster-cidr 10.42.0.0/16"),
        (&["server", "--cluster-domain", "a b"], "cluster-domain: \"a b\""),
        (&["server", "--no-agent", "--node-ip", "10.43.5.1"], "this board's own address 10.43.5.1"),
        (&["server", "--config", &file], "lissten"),
        (&["server", "--config", &keys], "upgrade-keys: \"RWQ-and-no-more\" is no public key"),
        (&["server", "--join", "foo", "--node-ip", "127.0.0.1"], "join: \"foo\" is not a server"),
        (&["agent", "--token", "edged1.x", "--node-ip", "127.0.0.1"], "its end is missing"),
        (&["server", "--token", &token, "--node-ip", "127.0.0.1"], "give --join"),
        (&["server", "--config", "/no/such/file"], "/no/such/file"),
        (&["serve"], "serve"),
    ] {
        let mut command = std::process::Command::new(built("edged"));
        command.args(args).env("EDGED_DATA_DIR", &data);
        let outcome = run(command);
        assert_eq!(outcome.status, 64, "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(word), "{args:?}: {}", outcome.stderr);
    }
    assert!(!dir.join("data").exists(), "nothing was begun");
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn a_recovery_of_nothing_leaves_nothing() {
    let dir = std::env::temp_dir().join(format!("edt-recover-{}", std::process::id()));
    let mut command = std::process::Command::new(built("edged"));
    command.args(["recover", "--force", "--node-ip", "127.0.0.1", "--name", "x", "--data-dir"]);
    command.arg(&dir);
    let why = run(command).fails();
    assert!(why.contains("store is not there: name the server's --data-dir"), "{why}");
    assert!(!dir.exists(), "nothing was begun");
}

#[test]
fn a_join_that_was_cut_off_founds_nothing_and_is_no_cluster() {
    let dir = std::env::temp_dir().join(format!("edt-cut-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("pki")).expect("a directory");
    for name in ["beat.key", "ca.key"] {
        std::fs::write(dir.join("pki").join(name), "another cluster's").expect("written");
    }
    let start = |more: &[&str]| {
        let mut command = std::process::Command::new(built("edged"));
        command.args(["server", "--no-agent", "--node-ip", "127.0.0.1", "--name", "x"]);
        command.args(["--listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(&dir).args(more);
        command
    };
    let alone = run(start(&[])).fails();
    assert!(alone.contains("its joining was cut off: give --join and the token"), "{alone}");
    assert!(!dir.join("store").exists(), "nothing was founded");
    // With both it asks again.
    let there = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    there.set_nonblocking(true).expect("a socket");
    let url = format!("https://{}", there.local_addr().expect("an address"));
    let token = format!("edged1.{}.0123abcd.{}", "p".repeat(43), "s".repeat(22));
    let asking = Ending(start(&["--join", &url, "--token", &token]).spawn().expect("it starts"));
    until("it asks", || there.accept().map(|_| ()).map_err(|error| error.to_string()));
    drop(asking);
    let _ = std::fs::remove_dir_all(&dir);
}

/// Ends a program when the test does, however that ends.
struct Ending(std::process::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_token_lives_by_the_clusters_clock_and_not_by_the_boards() {
    let dir = std::env::temp_dir().join(format!("edt-token-{}", std::process::id()));
    let five_years = 5 * 365 * 86_400_000;
    let mut server = std::process::Command::new(built("edged"));
    server.args(["server", "--no-agent", "--name", "x", "--node-ip", "127.0.0.1"]);
    server.args(["--listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0"]);
    server.env(edge_server::clock::SKEW, five_years.to_string());
    server.arg("--data-dir").arg(&dir).stderr(std::process::Stdio::null());
    let server = Ending(server.spawn().expect("edged starts"));
    let made = until("a token is made", || {
        let mut create = std::process::Command::new(built("edged"));
        create.args(["token", "create", "--ttl", "1h", "--data-dir"]).arg(&dir);
        let made = run(create);
        if made.status == 0 { Ok(made) } else { Err(made.stderr) }
    });
    let told = made
        .stderr
        .split_whitespace()
        .find_map(|word| edge_api::time::parse(word.trim_end_matches(':')));
    let end = told.unwrap_or_else(|| panic!("no time in {made:?}"));
    let hours = (end - edge_server::clock::read().wall_ms - five_years) / 3_600_000;
    assert!((0..=1).contains(&hours), "it may be used for one hour of the cluster's: {made:?}");
    drop(server);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn a_broker_that_is_not_there_is_named_once_and_shown() {
    let dir = std::env::temp_dir().join(format!("edt-broker-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a fresh directory");
    let log = dir.join("log");
    let data = dir.join("data");
    let mut server = std::process::Command::new(built("edged"));
    server.args(["server", "--no-agent", "--name", "x", "--node-ip", "127.0.0.1"]);
    server.args(["--listen", "127.0.0.1:0", "--broker", "mqtt://me:hush@127.0.0.1:1"]);
    server.arg("--data-dir").arg(&data).arg("--run-dir").arg(dir.join("run"));
    server.stderr(std::fs::File::create(&log).expect("a log file"));
    let server = Ending(server.spawn().expect("edged starts"));
    // The server works: it is alone. Whoever looks sees what is missing.
    until("what is wrong with the broker is shown", || {
        let mut ask = std::process::Command::new(built("edgectl"));
        ask.arg("--kubeconfig").arg(data.join("admin.kubeconfig"));
        ask.args(["get", "--raw", "/readyz?verbose"]);
        let outcome = run(ask);
        let shown = outcome.stdout.contains("[!]bus no broker") && outcome.status == 0;
        let said = std::fs::read_to_string(&log).expect("what edged said");
        let both = shown && said.contains("127.0.0.1:1");
        both.then_some(()).ok_or_else(|| format!("{outcome:?} {said}"))
    });
    let said = std::fs::read_to_string(&log).expect("what edged said");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("127.0.0.1:1")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("WARN") && lines[0].contains("refused"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    drop(server);
    let kept = data.join("brokers");
    let mode = std::fs::metadata(&kept).expect("the broker is kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has a password");
    assert!(std::fs::read_to_string(&kept).expect("it reads").contains("me:hush@127.0.0.1:1"));
    let _ = std::fs::remove_dir_all(&dir);
}
