//! What a pod is compared with: our runtime with no API around it, runc, and podman, each
//! starting the same sleeping busybox.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use edge_node::runtime::{Runtime, RuntimeConfig};
use edge_node::seams::{ContainerSpec, Limits, SandboxPaths, Security};

use crate::board::command::{has, must};
use crate::board::machine::built;

/// A root file system with a static busybox in it.
pub(crate) fn rootfs(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for part in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(part)).expect("a fresh directory");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.expect("busybox-static: tests/setup.sh test installs it");
    std::fs::copy(busybox, root.join("bin/busybox")).expect("a copy");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("bin/busybox"), mode).expect("executable");
    root
}

fn timed(mut command: Command) -> f64 {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let status = command.status().expect("the program starts");
    assert!(status.success(), "{command:?}: {status}");
    begin.elapsed().as_secs_f64() * 1e3
}

/// Our runtime: shim, libcontainer, overlay, cgroup, log; no API, no network.
pub(crate) struct Bare {
    runtime: Runtime,
    tokio: tokio::runtime::Runtime,
    rootfs: PathBuf,
    logs: PathBuf,
}

impl Bare {
    pub(crate) fn new(dir: &Path, rootfs: &Path) -> Bare {
        let tokio = tokio::runtime::Runtime::new().expect("a runtime");
        let config = RuntimeConfig {
            run_dir: dir.join("bare/run"),
            data_dir: dir.join("bare/data"),
            cgroup_parent: format!("/edb-{}", std::process::id()),
            exe: Some(built("edged")),
        };
        let (runtime, _exits) = tokio.block_on(async { Runtime::new(config) }).expect("a runtime");
        let logs = dir.join("bare/logs");
        std::fs::create_dir_all(&logs).expect("a directory");
        Bare { runtime, tokio, rootfs: rootfs.to_path_buf(), logs }
    }

    fn spec(&self, n: usize) -> ContainerSpec {
        let ipc = PathBuf::from("/proc/self/ns/ipc");
        ContainerSpec {
            id: format!("bare-{n}"),
            pod_uid: format!("bare-{n}"),
            pod_namespace: "default".into(),
            pod_name: format!("bare-{n}"),
            name: "c".into(),
            attempt: 0,
            spec_hash: "0".into(),
            layers: vec![self.rootfs.clone()],
            image: "bench".into(),
            image_id: "sha256:0".into(),
            args: ["/bin/busybox", "sleep", "1000"].map(Into::into).into(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            image_user: String::new(),
            namespaces: SandboxPaths { net: None, ipc, uts: None },
            mounts: Vec::new(),
            limits: Limits::default(),
            security: Security { allow_privilege_escalation: true, ..Security::default() },
            log_path: self.logs.join(format!("{n}.log")),
            log_max_bytes: 1 << 20,
            log_max_files: 2,
            tty: false,
            stdin: false,
            host_pid: false,
            oom_score_adj: 0,
        }
    }

    /// Create and start, in milliseconds.
    pub(crate) fn start(&mut self, n: usize) -> f64 {
        let spec = self.spec(n);
        self.tokio.block_on(async {
            let begin = Instant::now();
            self.runtime.start(&spec).await.expect("a container");
            let took = begin.elapsed().as_secs_f64() * 1e3;
            self.runtime.kill(&spec.id).await.expect("killed");
            self.runtime.remove(&spec.id).await.expect("removed");
            took
        })
    }
}

/// Debian's runc, on a bundle of the same file system.
pub(crate) struct Runc {
    bundle: PathBuf,
}

impl Runc {
    pub(crate) fn new(dir: &Path, rootfs: &Path) -> Option<Runc> {
        if !has("runc") {
            return None;
        }
        let bundle = dir.join("bundle");
        std::fs::create_dir_all(&bundle).expect("a directory");
        let shown = bundle.display().to_string();
        must("runc", &["spec", "--bundle", &shown]);
        let path = bundle.join("config.json");
        let text = std::fs::read(&path).expect("runc wrote it");
        let mut spec: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        spec["root"]["path"] = rootfs.display().to_string().into();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["/bin/busybox", "sleep", "1000"]);
        // This machine may not let limits be raised, and the others don't try.
        spec["process"]["rlimits"] = serde_json::json!([]);
        std::fs::write(&path, spec.to_string()).expect("a bundle");
        Some(Runc { bundle })
    }

    pub(crate) fn run(&self, n: usize) -> f64 {
        let id = format!("edb-{}-{n}", std::process::id());
        let mut run = Command::new("runc");
        run.args(["run", "--detach", "--bundle"]).arg(&self.bundle).arg(&id);
        let took = timed(run);
        must("runc", &["delete", "--force", &id]);
        took
    }
}

/// Debian's podman, with the file system as it is and no network.
pub(crate) struct Podman {
    rootfs: PathBuf,
}

impl Podman {
    pub(crate) fn new(rootfs: &Path) -> Option<Podman> {
        if !has("podman") {
            return None;
        }
        let podman = Podman { rootfs: rootfs.to_path_buf() };
        // A machine where podman itself can't run is no peer.
        let works = podman.command("edb-probe").status().is_ok_and(|status| status.success());
        podman.remove("edb-probe");
        works.then_some(podman)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new("podman");
        // runc and plain cgroups, because Debian's crun refuses hybrid ones; limits that any
        // machine grants, because raising them needs a capability that not every root has.
        command.args(["--runtime=runc", "--cgroup-manager=cgroupfs", "run", "--detach"]);
        command.args(["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
        command.args(["--name", name, "--rootfs"]).arg(&self.rootfs);
        command.args(["/bin/busybox", "sleep", "1000"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn remove(&self, name: &str) {
        let mut command = Command::new("podman");
        command.args(["rm", "--force", "--time=0", name]);
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    pub(crate) fn run(&self, n: usize) -> f64 {
        let name = format!("edb-{}-{n}", std::process::id());
        let took = timed(self.command(&name));
        self.remove(&name);
        took
    }
}
