//! Each fault as facts, and what is said of it; and a board on which nothing is wrong.

use super::*;
use crate::podnet::Range;

const NOW: i64 = 1_790_000_000_000;
const DAY: i64 = 86_400_000;

fn range(text: &str) -> Range {
    Range::parse(text).unwrap()
}

fn well() -> Facts {
    let controllers = ["cpu", "cpuset", "memory", "pids"].map(str::to_owned).to_vec();
    let module = |name| Module { name, ability: Ability::There };
    let disk = |path: &str, data| Filesystem {
        path: path.into(),
        data,
        kind: "ext4".into(),
        read_only: false,
        bytes: 32 << 30,
        bytes_free: 16 << 30,
        files: 2_000_000,
        files_free: 1_900_000,
    };
    Facts {
        kernel: Some("6.12.25+rpt-rpi-v8".into()),
        page_bytes: Some(16384),
        cgroups: Some(Cgroups { layout: Layout::V2, controllers }),
        cmdline: Some(CmdlineFile {
            path: "/boot/firmware/cmdline.txt".into(),
            text: "a\n".into(),
        }),
        modules: ["overlay", "bridge", "veth", "nf_tables", "wireguard"].map(module).to_vec(),
        wifi: vec![Wifi { link: "wlan0".into(), power_save: Some(false) }],
        now_ms: Some(NOW),
        synchronised: Some(true),
        default_route: Some(true),
        filesystems: vec![disk("/", false), disk("/var/lib/edged", true)],
        flash: vec![Flash { device: "mmcblk0".into(), life: vec![1, 2], spare: Some(1) }],
        throttled: Some(0),
        temperature_milli: Some(51_000),
        taken: Some(vec![]),
        chains: Some(vec![]),
        networks: vec![Network { link: "eth0".into(), range: range("192.168.1.0/24") }],
        ranges: vec![
            ("cluster-cidr", range("10.42.0.0/16")),
            ("service-cidr", range("10.43.0.0/16")),
        ],
        swaps: vec![Swap { path: "/dev/zram0".into(), flash: false, bytes: 1 << 29 }],
        forwarding: Some(Forwarding { on: false, settable: true }),
        resolvers: Some(vec!["192.168.1.1".into()]),
        open_files: Some(524_288),
        inotify_instances: Some(512),
        inotify_watches: Some(65_536),
        hostname: Some("board-1".into()),
        entropy: Some(256),
        secrets: vec![Secret { path: "/var/lib/edged/pki/board.key".into(), mode: 0o600 }],
        certificates: vec![Certificate { path: "node.crt".into(), ends_ms: NOW + 20 * DAY }],
        ..Facts::default()
    }
}

/// The one thing that is wrong with the board.
#[track_caller]
fn fault(change: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = well();
    change(&mut facts);
    let mut bad: Vec<_> = judge(&facts).into_iter().filter(Finding::is_bad).collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    let finding = bad.remove(0);
    assert!(!finding.why.is_empty() && !finding.todo.is_empty(), "{finding:?}");
    finding
}

#[track_caller]
fn told(finding: &Finding, id: &str, severity: Severity, words: &[&str]) {
    assert_eq!((finding.id, finding.severity), (id, severity), "{finding:?}");
    let text = format!("{} | {} | {}", finding.what, finding.why, finding.todo);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

use Severity::{Error, Warning};

#[test]
fn a_good_board_is_told_so() {
    let found = judge(&well());
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:#?}");
    assert!(found.len() > 20 && found.iter().all(|f| f.todo.is_empty() && f.fix.is_none()));
    assert!(conditions(&well()).is_empty());
}

#[test]
fn nothing_known_is_nothing_wrong() {
    let found = judge(&Facts::default());
    assert!(!found.iter().any(Finding::is_bad), "{found:#?}");
}

#[test]
fn what_could_not_be_seen_is_said() {
    let unseen = vec![("firewall-forward", "the packet rules: needs root".to_owned())];
    let found = judge(&Facts { unseen, ..well() });
    assert_eq!((found[0].severity, found[0].id), (Severity::Unknown, "firewall-forward"));
}

#[test]
fn memory_cgroup_off() {
    let off = |facts: &mut Facts| {
        facts.cgroups.as_mut().unwrap().controllers.retain(|name| name != "memory");
    };
    let finding = fault(off);
    told(&finding, "memory-cgroup", Error, &["/boot/firmware/cmdline.txt", "reboot"]);
    let text = "a cgroup_enable=memory cgroup_memory=1\n".to_owned();
    let path = "/boot/firmware/cmdline.txt".to_owned();
    assert_eq!(finding.fix, Some(Fix::Cmdline { path, text: text.clone() }));
    let pending = fault(|facts| {
        off(facts);
        facts.cmdline.as_mut().unwrap().text = text;
    });
    told(&pending, "memory-cgroup", Error, &["reboot:", "already"]);
    assert_eq!(pending.fix, None, "it is done");
    let generic = fault(|facts| {
        off(facts);
        facts.cmdline = None;
    });
    told(&generic, "memory-cgroup", Error, &["GRUB_CMDLINE_LINUX"]);
    assert_eq!(generic.fix, None, "it only says");
    let unmounted = fault(|facts| {
        off(facts);
        (facts.cmdline, facts.unmounted) = (None, Some("/boot/firmware"));
    });
    told(&unmounted, "memory-cgroup", Error, &["`mount /boot/firmware`", "is not mounted"]);
    assert_eq!(unmounted.fix, None);
}

#[test]
fn controllers_pages_and_kernels() {
    let finding = fault(|facts| {
        facts.cgroups.as_mut().unwrap().controllers.retain(|name| name != "pids");
    });
    told(&finding, "cgroup-controllers", Error, &["lack pids"]);
    told(&fault(|f| f.page_bytes = Some(65536)), "page-size", Warning, &["64 KiB"]);
    told(&fault(|f| f.kernel = Some("5.4.0-rc1".into())), "kernel", Error, &["openat2"]);
    told(&fault(|f| f.entropy = Some(12)), "entropy", Warning, &["12 bits"]);
    told(&fault(|f| f.open_files = Some(256)), "open-files", Warning, &["256"]);
    let finding = fault(|f| f.inotify_instances = Some(64));
    told(&finding, "inotify", Warning, &["fs.inotify.max_user_instances is 64"]);
    assert!(matches!(finding.fix, Some(Fix::Sysctl { value: "512", .. })));
}

#[test]
fn modules() {
    let finding = fault(|facts| facts.modules[0].ability = Ability::OnDisk);
    told(&finding, "module-overlay", Error, &["`modprobe overlay`", "modules-load.d"]);
    assert_eq!(finding.fix, Some(Fix::Module("overlay")));
    let finding = fault(|facts| facts.modules[4].ability = Ability::Missing);
    told(&finding, "module-wireguard", Warning, &["the kernel has no wireguard"]);
    assert_eq!(finding.fix, None);
}

#[test]
fn a_clock_that_is_wrong() {
    told(&fault(|f| f.now_ms = Some(86_400_000)), "clock", Warning, &["before 2026"]);
    told(&fault(|f| f.synchronised = Some(false)), "clock", Warning, &["no source of time"]);
}

#[test]
fn disks() {
    let data = |change: fn(&mut Filesystem)| fault(move |facts| change(&mut facts.filesystems[1]));
    told(&data(|d| d.bytes_free = 1 << 30), "disk-space", Warning, &["1024 MiB of 32768 MiB"]);
    told(&data(|d| d.bytes_free = 1 << 20), "disk-space", Error, &["pulled"]);
    told(&data(|d| d.files_free = 9), "disk-inodes", Error, &["9 of 2000000"]);
    told(&data(|d| d.read_only = true), "data-dir", Error, &["read-only"]);
    for (kind, severity) in
        [("vfat", Error), ("nfs", Error), ("tmpfs", Warning), ("overlay", Warning)]
    {
        let finding = fault(|facts| facts.filesystems[1].kind = kind.to_owned());
        told(&finding, "data-dir", severity, &[kind, "put --data-dir on ext4"]);
    }
    let root = fault(|facts| facts.filesystems[0].bytes_free = 0);
    told(&root, "root-space", Warning, &["/: 0 MiB"]);
    let root = fault(|facts| facts.filesystems[0].files_free = 100);
    told(&root, "root-inodes", Warning, &["/: 100 of 2000000 files", "mkfs.ext4"]);
    let mut facts = well();
    (facts.filesystems[0].bytes_free, facts.filesystems[0].read_only) = (0, true);
    assert!(!judge(&facts).iter().any(Finding::is_bad), "a read-only root is full by design");
}

#[test]
fn worn_flash() {
    let worn = |life: &[u32], spare| {
        let life = life.to_vec();
        fault(move |facts| {
            facts.flash = vec![Flash { device: "mmcblk0".into(), life, spare }];
        })
    };
    told(&worn(&[1, 9], Some(1)), "storage-worn", Warning, &["mmcblk0: 80 to 90 %"]);
    told(&worn(&[11, 1], None), "storage-worn", Error, &["more than all", "backup"]);
    told(&worn(&[2], Some(2)), "storage-worn", Warning, &["four fifths of its spare"]);
    told(&worn(&[], Some(3)), "storage-worn", Error, &["nearly all of its spare"]);
}

#[test]
fn swap_on_flash() {
    let finding = fault(|facts| facts.swaps[0].flash = true);
    told(&finding, "swap-on-flash", Warning, &["512 MiB", "dphys-swapfile", "fstab"]);
    assert_eq!(finding.fix, Some(Fix::SwapOff("/dev/zram0".into())));
}

#[test]
fn power_and_heat() {
    let words = |bits| fault(move |facts| facts.throttled = Some(bits));
    told(&words(0x1), "under-voltage", Error, &["right now", "5.1 V"]);
    told(&words(0x1_0000), "under-voltage", Warning, &["since boot"]);
    told(&words(0x4), "throttled", Warning, &["now: the processor is throttled"]);
    let since = words(0x8_0000);
    told(&since, "throttled", Warning, &["since boot, not now: the soft temperature limit"]);
    told(&fault(|f| f.temperature_milli = Some(84_500)), "temperature", Warning, &["84 °C"]);
    let alarm = fault(|f| (f.throttled, f.voltage_alarm) = (None, Some(true)));
    told(&alarm, "under-voltage", Error, &["too low"]);
}

#[test]
fn who_does_not_say_is_not_told_that_all_is_well() {
    let said = |facts: &Facts, id: &str| {
        judge(facts).into_iter().find(|finding| finding.id == id).unwrap().severity
    };
    let silent = Facts { throttled: None, ..well() };
    assert_eq!(said(&silent, "under-voltage"), Severity::Ok, "it measures nothing");
    assert_eq!(said(&silent, "throttled"), Severity::Unknown);
    let pi = Facts { raspberry: true, ..silent };
    assert_eq!(said(&pi, "under-voltage"), Severity::Unknown);
    let alarm = Facts { voltage_alarm: Some(false), ..pi };
    assert_eq!(said(&alarm, "under-voltage"), Severity::Ok);
    assert!(conditions(&alarm).is_empty());
    let found = conditions(&Facts { voltage_alarm: Some(true), ..alarm });
    assert_eq!(found.iter().map(|c| c.kind).collect::<Vec<_>>(), ["UnderVoltage"]);
}

#[test]
fn ports_of_others() {
    let taken = |port, protocol, purpose, owner: Option<&str>| {
        let owner = owner.map(str::to_owned);
        fault(move |f| f.taken = Some(vec![Taken { port, protocol, purpose, owner }]))
    };
    let api = taken(6443, "tcp", "the API", Some("k3s-server (pid 71)"));
    told(&api, "ports", Error, &["k3s-server (pid 71) holds port 6443/tcp"]);
    let names = taken(53, "udp", "names for pods", Some("dnsmasq (pid 9)"));
    told(&names, "ports", Error, &["53/udp", "keep dnsmasq (pid 9) off", "bind-interfaces"]);
    let tunnels = taken(51820, "udp", "tunnels", Some("openvpn (pid 7)"));
    told(&tunnels, "ports", Warning, &["51820/udp", "--wireguard-port"]);
    let (port, owner) = (80, Some("nginx".to_owned()));
    let web = Taken { port, protocol: "tcp", purpose: "Ingress", owner };
    let found = judge(&Facts { taken: Some(vec![web]), ..well() });
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "a hint: {found:#?}");
    assert!(found.iter().any(|finding| finding.what.starts_with("nginx holds port 80/tcp: ")));
    let closed = fault(|f| f.ingress_closed = Some("listen on port 80: in use".into()));
    told(&closed, "ingress-ports", Warning, &["port 80: in use", "not answered"]);
    told(&taken(8883, "tcp", "the bus", None), "ports", Error, &["as root"]);
}

fn chain(table: &str, name: &str, hook: Hook, drops: bool) -> Chain {
    Chain { table: table.into(), name: name.into(), hook: Some(hook), drops }
}

#[test]
fn firewalls() {
    let finding = fault(|facts| {
        let docker = chain("filter", "DOCKER-FORWARD", Hook::Forward, false);
        facts.chains = Some(vec![chain("filter", "FORWARD", Hook::Forward, true), docker]);
    });
    told(&finding, "firewall-forward", Error, &["Docker", "filter/FORWARD", "DOCKER-USER"]);
    let finding = fault(|facts| {
        facts.chains = Some(vec![chain("mine", "guard", Hook::Input, true)]);
    });
    told(&finding, "firewall-input", Warning, &["nftables", "mine/guard", "10250"]);
    let finding = fault(|facts| facts.legacy_rules = true);
    told(&finding, "firewall-legacy", Warning, &["iptables-legacy -S"]);
    let legacy = |drops, rules| Facts {
        legacy_rules: true,
        legacy: Some(Legacy { drops, rules }),
        ..well()
    };
    told(&fault(|f| *f = legacy(true, 0)), "firewall-legacy", Error, &["FORWARD", "-i edge0"]);
    told(&fault(|f| *f = legacy(false, 2)), "firewall-legacy", Warning, &["2 rules", "-o edge0"]);
    assert!(!judge(&legacy(false, 0)).iter().any(Finding::is_bad), "it does no harm");
}

#[test]
fn networks_and_rivals() {
    let finding = fault(|facts| {
        facts.networks.push(Network { link: "cni0".into(), range: range("10.42.0.0/24") });
    });
    told(&finding, "networks", Error, &["k3s", "cluster-cidr 10.42.0.0/16", "--cluster-cidr"]);
    told(&fault(|f| f.rivals = vec!["k3s".into()]), "rivals", Warning, &["k3s runs here"]);
    told(&fault(|f| f.resolvers = Some(vec![])), "resolver", Warning, &["/etc/resolv.conf"]);
    told(&fault(|f| f.default_route = Some(false)), "default-route", Warning, &["offline"]);
    let locked = Forwarding { on: false, settable: false };
    told(&fault(|f| f.forwarding = Some(locked)), "ip-forward", Error, &["can't be set"]);
    let finding = fault(|facts| facts.wifi[0].power_save = Some(true));
    told(&finding, "wifi-power-save", Warning, &["wlan0 sleeps", "power_save off"]);
    assert_eq!(finding.fix, Some(Fix::WifiAwake("wlan0".into())));
}

#[test]
fn names_keys_and_certificates() {
    told(&fault(|f| f.hostname = Some("raspberrypi".into())), "hostname", Warning, &["every"]);
    told(&fault(|f| f.hostname = Some("my_pi".into())), "hostname", Error, &["\"my_pi\""]);
    let mut named = Facts { named: true, ..well() };
    named.hostname = Some("my_pi".into());
    assert!(!judge(&named).iter().any(Finding::is_bad));
    let finding = fault(|facts| facts.secrets[0].mode = 0o644);
    told(&finding, "keys", Error, &["mode 0644", "chmod 600 /var/lib/edged/pki/board.key"]);
    assert_eq!(finding.fix, Some(Fix::Private("/var/lib/edged/pki/board.key".into())));
    let taken = "join https://10.0.0.1:6443: the name \"a\" is taken by another board";
    told(&fault(|f| f.refused = Some(taken.into())), "joining", Error, &["is taken", "edged.yaml"]);
    told(&fault(|f| f.lost = vec!["pki/ca.crt".into()]), "keys", Error, &["pki/ca.crt"]);
    let near = fault(|facts| facts.certificates[0].ends_ms = NOW + 3 * DAY);
    told(&near, "certificates", Warning, &["node.crt ends in 3 days"]);
    let over = fault(|facts| facts.certificates[0].ends_ms = NOW - DAY);
    told(&over, "certificates", Error, &["ended on 2026-"]);
}

#[test]
fn conditions_stay_while_the_board_does() {
    let mut facts = well();
    facts.throttled = Some(0x5_0005);
    facts.flash[0].life = vec![11];
    facts.swaps[0].flash = true;
    let found = conditions(&facts);
    let kinds: Vec<_> = found.iter().map(|condition| condition.kind).collect();
    assert_eq!(kinds, CONDITIONS);
    // The supply is fine for the moment, the board cools, the disk fills: nothing to write.
    facts.throttled = Some(0x5_0000);
    facts.temperature_milli = Some(85_000);
    facts.filesystems[1].bytes_free = 1;
    facts.synchronised = Some(false);
    assert_eq!(conditions(&facts), found);
}
