//! Which program `edged` becomes: one that was brought is compared with what came before it is
//! run, since a card that rots says nothing by itself. And how a server gets one that runs no pods.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edge_api::release::Version;
use edge_core::upgrade::{Installed, Slot, State, Target, Watch};
use sha2::{Digest, Sha256};

use super::command::{Outcome, run, until};
use super::machine::built;
use crate::lab::upgrade::{places, program, versioned};

/// A data directory with a script for a program in each slot.
struct Slots(PathBuf);

impl Slots {
    fn new(name: &str) -> Slots {
        let dir = std::env::temp_dir().join(format!("edt-slots-{name}-{}", std::process::id()));
        let slots = Slots(dir);
        let mut state = State::default();
        for slot in [Slot::A, Slot::B] {
            let script = format!("#!/bin/sh\necho \"slot {} runs: $*\"\n", slot.name());
            let file = slots.program(slot);
            std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            std::fs::write(&file, &script).expect("written");
            executable(&file);
            let digest = Sha256::digest(script.as_bytes());
            let program = Installed {
                version: Version::parse(env!("CARGO_PKG_VERSION")).expect("a version"),
                digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
                bytes: script.len() as u64,
                proven: true,
            };
            state.install(slot, program);
        }
        state.current = Some(Slot::B);
        slots.keep(&state);
        slots
    }

    fn keep(&self, state: &State) {
        std::fs::write(self.0.join("upgrade/state.json"), state.write()).expect("written");
    }

    fn program(&self, slot: Slot) -> PathBuf {
        self.0.join("upgrade").join(slot.name()).join("edged")
    }

    fn state(&self) -> State {
        let bytes = std::fs::read(self.0.join("upgrade/state.json")).expect("a state");
        State::read(&bytes).expect("what edged wrote")
    }

    /// Starts a server, which this very program would not become.
    fn start(&self) -> Outcome {
        let mut command = Command::new(built("edged"));
        command.args(["server", "--listen", "nowhere", "--data-dir"]).arg(&self.0);
        run(command)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(file, mode).expect("it is ours");
}

#[test]
fn a_program_that_rots_gives_way_to_the_one_before_and_that_to_the_packages() {
    let slots = Slots::new("rot");
    let whole = slots.start();
    assert!(whole.stdout.starts_with("slot b runs: server --listen nowhere"), "{whole:?}");
    let mut rotten = std::fs::read(slots.program(Slot::B)).expect("a program");
    rotten[20] ^= 4;
    std::fs::write(slots.program(Slot::B), rotten).expect("written");
    // A tool changes nothing, and runs nothing that is damaged.
    let mut tool = Command::new(built("edged"));
    tool.args(["token", "--data-dir"]).arg(&slots.0);
    let tool = run(tool);
    assert!(tool.stderr.contains("damaged") && tool.status == 64, "{tool:?}");
    assert_eq!(slots.state().current, Some(Slot::B));
    let start = slots.start();
    let line = "upgrade/b/edged is not run: its file on the disk is damaged: its digest is another";
    assert!(start.stderr.contains(line), "{start:?}");
    assert!(start.stdout.starts_with("slot a runs: server"), "{start:?}");
    let state = slots.state();
    assert_eq!((state.current, &state.b), (Some(Slot::A), &None));
    assert!(state.failed.is_some_and(|failed| failed.why.contains("damaged")));
    assert_eq!(slots.start().stderr, "", "said once");
    let file = std::fs::File::options().write(true).open(slots.program(Slot::A)).expect("a file");
    file.set_len(7).expect("it is cut");
    let start = slots.start();
    assert!(start.stderr.contains("a/edged is not run: ") && start.status == 64, "{start:?}");
    assert!(start.stderr.contains("damaged: it has 7 bytes of 33"), "{start:?}");
    assert!(start.stderr.contains("listen"), "the package's own: {start:?}");
    assert_eq!(slots.state().current, None);
}

/// Each start of a script is a process that ends without a word.
#[test]
fn a_program_that_crashes_after_its_trial_gives_way_to_the_one_before() {
    let slots = Slots::new("watch");
    let mut state = slots.state();
    state.watch = Some(Watch { before: Target::Slot(Slot::A), crashes: 0, life: None });
    slots.keep(&state);
    for crashes in 0..3 {
        let start = slots.start();
        // Two that began in one tick of the kernel's clock (10 ms) would be one process.
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.stdout.starts_with("slot b runs"), "{crashes}: {start:?}");
        assert_eq!(slots.state().watch.map(|watch| watch.crashes), Some(crashes));
    }
    let start = slots.start();
    let why = "is given up: it passed its trial, and then crashed 3 times";
    assert!(start.stderr.contains(why) && start.stdout.starts_with("slot a runs"), "{start:?}");
    let state = slots.state();
    assert_eq!((state.current, &state.watch, &state.b), (Some(Slot::A), &None, &None));
    assert_eq!(slots.start().stderr, "", "said once");
}

/// A server without an agent, at a port that stays when it becomes another program.
struct Server {
    dir: PathBuf,
    child: std::process::Child,
}

impl Server {
    fn start() -> Server {
        let dir = std::env::temp_dir().join(format!("edt-bare-{}", std::process::id()));
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let listen = free.local_addr().expect("an address").to_string();
        drop(free);
        let mut command = Command::new(built("edged"));
        command.args(["server", "--no-agent", "--name", "bare", "--node-ip", "127.0.0.1"]);
        command.args(["--listen", &listen, "--broker-listen", "127.0.0.1:0", "--data-dir"]);
        std::fs::create_dir_all(&dir).expect("a directory");
        let log = std::fs::File::create(dir.join("log")).expect("a file");
        let child = command.arg(dir.join("data")).stderr(log).spawn().expect("edged starts");
        Server { dir, child }
    }

    fn upgrade(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(built("edgectl"));
        command.arg("--kubeconfig").arg(self.dir.join("data/admin.kubeconfig")).arg("upgrade");
        run({
            command.args(arguments);
            command
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_server_without_an_agent_is_upgraded_from_a_directory_of_releases() {
    let server = Server::start();
    until("the server says what it runs", || {
        let told = server.upgrade(&[]);
        told.stdout.contains("bare").then_some(()).ok_or(told.stderr)
    });
    let machine = if std::env::consts::ARCH == "arm" { "armv7" } else { std::env::consts::ARCH };
    let releases = server.dir.join("releases");
    std::fs::create_dir_all(releases.join("v0.2.0")).expect("made");
    let file = program();
    let good = releases.join(format!("v0.2.0/edged-{machine}"));
    std::fs::write(good, versioned(&file, "0.2.0")).expect("written");
    let from = releases.display().to_string();
    let fails = |arguments: &[&str], word: &str| {
        let line = server.upgrade(arguments).fails();
        assert!(line.contains(word) && line.trim_end().lines().count() == 1, "{line}");
    };
    fails(&["--version", "0.2.0"], "--from URL or DIRECTORY, or $EDGED_RELEASES");
    fails(&["--version", "0.3.0", "--from", &from], "too new");
    fails(&["--version", "0.1.1", "--from", &from], "there is no ");
    let release = ["--version", "0.2.0", "--from", &from, "--deadline", "20", "--settle", "0"];
    let unsigned = server.upgrade(&release);
    assert!(unsigned.fails().contains("has no upgrade-keys"));
    let output = server.upgrade(&[&release[..], &["--allow-unsigned"]].concat());
    assert!(output.status == 0, "{output:?}: {}", server.log());
    assert!(output.stdout.contains("server/bare: edged 0.2.0 runs"), "{output:?}");
    let shown = server.upgrade(&[]).ok();
    let line = shown.lines().find(|line| line.starts_with("bare")).unwrap_or_default();
    assert!(line.contains("0.2.0") && line.contains(" a"), "{shown}");
    // One that never hears that its leader hears it goes back.
    let mut deaf = versioned(&file, "0.2.1");
    for at in places(&deaf, b"/edged/v1/servers") {
        deaf[at + 10..at + 17].copy_from_slice(b"serverz");
    }
    let bad = server.dir.join("bad");
    std::fs::write(&bad, deaf).expect("written");
    let bad = bad.display().to_string();
    let arguments = ["--file", &bad, "--allow-unsigned", "--deadline", "5"];
    let line = server.upgrade(&arguments).fails();
    let told = "0.2.1 was given up, 0.2.0 runs again: it was not healthy within 5 s";
    assert!(line.contains(told), "{line}: {}", server.log());
}
