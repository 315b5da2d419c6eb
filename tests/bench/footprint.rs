//! What a board pays for having edged on it: bytes of file, of memory, written, and CPU at rest.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Effort;
use super::table::Table;
use crate::board::machine::{Board, built};

const MIB: f64 = 1024.0 * 1024.0;

/// Sizes of the binaries that are measured.
pub(crate) fn sizes(table: &mut Table, files: &[(&str, f64)]) {
    for (name, budget) in files {
        let bytes = std::fs::metadata(built(name)).expect("a built file").len() as f64;
        table.one(&format!("size of {name}"), "MB", bytes / 1e6, Some(budget / 1e6));
    }
}

/// From the start of the process to an answer of `/readyz`, on an existing data directory.
pub(crate) fn ready(table: &mut Table, times: usize) {
    let dir = std::env::temp_dir().join(format!("edb-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a fresh directory");
    let mut samples = Vec::new();
    for n in 0..=times {
        let begin = Instant::now();
        let flag = |part: &str| dir.join(part).display().to_string();
        let mut child = Command::new(built("edged"))
            .args(["server", "--no-agent", "--listen", "127.0.0.1:16443"])
            .args(["--name", "bench", "--node-ip", "127.0.0.1"])
            .args(["--data-dir", &flag("data"), "--run-dir", &flag("run")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("edged starts");
        while !answers_ready() {
            assert!(begin.elapsed() < Duration::from_secs(20), "edged did not get ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        // The first start makes keys and certificates: it is told apart.
        if n > 0 {
            samples.push(begin.elapsed().as_secs_f64() * 1e3);
        } else {
            let first = begin.elapsed().as_secs_f64() * 1e3;
            table.one("first start to /readyz", "ms", first, None);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    let _ = std::fs::remove_dir_all(&dir);
    table.add("start to /readyz", "ms", &samples, Some(300.0), None);
}

fn answers_ready() -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-skf", "-m", "1", "https://127.0.0.1:16443/readyz"]);
    curl.stdout(Stdio::null()).stderr(Stdio::null());
    curl.status().is_ok_and(|status| status.success())
}

/// Memory of a process, from `smaps_rollup`: (RSS, PSS) in bytes.
pub(crate) fn memory(pid: i32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        number.unwrap_or(0.0) * 1024.0
    };
    (field("Rss:"), field("Pss:"))
}

/// CPU time of a process so far, in seconds.
fn cpu(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks = |n: usize| after.split_whitespace().nth(n).and_then(|t| t.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// Bytes that a process caused to be written to disks so far.
fn written(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

/// A board with nothing to do.
pub(crate) fn at_rest(table: &mut Table, board: &Board, effort: &Effort) {
    let pid = board.pid();
    // What a start leaves to do (a batched commit, a first report) is not rest.
    std::thread::sleep(Duration::from_secs(12));
    let (rss, pss) = memory(pid);
    table.one("server + agent at rest, RSS", "MiB", rss / MIB, Some(20.0));
    table.one("server + agent at rest, PSS", "MiB", pss / MIB, None);
    let before = (cpu(pid), written(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(effort.idle_cpu_s));
    let used = (cpu(pid) - before.0) / before.2.elapsed().as_secs_f64();
    table.one("CPU at rest", "% of a core", used * 100.0, Some(0.2));
    let left = effort.idle_write_s.saturating_sub(effort.idle_cpu_s);
    std::thread::sleep(Duration::from_secs(left));
    let bytes = written(pid) - before.1;
    table.one(&format!("written in {} s at rest", effort.idle_write_s), "bytes", bytes, Some(0.0));
}

/// The same board with pods on it.
pub(crate) fn loaded(table: &mut Table, board: &Board, pods: usize) {
    let (rss, pss) = memory(board.pid());
    table.one(&format!("server + agent with {pods} pods, RSS"), "MiB", rss / MIB, None);
    table.one(&format!("server + agent with {pods} pods, PSS"), "MiB", pss / MIB, None);
    let shims = shims(&board.dir);
    let each: Vec<f64> = shims.iter().map(|pid| memory(*pid).1 / MIB).collect();
    table.add("shim of a container, PSS", "MiB", &each, Some(0.3), None);
}

/// Processes whose arguments say that they are shims of this board.
fn shims(dir: &Path) -> Vec<i32> {
    let dir = dir.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    ids.filter(|pid| {
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).replace('\0', " ");
        args.contains(" shim ") && args.contains(&dir)
    })
    .collect()
}
