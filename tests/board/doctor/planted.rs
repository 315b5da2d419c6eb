//! Faults of a board's files, planted in a tree.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::super::command::has;
use super::{Tree, route};

const LINE: &str = "console=tty1 root=PARTUUID=ab-02 rootwait";

#[test]
fn a_good_board() {
    let report = Tree::new().doctor(&["--name", "b1"]);
    for finding in report.json["findings"].as_array().expect("a list") {
        // The machine's own disk, rules and limits are looked at as well.
        let machine =
            ["root-space", "root-inodes", "disk-space", "data-dir", "open-files", "disk-inodes"];
        let id = finding["id"].as_str().unwrap_or_default();
        let own = machine.contains(&id) || id.starts_with("firewall");
        assert!(own || finding["severity"] == "ok", "{finding}");
    }
}

#[test]
fn memory_cgroup_off_in_cmdline() {
    let tree = Tree::new();
    tree.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
    let finding = tree.finds("memory-cgroup", "error", &["/boot/firmware/cmdline.txt", "reboot"]);
    assert!(finding["fix"].as_str().is_some_and(|fix| fix.contains("cgroup_enable=memory")));
    let fixed = tree.doctor(&["--fix"]);
    assert!(fixed.repaired("memory-cgroup").contains("before-edged"));
    fixed.has("memory-cgroup", "error", &["reboot:"]);
    let want = format!("{LINE} cgroup_enable=memory cgroup_memory=1\n");
    assert_eq!(tree.read("boot/firmware/cmdline.txt"), want);
    assert_eq!(tree.read("boot/firmware/cmdline.txt.before-edged"), format!("{LINE}\n"));
    tree.doctor(&["--fix"]).idle();
    assert_eq!(tree.read("boot/firmware/cmdline.txt"), want, "again changes nothing");
}

#[test]
fn memory_cgroup_off_on_a_board_without_cmdline() {
    let tree = Tree::new();
    tree.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
    std::fs::remove_dir_all(tree.at("boot")).expect("removed");
    let finding = tree.finds("memory-cgroup", "error", &["GRUB_CMDLINE_LINUX"]);
    assert_eq!(finding["fix"], Value::Null, "it only says");
}

#[test]
fn overlay_module_not_loaded() {
    let tree = Tree::new();
    tree.write("proc/filesystems", "nodev\ttmpfs\n");
    tree.finds("module-overlay", "error", &["`modprobe overlay`"]);
    let fixed = tree.doctor(&["--fix"]);
    assert!(fixed.repaired("module-overlay").contains("/etc/modules-load.d/edged.conf"));
    tree.doctor(&["--fix"]);
    assert_eq!(tree.read("etc/modules-load.d/edged.conf"), "overlay\n", "once");
}

#[test]
fn wireguard_module_missing() {
    let tree = Tree::new();
    let builtin = "kernel/net/bridge/bridge.ko\nkernel/drivers/net/veth.ko\n\
                   kernel/net/netfilter/nf_tables.ko\n";
    tree.write("lib/modules/6.12.25+rpt-rpi-v8/modules.builtin", builtin);
    let finding = tree.finds("module-wireguard", "warning", &["no wireguard", "install"]);
    assert_eq!(finding["fix"], Value::Null);
}

#[test]
fn worn_card() {
    let tree = Tree::new();
    tree.write("sys/block/mmcblk0/device/life_time", "0x02 0x0a\n");
    tree.finds("storage-worn", "warning", &["mmcblk0: 90 to 100 %"]);
    tree.write("sys/block/mmcblk0/device/pre_eol_info", "0x03\n");
    tree.finds("storage-worn", "error", &["nearly all of its spare", "backup"]);
}

#[test]
fn under_voltage_and_throttling() {
    let tree = Tree::new();
    let word = "sys/devices/platform/soc/soc:firmware/get_throttled";
    tree.write(word, "50005\n");
    tree.finds("under-voltage", "error", &["right now", "power supply"]);
    tree.finds("throttled", "warning", &["now: the processor is throttled"]);
    tree.write(word, "0x50000\n");
    tree.finds("under-voltage", "warning", &["since boot"]);
    std::fs::remove_file(tree.at(word)).expect("removed");
    tree.write("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
    tree.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
    tree.finds("under-voltage", "error", &["too low"]);
    std::fs::remove_dir_all(tree.at("sys/class/hwmon")).expect("removed");
    tree.doctor(&[]).has("throttled", "unknown", &["this board does not say"]);
    tree.finds("under-voltage", "ok", &["does not measure"]);
    tree.write("proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0");
    tree.finds("under-voltage", "unknown", &["its kernel doesn't say"]);
    let five = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
    tree.write(five, "50005\n");
    tree.finds("under-voltage", "error", &["right now"]);
}

#[test]
fn a_hot_board() {
    let tree = Tree::new();
    tree.write("sys/class/thermal/thermal_zone0/temp", "83200\n");
    tree.finds("temperature", "warning", &["83 °C", "heat sink"]);
}

#[test]
fn clock_in_1970() {
    let mut tree = Tree::new();
    tree.skew_ms = i64::MIN / 2;
    tree.finds("clock", "warning", &["before 2026", "time server"]);
}

#[test]
fn swap_file_on_flash() {
    let tree = Tree::new();
    let line = "/swapfile file 1024 0 -2\n";
    tree.write("proc/swaps", &format!("Filename Type Size Used Priority\n{line}"));
    tree.finds("swap-on-flash", "warning", &["/swapfile", "dphys-swapfile", "fstab"]);
    let file = tree.at("swapfile");
    let path = file.to_str().expect("a plain path");
    std::fs::write(&file, vec![0; 1 << 20]).expect("a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("private");
    let quiet = |program: &str| {
        let status = std::process::Command::new(program).arg(path).output();
        status.is_ok_and(|output| output.status.success())
    };
    if !(has("mkswap") && quiet("mkswap") && quiet("swapon")) {
        eprintln!("SKIPPED: this machine lets nobody swap; whether it is turned off");
        return;
    }
    let swaps = || std::fs::read_to_string("/proc/swaps").expect("a list").contains(path);
    assert!(swaps());
    let fixed = tree.doctor(&["--fix"]);
    let off = !swaps();
    let _ = off || quiet("swapoff");
    assert!(off && fixed.repaired("swap-on-flash").contains("next boot"));
}

/// Sticks say that they turn, and that they can be taken out; SSDs neither, also in a box for USB.
#[test]
fn swap_on_disks() {
    let tree = Tree::new();
    let on = |removable: &str, rotational: &str| {
        tree.write("sys/block/sda/removable", removable);
        tree.write("sys/block/sda/queue/rotational", rotational);
        let line = "/dev/sda2 partition 1024 0 -2\n";
        tree.write("proc/swaps", &format!("Filename Type Size Used Priority\n{line}"));
        let said = tree.doctor(&[]);
        said.json["findings"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|finding| finding["id"] == "swap-on-flash")
            .is_some_and(|finding| finding["severity"] == "warning")
    };
    assert!(on("1\n", "1\n"), "a stick");
    assert!(!on("0\n", "0\n"), "an SSD");
    assert!(!on("0\n", "1\n"), "a turning disk");
}

#[test]
fn few_inotify_instances() {
    let tree = Tree::new();
    let setting = "proc/sys/fs/inotify/max_user_instances";
    tree.write(setting, "64\n");
    tree.finds("inotify", "warning", &["max_user_instances is 64"]);
    let fixed = tree.doctor(&["--fix"]);
    assert!(fixed.repaired("inotify").contains("90-edged.conf"));
    assert_eq!(tree.read(setting), "512");
    let kept = "fs.inotify.max_user_instances = 512\n";
    assert_eq!(tree.read("etc/sysctl.d/90-edged.conf"), kept);
    tree.doctor(&["--fix"]).idle();
}

#[test]
fn keys_that_others_can_read() {
    let tree = Tree::new();
    tree.write("data/pki/board.key", "secret");
    let path = tree.at("data/pki/board.key");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("open");
    tree.finds("keys", "error", &["board.key has mode 0644", "chmod 600"]);
    assert!(tree.doctor(&["--fix"]).repaired("keys").contains("owner alone"));
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    tree.doctor(&["--fix"]).idle();
}

#[test]
fn keys_that_are_gone() {
    let tree = Tree::new();
    tree.write("data/cluster.json", "{}");
    tree.write("data/pki/board.key", "secret");
    tree.finds("keys", "error", &["pki/ca.crt", "pki/node.crt", "join again"]);
}

#[test]
fn a_certificate_at_its_end() {
    let mut tree = Tree::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["b1".to_owned()]).expect("parameters");
    params.not_after = rcgen::date_time_ymd(2040, 1, 10);
    let certificate = params.self_signed(&key).expect("a certificate");
    tree.write("data/pki/node.crt", &certificate.pem());
    tree.doctor(&[]).has("certificates", "ok", &[]);
    // 2040-01-07, whatever the time is now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_millis()).expect("a time");
    tree.skew_ms = 2_209_507_200_000 - now;
    tree.finds("certificates", "warning", &["node.crt ends in 2 days"]);
    tree.skew_ms += 4 * 86_400_000;
    tree.finds("certificates", "error", &["ended on 2040-01-10"]);
}

#[test]
fn a_hostname_of_every_board() {
    let tree = Tree::new();
    tree.write("proc/sys/kernel/hostname", "raspberrypi\n");
    tree.finds("hostname", "warning", &["raspberrypi", "hostnamectl"]);
    let named = tree.doctor(&["--name", "b1"]);
    named.has("hostname", "ok", &[]);
    tree.write("proc/sys/kernel/hostname", "my_pi\n");
    tree.finds("hostname", "error", &["my_pi"]);
}

#[test]
fn pages_of_64_kib_and_an_old_kernel() {
    let tree = Tree::new();
    let vector: Vec<u8> = [6usize, 65536].iter().flat_map(|word| word.to_ne_bytes()).collect();
    std::fs::create_dir_all(tree.at("proc/self")).expect("directories");
    std::fs::write(tree.at("proc/self/auxv"), vector).expect("a file");
    tree.write("proc/sys/kernel/osrelease", "4.19.97-v7+\n");
    tree.finds("page-size", "warning", &["64 KiB"]);
    tree.finds("kernel", "error", &["4.19.97", "5.6"]);
}

#[test]
fn another_kubernetes_on_the_board() {
    let tree = Tree::new();
    tree.write("proc/77/comm", "k3s-server\n");
    let ours = route("cni0", 0x0a2a_0000, 0x1, 0xffff_ff00);
    tree.write("proc/net/route", &format!("Iface\n{ours}"));
    tree.finds("rivals", "warning", &["k3s runs here"]);
    tree.finds("networks", "error", &["10.42.0.0/24 of k3s", "--cluster-cidr"]);
    tree.finds("default-route", "warning", &["no default route"]);
}

/// A line of `/proc/net/tcp` or `udp`: who listens everywhere on this port.
fn socket(port: u16, state: &str, inode: &str) -> String {
    format!("sl\n 0: 00000000:{port:04X} 00000000:0000 {state} 0:0 0:0 0 0 0 {inode} 1\n")
}

#[test]
fn web_ports_of_others_are_a_hint_until_an_ingress_wants_them() {
    let tree = Tree::new();
    tree.write("proc/net/tcp", &socket(443, "0A", "77"));
    let report = tree.doctor(&["--name", "b1"]);
    report.has("ports", "ok", &["holds port 443/tcp", "answer no Ingress"]);
    assert_eq!(report.json["warnings"], 0, "{}", report.json);
    tree.write("data/run/ingress-closed", "listen on port 443 for Ingresses: in use");
    tree.finds("ingress-ports", "warning", &["port 443", "move it to another port"]);
}

#[test]
fn the_port_of_tunnels() {
    let tree = Tree::new();
    tree.write("proc/net/udp", &socket(51820, "07", "77"));
    tree.finds("ports", "warning", &["51820/udp", "tunnels"]);
    // One of the kernel's own is ours, if we have tunnels.
    tree.write("proc/net/udp", &socket(51820, "07", "0"));
    tree.finds("ports", "warning", &["another link of WireGuard", "--wireguard-port"]);
    tree.write("sys/class/net/edge-wg0/ifindex", "7\n");
    tree.doctor(&[]).has("ports", "ok", &["its own or free"]);
}

#[test]
fn no_dns_server() {
    let tree = Tree::new();
    tree.write("etc/resolv.conf", "# nothing\nsearch lan\n");
    tree.finds("resolver", "warning", &["names none", "nameserver 192.168.1.1"]);
    std::fs::remove_file(tree.at("etc/resolv.conf")).expect("removed");
    tree.finds("resolver", "warning", &["is missing"]);
}

#[test]
fn a_board_that_its_cluster_refuses() {
    let tree = Tree::new();
    let why = "join https://10.0.0.1:6443: the name \"a\" is taken by another board";
    tree.write("data/run/join-refused", why);
    tree.finds("joining", "error", &["is taken by another board", "a name of its own"]);
}
