//! A board: `edged server` in a network namespace of its own, with its own directories and
//! cgroup, and everything of it gone at the end, whether the test passed or not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::command::{Outcome, must, run, until};

/// Boards of this process so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The address of every board: each is alone in its namespace.
pub(crate) const ADDRESS: &str = "192.168.77.1";

/// Where a built program is: beside this test's own executable.
pub(crate) fn built(program: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("this test has a path");
    // A test is in target/<profile>/deps, the bench in target/<profile>.
    let dirs = [exe.parent(), exe.parent().and_then(Path::parent)];
    // Whoever names binaries means those, and not others that happen to be there.
    let places: Vec<PathBuf> = match std::env::var_os("EDGED_BIN_DIR") {
        Some(named) => vec![named.into()],
        None => dirs.into_iter().flatten().map(Into::into).collect(),
    };
    let found = places.iter().map(|dir| dir.join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} is not in {places:?}: tests/run.sh builds it"))
}

/// A running (or stopped) board.
pub(crate) struct Board {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    edged: Option<Child>,
    /// Whether its data is on a disk of its own.
    disk: bool,
}

impl Board {
    /// Makes a board and starts `edged` on it; it is Ready when this returns.
    pub(crate) fn start(what: &str) -> Board {
        Board::start_on(what, None)
    }

    /// The same with its data on a disk of its own, of so much memory.
    pub(crate) fn start_on(what: &str, disk: Option<&str>) -> Board {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("edt-{}-{n}-{what}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).expect("a fresh directory");
        must("ip", &["netns", "add", &name]);
        let mut board = Board { name, dir, edged: None, disk: disk.is_some() };
        if let Some(size) = disk {
            let data = board.dir.join("data");
            std::fs::create_dir(&data).expect("a fresh directory");
            let data = data.display().to_string();
            must("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "edt-board", &data]);
        }
        for args in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "lan0", "type", "bridge"],
            &["addr", "add", "192.168.77.1/24", "dev", "lan0"],
            &["link", "set", "lan0", "up"],
            &["route", "add", "default", "via", "192.168.77.254"],
        ] {
            board.inside("ip").args(args).status().expect("ip runs");
        }
        board.spawn();
        board.wait_ready();
        board
    }

    /// A command on the board: in its network namespace, with its kubeconfig.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program.as_ref());
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.dir);
        command
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/admin.kubeconfig")
    }

    /// The flags that tell `edged` which board this is.
    pub(crate) fn flags(&self) -> Vec<String> {
        let dir = |part: &str| self.dir.join(part).display().to_string();
        let mut flags = vec!["--data-dir".to_owned(), dir("data"), "--run-dir".into(), dir("run")];
        for (flag, value) in [
            ("--name", "board-1"),
            ("--node-ip", ADDRESS),
            ("--cgroup-parent", &format!("/{}", self.name)),
        ] {
            flags.extend([flag.to_owned(), value.to_owned()]);
        }
        flags
    }

    /// Starts `edged`; its words go to a file beside its data.
    pub(crate) fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("edged.log"))
            .expect("a log file");
        let mut command = self.inside(built("edged"));
        command.arg("server").args(self.flags());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.edged = Some(command.spawn().expect("edged starts"));
    }

    /// Waits until the node is Ready.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        let child = self.edged.as_mut();
        if let Some(status) = child.and_then(|c| c.try_wait().ok().flatten()) {
            panic!("edged ended with {status}: {}", self.log());
        }
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        until("the board is Ready", || {
            let outcome = run(self.edgectl(&["get", "node", "board-1", "-o", path]));
            let ready = outcome.stdout.trim() == "True";
            ready.then_some(()).ok_or_else(|| format!("{outcome:?}\n{}", self.log()))
        });
    }

    /// The process id of `edged` (nsenter replaces itself with it).
    pub(crate) fn pid(&self) -> i32 {
        let id = self.edged.as_ref().expect("edged runs").id();
        i32::try_from(id).expect("a process id")
    }

    /// `kill -9`, and nothing else: what a power cut leaves of a process.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.edged.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; gives the exit status and fails when it takes longer than a board may take.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> i32 {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("edged can be signalled");
        let mut child = self.edged.take().expect("edged runs");
        let status = until("edged ends after SIGTERM", || {
            child.try_wait().map_err(|e| e.to_string())?.ok_or_else(|| "still runs".to_owned())
        });
        status.code().unwrap_or(-1)
    }

    /// What `edged` said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("edged.log")).unwrap_or_default()
    }

    /// `edgectl` with arguments, ready to run.
    pub(crate) fn edgectl(&self, args: &[&str]) -> Command {
        let mut command = self.inside(built("edgectl"));
        command.args(args);
        command
    }

    /// Runs `edgectl`.
    pub(crate) fn ctl(&self, args: &[&str]) -> Outcome {
        run(self.edgectl(args))
    }

    /// Runs `kubectl`.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Outcome {
        let mut command = self.inside(std::env::var("KUBECTL").unwrap_or("kubectl".into()));
        command.args(args);
        run(command)
    }

    /// Writes a file beside the board's data and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, content).expect("a file can be written");
        path.display().to_string()
    }

    /// Loads the example image: a static web server that edged makes from itself.
    #[track_caller]
    pub(crate) fn load_example(&self) {
        let archive = self.dir.join("webserver.tar");
        let mut command = Command::new(built("edged"));
        command.arg("webserver").arg("--archive").arg(&archive);
        run(command).ok();
        self.ctl(&["image", "load", &archive.display().to_string()]).ok();
    }

    /// Loads `example.org/busybox:1`: see [`busybox_archive`].
    #[track_caller]
    pub(crate) fn load_busybox(&self) {
        self.ctl(&["image", "load", &busybox_archive(&self.dir)]).ok();
    }
}

/// Makes an image of Debian's static busybox with the tools that people have, in an archive under
/// the name `example.org/busybox:1`.
#[track_caller]
pub(crate) fn busybox_archive(dir: &Path) -> String {
    let rootfs = dir.join("busybox");
    std::fs::create_dir_all(rootfs.join("bin")).expect("a directory");
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = places.into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox-static: tests/setup.sh test installs it");
    std::fs::copy(busybox, rootfs.join("bin/busybox")).expect("a copy");
    std::os::unix::fs::symlink("busybox", rootfs.join("bin/sh")).expect("a link");
    let layout = dir.join("bb-layout").display().to_string();
    let image = format!("{layout}:latest");
    must("umoci", &["init", "--layout", &layout]);
    must("umoci", &["new", "--image", &image]);
    let bin = rootfs.join("bin").display().to_string();
    must("umoci", &["insert", "--image", &image, &bin, "/bin"]);
    must("umoci", &["config", "--image", &image, "--config.env", "PATH=/bin"]);
    let file = dir.join("bb.tar").display().to_string();
    let to = format!("oci-archive:{file}:example.org/busybox:1");
    must("skopeo", &["copy", "-q", &format!("oci:{image}"), &to]);
    file
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, self.log());
        }
        let mut cleanup = self.inside(built("edged"));
        cleanup.arg("cleanup").args(self.flags());
        let outcome = run(cleanup);
        if outcome.status != 0 {
            eprintln!("cleanup of {}: {}", self.name, outcome.stderr);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        if self.disk {
            must("umount", &["-l", &self.dir.join("data").display().to_string()]);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
