//! `edged doctor` finds planted faults, and sets right those that it says it does: a test for each
//! fault, through the real binary. Faults of files are planted in a tree; those of the kernel are
//! real ones, in network namespaces and mounts of their own.

mod planted;
mod real;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::command::run;
use super::machine::built;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A board's files: those of a good one, with a fault in them.
struct Tree {
    dir: PathBuf,
    /// How edged's own clock differs from the machine's.
    skew_ms: i64,
}

impl Tree {
    fn new() -> Tree {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("edt-doctor-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("data")).expect("a fresh directory");
        let tree = Tree { dir, skew_ms: 0 };
        for (path, text) in [
            (
                "proc/self/mounts",
                "/dev/mmcblk0p2 / ext4 rw 0 0\n\
                                  cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
            ),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=ab-02 rootwait\n"),
            ("proc/sys/kernel/osrelease", "6.12.25+rpt-rpi-v8\n"),
            ("proc/sys/kernel/hostname", "board-1\n"),
            ("proc/sys/kernel/random/entropy_avail", "256\n"),
            ("proc/sys/fs/inotify/max_user_instances", "512\n"),
            ("proc/sys/fs/inotify/max_user_watches", "65536\n"),
            ("proc/filesystems", "nodev\toverlay\n"),
            ("proc/swaps", "Filename Type Size Used Priority\n"),
            ("proc/net/tcp", "  sl  local_address rem_address   st\n"),
            (
                "lib/modules/6.12.25+rpt-rpi-v8/modules.builtin",
                "kernel/net/bridge/bridge.ko\nkernel/drivers/net/veth.ko\n\
              kernel/net/netfilter/nf_tables.ko\nkernel/drivers/net/wireguard/wireguard.ko\n",
            ),
            (
                "lib/modules/6.12.25+rpt-rpi-v8/modules.dep",
                "kernel/fs/overlayfs/overlay.ko.xz: kernel/fs/some.ko.xz\n",
            ),
            ("run/systemd/timesync/synchronized", ""),
            ("etc/resolv.conf", "nameserver 192.168.1.1\n"),
            ("sys/block/mmcblk0/device/life_time", "0x01 0x02\n"),
            ("sys/block/mmcblk0/device/pre_eol_info", "0x01\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48000\n"),
        ] {
            tree.write(path, text);
        }
        // Eth0's way out, as the kernel writes it on a board whose bytes have this order.
        tree.write("proc/net/route", &format!("Iface\n{}", route("eth0", 0, 0x3, 0)));
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("directories");
        std::fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("read {path}: {e}"))
    }

    /// Runs the doctor on the tree.
    fn doctor(&self, more: &[&str]) -> Report {
        let mut command = Command::new(built("edged"));
        command.env("EDGED_TEST_CLOCK_SKEW_MS", self.skew_ms.to_string());
        look(command, &self.dir, &self.data(), more)
    }

    /// Plants one fault, and has it found: the finding.
    #[track_caller]
    fn finds(&self, id: &str, severity: &str, words: &[&str]) -> Value {
        self.doctor(&[]).has(id, severity, words)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A line of `/proc/net/route`.
fn route(link: &str, to: u32, flags: u32, mask: u32) -> String {
    let (to, mask) = (to.to_be(), mask.to_be());
    format!("{link}\t{to:08X}\t00000000\t{flags:04X}\t0\t0\t0\t{mask:08X}\t0\t0\t0\n")
}

/// What the doctor said.
struct Report {
    status: i32,
    json: Value,
}

/// Runs `edged doctor` by a command that ends in the path of edged.
fn look(mut command: Command, root: &Path, data: &Path, more: &[&str]) -> Report {
    command.args(["doctor", "-o", "json", "--node-ip", "10.0.0.1", "--root"]).arg(root);
    command.arg("--run-dir").arg(data.join("run"));
    let outcome = run({
        command.arg("--data-dir").arg(data).args(more);
        command
    });
    let json = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", outcome.stdout, outcome.stderr));
    Report { status: outcome.status, json }
}

impl Report {
    fn findings(&self, id: &str) -> Vec<&Value> {
        let all = self.json["findings"].as_array().expect("a list");
        all.iter().filter(|finding| finding["id"] == id).collect()
    }

    /// The finding of that check that is so bad and has these words.
    #[track_caller]
    fn has(&self, id: &str, severity: &str, words: &[&str]) -> Value {
        let found = self.findings(id);
        let right = |finding: &&&Value| {
            let text = finding.to_string();
            finding["severity"] == severity && words.iter().all(|word| text.contains(word))
        };
        let Some(finding) = found.iter().find(right) else {
            panic!("{id} is not {severity} with {words:?}: {found:#?}");
        };
        if severity == "error" {
            assert_eq!(self.status, 1, "an error is status 1");
        }
        let said = |key: &str| finding[key].as_str().is_some_and(|text| !text.is_empty());
        let quiet = matches!(severity, "ok" | "unknown");
        assert!(quiet || (said("why") && said("todo")), "{finding}");
        (*finding).clone()
    }

    /// What was done about that check.
    #[track_caller]
    fn repaired(&self, id: &str) -> String {
        let all = self.json["repairs"].as_array().expect("a list");
        let found = all.iter().find(|repair| repair["id"] == id);
        let found = found.unwrap_or_else(|| panic!("{id} was not repaired: {all:?}"));
        assert_eq!(found["done"], true, "{found}");
        found["words"].as_str().unwrap_or_default().to_owned()
    }

    /// Nothing was left to do.
    #[track_caller]
    fn idle(&self) {
        assert_eq!(self.json["repairs"], serde_json::json!([]));
    }
}
