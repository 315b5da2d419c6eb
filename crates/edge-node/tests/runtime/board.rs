//! A board for one test: directories, a root file system of busybox, pinned namespaces, and a
//! runtime on them. All of it goes away with the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edge_node::runtime::{Runtime, RuntimeConfig};
use edge_node::seams::{ContainerSpec, Exit, Limits, SandboxPaths, Security};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc::Receiver;

static NEXT: AtomicU32 = AtomicU32::new(0);
/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Board {
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) namespaces: SandboxPaths,
    pub(crate) runtime: Runtime,
    pub(crate) exits: Receiver<Exit>,
}

impl Board {
    pub(crate) fn new() -> Board {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("edge-runtime-{}-{number}", std::process::id());
        Board::at(std::env::temp_dir().join(&name), format!("/{name}"))
    }

    pub(crate) fn at(dir: PathBuf, cgroup: String) -> Board {
        make_root(&dir.join("layer"));
        let namespaces = pin_namespaces(&dir.join("ns"));
        let (runtime, exits) = Runtime::new(config(&dir, &cgroup)).unwrap();
        Board { dir, cgroup, namespaces, runtime, exits }
    }

    /// A container that runs a shell script.
    pub(crate) fn script(&self, id: &str, script: &str) -> ContainerSpec {
        spec(&self.dir, &self.namespaces, id, &["sh", "-c", script])
    }

    pub(crate) fn log(&self, id: &str) -> String {
        fs::read_to_string(self.dir.join("logs").join(id).join("0.log")).unwrap_or_default()
    }

    /// The texts of a container's log, without time and marks.
    pub(crate) fn lines(&self, id: &str) -> Vec<String> {
        let text = |l: &str| l.splitn(4, ' ').nth(3).unwrap_or("").to_owned();
        self.log(id).lines().map(text).collect()
    }

    /// Starts a script, waits for its end, and answers it with the log.
    pub(crate) async fn run(&mut self, spec: &ContainerSpec) -> (Exit, Vec<String>) {
        self.runtime.start(spec).await.unwrap();
        let exit = self.exit().await;
        assert_eq!(exit.id, spec.id);
        (exit, self.lines(&spec.id))
    }

    pub(crate) async fn exit(&mut self) -> Exit {
        tokio::time::timeout(PATIENCE, self.exits.recv()).await.expect("an exit").unwrap()
    }

    /// Takes all away, and checks that nothing is left.
    pub(crate) async fn close(self) {
        self.runtime.cleanup().await.unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let inside = |l: &&str| l.contains(self.dir.to_str().unwrap()) && !l.contains("/ns/");
        assert_eq!(mounts.lines().filter(inside).collect::<Vec<_>>(), [""; 0], "orphan mounts");
        for dir in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = dir.path().join(&self.cgroup[1..]);
            assert!(!group.exists(), "orphan cgroup {}", group.display());
        }
        let left: Vec<_> = ["run", "data"]
            .iter()
            .flat_map(|d| fs::read_dir(self.dir.join(d).join("containers")).unwrap())
            .collect();
        assert!(left.is_empty(), "orphan directories {left:?}");
        remove(&self.dir);
    }
}

pub(crate) fn config(dir: &Path, cgroup: &str) -> RuntimeConfig {
    RuntimeConfig {
        run_dir: dir.join("run"),
        data_dir: dir.join("data"),
        cgroup_parent: cgroup.into(),
        // The bench measures the real program by this.
        exe: std::env::var_os("EDGED_TEST_EXE").map(Into::into),
    }
}

pub(crate) fn remove(dir: &Path) {
    for name in ["net", "ipc", "uts"] {
        let _ = umount2(&dir.join("ns").join(name), MntFlags::MNT_DETACH);
    }
    fs::remove_dir_all(dir).unwrap();
}

pub(crate) fn spec(
    dir: &Path,
    namespaces: &SandboxPaths,
    id: &str,
    args: &[&str],
) -> ContainerSpec {
    ContainerSpec {
        id: id.into(),
        pod_uid: "0000-pod".into(),
        pod_namespace: "default".into(),
        pod_name: "pod".into(),
        name: "main".into(),
        attempt: 0,
        spec_hash: "hash".into(),
        layers: vec![dir.join("layer")],
        image: "busybox".into(),
        image_id: "sha256:0".into(),
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: vec!["GREETING=hello".into()],
        cwd: "/".into(),
        image_user: String::new(),
        namespaces: namespaces.clone(),
        mounts: vec![],
        limits: Limits::default(),
        security: Security { allow_privilege_escalation: true, ..Security::default() },
        log_path: dir.join("logs").join(id).join("0.log"),
        log_max_bytes: 10 << 20,
        log_max_files: 5,
        tty: false,
        stdin: false,
        host_pid: false,
        oom_score_adj: 0,
    }
}

/// A layer with busybox, some users, and the directories that an image has.
pub(crate) fn make_root(root: &Path) {
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "data"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("busybox: apt-get install busybox-static");
    for name in [
        "sh", "cat", "echo", "ls", "sleep", "id", "env", "true", "false", "kill", "head", "tail",
        "dd", "grep", "mknod", "mount", "unshare", "seq", "tty", "stty", "touch", "wc", "hostname",
        "ps", "chmod", "tr", "od", "ip", "su", "yes", "awk", "pwd", "readlink", "umount", "chroot",
    ] {
        let _ = symlink("busybox", root.join("bin").join(name));
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/data:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nwww:x:34:\nlog:x:40:web\n").unwrap();
}

/// Namespaces of a pod, pinned as the network room pins them.
pub(crate) fn pin_namespaces(dir: &Path) -> SandboxPaths {
    fs::create_dir_all(dir).unwrap();
    let pinned = dir.to_path_buf();
    let pin = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
            .unwrap();
        nix::unistd::sethostname("pod").unwrap();
        for name in ["net", "ipc", "uts"] {
            let file = pinned.join(name);
            fs::write(&file, "").unwrap();
            let namespace = format!("/proc/thread-self/ns/{name}");
            let none = None::<&str>;
            mount(Some(&*namespace), &file, none, MsFlags::MS_BIND, none).unwrap();
        }
    };
    std::thread::spawn(pin).join().unwrap();
    SandboxPaths { net: Some(dir.join("net")), ipc: dir.join("ipc"), uts: Some(dir.join("uts")) }
}

/// Waits until something is so.
pub(crate) async fn within(so: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// True when a process has this in its command line, whose arguments are NUL-terminated.
pub(crate) fn is_running(words: &str) -> bool {
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path().join("cmdline"));
    let mut texts = lines.filter_map(|p| fs::read(p).ok());
    texts.any(|t| String::from_utf8_lossy(&t).contains(words))
}
