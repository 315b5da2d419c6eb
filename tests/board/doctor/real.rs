//! Faults of the kernel: real ports, rules, links, mounts and full disks.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use super::super::can_run;
use super::super::command::{has, must};
use super::super::machine::built;
use super::{Report, Tree, look};

/// A network namespace of its own.
struct Net(String);

impl Net {
    fn new(what: &str) -> Net {
        let name = format!("edt-doc-{}-{what}", std::process::id());
        must("ip", &["netns", "add", &name]);
        must("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Net(name)
    }

    fn ip(&self, args: &[&str]) {
        must("ip", &[&["-n", &self.0][..], args].concat());
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// Runs a program there.
    fn run(&self, program: &str, args: &[&str]) {
        let net = format!("--net={}", self.path().display());
        must("nsenter", &[&[&net, "--", program][..], args].concat());
    }

    /// Whether a program does well there.
    fn runs(&self, program: &str, args: &[&str]) -> bool {
        let net = format!("--net={}", self.path().display());
        let done = Command::new("nsenter").args([&net, "--", program]).args(args).output();
        done.is_ok_and(|output| output.status.success())
    }

    /// Runs the doctor there, on the machine's own files.
    fn doctor(&self, data: &Path) -> Report {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(built("edged"));
        look(command, Path::new("/"), data, &["--name", "b1"])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        must("ip", &["netns", "del", &self.0]);
    }
}

#[test]
fn a_port_that_another_program_holds() {
    if !can_run() {
        return;
    }
    let (net, tree) = (Net::new("port"), Tree::new());
    let path = net.path();
    let open = move || {
        let there = File::open(path).expect("the namespace");
        setns(there, CloneFlags::CLONE_NEWNET).expect("entered");
        ["0.0.0.0:6443", "127.0.0.1:8883"].map(|at| TcpListener::bind(at).expect("a port"))
    };
    let held = std::thread::spawn(open).join().expect("a thread");
    let pid = std::process::id().to_string();
    let report = net.doctor(&tree.data());
    report.has("ports", "error", &["6443/tcp", &format!("(pid {pid})"), "its API"]);
    assert_eq!(report.findings("ports").len(), 1, "loopback is in nobody's way");
    drop(held);
    net.doctor(&tree.data()).has("ports", "ok", &[]);
}

#[test]
fn a_firewall_that_drops() {
    if !can_run() {
        return;
    }
    assert!(has("nft") || std::env::var_os("CI").is_none(), "CI has nft");
    if !has("nft") {
        eprintln!("SKIPPED: no nft here");
        return;
    }
    let (net, tree) = (Net::new("rules"), Tree::new());
    let before = net.doctor(&tree.data());
    before.has("firewall-forward", "ok", &[]);
    net.run("nft", &["add table ip filter"]);
    let forward = "{ type filter hook forward priority 0; policy drop; }";
    net.run("nft", &[&format!("add chain ip filter FORWARD {forward}")]);
    net.run("nft", &["add chain ip filter DOCKER-USER"]);
    net.run("nft", &["add table inet mine"]);
    let input = "{ type filter hook input priority 0; policy drop; }";
    net.run("nft", &[&format!("add chain inet mine guard {input}")]);
    let after = net.doctor(&tree.data());
    after.has("firewall-forward", "error", &["Docker", "filter/FORWARD", "DOCKER-USER"]);
    after.has("firewall-input", "warning", &["mine/guard", "10250/tcp"]);
}

#[test]
fn rules_of_the_older_iptables() {
    if !can_run() {
        return;
    }
    let (net, tree) = (Net::new("legacy"), Tree::new());
    let there = has("iptables-legacy") && net.runs("iptables-legacy", &["-S"]);
    if !there {
        eprintln!("SKIPPED: no iptables-legacy here, or a kernel without it");
        return;
    }
    net.doctor(&tree.data()).has("firewall-legacy", "ok", &["drops nothing"]);
    net.run("iptables-legacy", &["-A", "FORWARD", "-s", "10.9.0.0/16", "-j", "DROP"]);
    net.doctor(&tree.data()).has("firewall-legacy", "warning", &["1 rules", "-i edge0"]);
    net.run("iptables-legacy", &["-P", "FORWARD", "DROP"]);
    net.doctor(&tree.data()).has("firewall-legacy", "error", &["chain FORWARD", "-i edge0"]);
}

#[test]
fn a_network_of_others_and_no_default_route() {
    if !can_run() {
        return;
    }
    let (net, tree) = (Net::new("ranges"), Tree::new());
    net.ip(&["link", "add", "docker0", "type", "bridge"]);
    net.ip(&["addr", "add", "10.43.7.1/24", "dev", "docker0"]);
    net.ip(&["link", "set", "docker0", "up"]);
    let report = net.doctor(&tree.data());
    report.has("networks", "error", &["10.43.7.0/24 of Docker", "service-cidr"]);
    report.has("default-route", "warning", &["no default route"]);
    net.ip(&["route", "add", "default", "via", "10.43.7.2"]);
    net.doctor(&tree.data()).has("default-route", "ok", &[]);
    // Asked of the kernel, in a namespace that is gone again.
    for module in ["bridge", "veth", "nf_tables"] {
        report.has(&format!("module-{module}"), "ok", &[]);
    }
}

/// A small file system in memory at a tree's data directory.
struct Disk(PathBuf);

impl Disk {
    fn new(tree: &Tree, options: &str) -> Disk {
        Disk::at(tree.data(), options)
    }

    fn at(at: PathBuf, options: &str) -> Disk {
        let path = at.to_str().expect("a plain path");
        must("mount", &["-t", "tmpfs", "-o", options, "edt-doctor", path]);
        Disk(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        must("umount", &[self.0.to_str().expect("a plain path")]);
    }
}

#[test]
fn a_data_directory_in_memory_and_a_full_one() {
    if !can_run() {
        return;
    }
    let tree = Tree::new();
    let disk = Disk::new(&tree, "size=4096k,nr_inodes=64");
    tree.finds("data-dir", "warning", &["is on tmpfs", "put --data-dir on ext4"]);
    tree.finds("disk-space", "error", &["MiB are free", "pulled"]);
    tree.doctor(&[]).has("disk-inodes", "ok", &[]);
    let mut n = 0;
    while File::create(disk.0.join(n.to_string())).is_ok_and(|mut f| f.write_all(b"x").is_ok()) {
        n += 1;
    }
    tree.finds("disk-inodes", "error", &["0 of 64 files", "mkfs.ext4"]);
    drop(disk);
    // A root of which only a few inodes are left.
    let root = Disk::new(&tree, "size=4096k,nr_inodes=4");
    let report = look(Command::new(built("edged")), &root.0, &tree.dir, &[]);
    report.has("root-inodes", "warning", &["of 4 files"]);
}

#[test]
fn a_boot_partition_that_is_mounted_for_reading_only() {
    if !can_run() {
        return;
    }
    let tree = Tree::new();
    let disk = Disk::at(tree.at("boot/firmware"), "size=64k");
    tree.write("boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=ab-02\n");
    tree.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
    must("mount", &["-o", "remount,ro", disk.0.to_str().expect("a plain path")]);
    assert!(tree.doctor(&["--fix"]).repaired("memory-cgroup").contains("before-edged"));
    assert!(tree.read("boot/firmware/cmdline.txt").contains("ab-02 cgroup_enable=memory"));
    let again = std::fs::write(tree.at("boot/firmware/more"), "");
    assert!(again.is_err(), "it is for reading only again");
}

#[test]
fn a_data_directory_on_a_fat() {
    if !can_run() {
        return;
    }
    let tree = Tree::new();
    let image = tree.at("fat.img");
    let name = image.to_str().expect("a plain path");
    std::fs::File::create(&image).and_then(|f| f.set_len(8 << 20)).expect("an image");
    let at = tree.data();
    let at = at.to_str().expect("a plain path");
    let quiet = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !(quiet("mkfs.vfat", &[name]) && quiet("mount", &["-o", "loop", name, at])) {
        eprintln!("SKIPPED: no mkfs.vfat here, or no loop devices");
        return;
    }
    let report = tree.doctor(&[]);
    must("umount", &[at]);
    report.has("data-dir", "error", &["is on vfat", "put --data-dir on ext4"]);
}

#[test]
fn a_read_only_data_directory() {
    if !can_run() {
        return;
    }
    let tree = Tree::new();
    let _disk = Disk::new(&tree, "ro,size=64k");
    tree.finds("data-dir", "error", &["is read-only", "dmesg"]);
}

#[test]
fn a_setting_that_is_wrong_is_one_line() {
    let mut command = Command::new(built("edged"));
    command.args(["doctor", "--cluster-cidr", "10.42.0.0"]);
    let outcome = super::super::command::run(command);
    assert_eq!(outcome.status, 64);
    assert!(outcome.stderr.starts_with("edged: cluster-cidr: \"10.42.0.0\""), "{}", outcome.stderr);
    // What can't be read is said, and does not stop the rest.
    let tree = Tree::new();
    std::fs::remove_file(tree.at("proc/swaps")).expect("removed");
    symlink("/nowhere", tree.at("proc/swaps")).expect("a link");
    tree.doctor(&[]).has("swap-on-flash", "ok", &[]);
}
