//! Measures starts side by side: ours under its shim, libcontainer alone in a process, and runc,
//! interleaved in one run; and what a shim costs. `cargo test -p edge-node --test runtime -- bench`
//! prints nothing: build with `--release` and run the binary with `bench <rounds>`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::board::Board;

/// Between two starts: a start just after another finds the kernel's locks still warm.
const REST: Duration = Duration::from_millis(100);

/// `bench [rounds]`
pub(crate) fn run(args: &[OsString]) -> i32 {
    let rounds = args.first().and_then(|a| a.to_str()?.parse().ok()).unwrap_or(40);
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(measure(rounds));
    0
}

/// `bare <bundle> <state> <id>`: what libcontainer takes by itself.
pub(crate) fn bare(args: &[OsString]) -> i32 {
    let id = args[2].to_str().unwrap().to_owned();
    let builder = ContainerBuilder::new(id, SyscallType::default());
    let builder = builder.with_root_path(Path::new(&args[1])).unwrap().as_init(&args[0]);
    let mut container = builder.with_systemd(false).with_detach(true).build().unwrap();
    container.start().unwrap();
    0
}

async fn measure(rounds: usize) {
    let board = Board::new();
    let bundle = bundle(&board);
    let (mut ours, mut alone, mut runc) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..rounds {
        let spec = board.script(&format!("ours-{n}"), "exec sleep 1000");
        tokio::time::sleep(REST).await;
        let since = Instant::now();
        board.runtime.start(&spec).await.unwrap();
        ours.push(since.elapsed());
        board.runtime.remove(&spec.id).await.unwrap();
        tokio::time::sleep(REST).await;
        alone.push(bare_start(&board, &bundle, n));
        tokio::time::sleep(REST).await;
        runc.extend(runc_start(&bundle, n));
    }
    let base = median(&alone);
    for (name, times) in [("ours", &ours), ("libcontainer alone", &alone), ("runc run -d", &runc)] {
        if !times.is_empty() {
            let (p50, p99) = (median(times), percentile(times, 99));
            let ratio = p50 / base;
            println!("{name:20} p50 {p50:6.1} ms  p99 {p99:6.1} ms  {ratio:4.2} x");
        }
    }
    burst(&board, 50).await;
    shims(&board).await;
    remove_groups(&format!("{}-bench", board.cgroup));
    umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH).unwrap();
    board.close().await;
}

fn median(times: &[Duration]) -> f64 {
    percentile(times, 50)
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted[at].as_secs_f64() * 1_000.0
}

/// The same container as ours, for the other two: its root is mounted beforehand.
fn bundle(board: &Board) -> std::path::PathBuf {
    let bundle = board.dir.join("bundle");
    for dir in ["rootfs", "upper", "work"] {
        fs::create_dir_all(bundle.join(dir)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        board.dir.join("layer").display(),
        bundle.join("upper").display(),
        bundle.join("work").display()
    );
    let target = bundle.join("rootfs");
    mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(&*options)).unwrap();
    let ns = |kind: &str, file: &str| {
        let path = board.dir.join("ns").join(file);
        serde_json::json!({ "type": kind, "path": path })
    };
    let fs_mount = |target: &str, kind: &str, options: &[&str]| {
        serde_json::json!({
            "destination": target, "type": kind, "source": kind, "options": options
        })
    };
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0, "additionalGids": [0] },
            "args": ["sh", "-c", "exec sleep 1000"], "env": ["PATH=/bin"], "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"],
                "permitted": ["CAP_CHOWN"] },
        },
        "root": { "path": "rootfs", "readonly": false },
        "mounts": [
            fs_mount("/proc", "proc", &[]), fs_mount("/dev", "tmpfs", &["mode=755"]),
            fs_mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
            fs_mount("/dev/mqueue", "mqueue", &[]), fs_mount("/sys", "sysfs", &["ro"]),
            fs_mount("/dev/shm", "tmpfs", &[]), fs_mount("/sys/fs/cgroup", "cgroup", &["ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("{}-bench/bare", board.cgroup),
            "namespaces": [
                { "type": "mount" }, { "type": "pid" }, ns("ipc", "ipc"), ns("network", "net"),
                ns("uts", "uts"),
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys"], "readonlyPaths": ["/proc/sys"],
        },
    });
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

fn bare_start(board: &Board, bundle: &Path, n: usize) -> Duration {
    let state = board.dir.join("bare");
    let id = format!("bare-{n}");
    let since = Instant::now();
    let done = Command::new(std::env::current_exe().unwrap())
        .arg("bare")
        .args([bundle, &state, id.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let took = since.elapsed();
    assert!(done.unwrap().success());
    let state_file = fs::read_to_string(state.join(&id).join("state.json")).unwrap();
    let state_json: serde_json::Value = serde_json::from_str(&state_file).unwrap();
    let pid = i32::try_from(state_json["pid"].as_i64().unwrap()).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    remove_groups(&format!("{}-bench/bare", board.cgroup));
    took
}

fn remove_groups(path: &str) {
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(tree.path().join(&path[1..]));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&path[1..]));
}

fn runc_start(bundle: &Path, n: usize) -> Option<Duration> {
    let id = format!("edge-bench-{}-{n}", std::process::id());
    let since = Instant::now();
    let done = Command::new("runc")
        .args(["run", "-d", "--bundle", bundle.to_str()?, &id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .ok()?;
    let took = since.elapsed();
    let _ = Command::new("runc").args(["delete", "--force", &id]).status();
    done.success().then_some(took)
}

async fn burst(board: &Board, count: usize) {
    let since = Instant::now();
    let specs: Vec<_> =
        (0..count).map(|n| board.script(&format!("burst-{n}"), "exec sleep 1000")).collect();
    let starts = specs.iter().map(|s| board.runtime.start(s));
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    println!("{count} at once: {} ms", since.elapsed().as_millis());
}

/// Memory of the shims, from the kernel's own account.
async fn shims(board: &Board) {
    let (mut pss, mut dirty, mut count) = (0, 0, 0);
    for home in fs::read_dir(board.dir.join("run/containers")).unwrap().flatten() {
        let pid = fs::read_to_string(home.path().join("shim.pid")).unwrap();
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.trim())).unwrap();
        let field = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        pss += field("Pss:");
        dirty += field("Private_Dirty:");
        count += 1;
    }
    println!("shims: {count}, each {} kB PSS, {} kB of it dirty", pss / count, dirty / count);
}
