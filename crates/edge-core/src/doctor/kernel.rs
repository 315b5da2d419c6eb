//! What the kernel can: control groups, modules, pages, its age, its limits and its clock.

use super::{Ability, Cgroups, Facts, Finding, Fix, Layout, Severity, with_memory};

/// Controllers beside memory that limits of pods need.
const CONTROLLERS: [&str; 3] = ["cpu", "cpuset", "pids"];
/// The first kernel with openat2, pidfd_open, clone3 and close_range's fellows that edged needs.
const OLDEST: (u32, u32) = (5, 6);
/// No board that runs this program lives before 2026: milliseconds since 1970.
const THIS_PROGRAM: i64 = 1_767_225_600_000;
/// Fewer bits than these are few; newer kernels say 256 from the first second on.
const CHANCE: u64 = 128;
/// What a server with some hundred connections needs at least.
const FILES: u64 = 1024;
const INSTANCES: u64 = 128;
const WATCHES: u64 = 8192;

pub(super) fn judge(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some(cgroups) = &facts.cgroups {
        memory(facts, cgroups, found);
        controllers(cgroups, found);
    }
    modules(facts, found);
    if let Some(bytes) = facts.page_bytes {
        let what = format!("pages of {} KiB", bytes >> 10);
        found.push(match bytes {
            4096 | 16384 => Finding::ok("page-size", what),
            _ => Finding::warning(
                "page-size",
                what,
                "edged runs on pages of 4 and 16 KiB; others were never tried, and images built \
                 for 4 KiB may not start",
                "choose a kernel with pages of 4 or 16 KiB (on Raspberry Pi: kernel=kernel8.img in \
                 config.txt)",
            ),
        });
    }
    if let Some(release) = &facts.kernel {
        found.push(match version(release) {
            Some(version) if version < OLDEST => Finding::error(
                "kernel",
                format!("the kernel is {release}"),
                "edged needs system calls that came with 5.6 (openat2, pidfd_open)",
                "update the board's system",
            ),
            _ => Finding::ok("kernel", format!("the kernel is {release}")),
        });
    }
    clock(facts, found);
    limits(facts, found);
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn memory(facts: &Facts, cgroups: &Cgroups, found: &mut Vec<Finding>) {
    let id = "memory-cgroup";
    if cgroups.controllers.iter().any(|name| name == "memory") {
        return found.push(Finding::ok(id, "memory limits hold"));
    }
    let what = "the kernel runs without the memory cgroup";
    let why = "pods with a memory limit do not start, and one pod can take all of the board's \
               memory";
    let words = "cgroup_enable=memory cgroup_memory=1";
    if let (None, Some(dir)) = (&facts.cmdline, facts.unmounted) {
        let todo = format!(
            "{dir} is empty, so the boot partition is not mounted: `mount {dir}`, and then `edged \
             doctor --fix`; or add \"{words}\" to the line in its cmdline.txt, and reboot"
        );
        return found.push(Finding::error(id, what, why, todo));
    }
    let Some(file) = &facts.cmdline else {
        let todo = format!(
            "add \"{words}\" to the kernel's command line where the boot loader keeps it \
             (GRUB_CMDLINE_LINUX in /etc/default/grub, append in extlinux.conf, extraargs in \
             armbianEnv.txt), and reboot"
        );
        return found.push(Finding::error(id, what, why, todo));
    };
    found.push(match with_memory(&file.text) {
        Some(text) => {
            let todo = format!("add \"{words}\" to the line in {} and reboot", file.path);
            let fix = Fix::Cmdline { path: file.path.clone(), text };
            Finding::error(id, what, why, todo).with(fix)
        }
        None => {
            let todo = format!(
                "reboot: {} says {words:?} already, and takes effect then; if it did not, this \
                 kernel was built without CONFIG_MEMCG",
                file.path
            );
            Finding::error(id, what, why, todo)
        }
    });
}

fn controllers(cgroups: &Cgroups, found: &mut Vec<Finding>) {
    let id = "cgroup-controllers";
    let layout = match cgroups.layout {
        Layout::V1 => "version 1",
        Layout::Hybrid => "version 1 with an empty version 2 beside it",
        Layout::V2 => "version 2",
    };
    let has = |name: &&&str| cgroups.controllers.iter().any(|found| found == **name);
    let missing: Vec<&str> = CONTROLLERS.iter().filter(|name| !has(name)).copied().collect();
    found.push(match missing.is_empty() {
        true => Finding::ok(id, format!("cgroups of {layout}, with all that limits need")),
        false => Finding::error(
            id,
            format!("cgroups of {layout} lack {}", missing.join(", ")),
            "pods with limits of that kind do not start",
            "boot a kernel that has these controllers, without cgroup_disable= on its command line",
        ),
    });
}

fn modules(facts: &Facts, found: &mut Vec<Finding>) {
    for module in &facts.modules {
        let (id, severity, why) = match module.name {
            "overlay" => (
                "module-overlay",
                Severity::Error,
                "no container can start: their roots are overlays of the image's layers",
            ),
            "nf_tables" => (
                "module-nf_tables",
                Severity::Warning,
                "edged carries Services itself: slower, without source addresses and policies",
            ),
            "wireguard" => (
                "module-wireguard",
                Severity::Warning,
                "pods of boards on other networks can't be reached, and nothing is encrypted",
            ),
            "veth" => ("module-veth", Severity::Error, "pods get no network"),
            _ => ("module-bridge", Severity::Error, "pods get no network"),
        };
        let name = module.name;
        match module.ability {
            Ability::There => found.push(Finding::ok(id, format!("the kernel has {name}"))),
            Ability::OnDisk => {
                let what = format!("the module {name} is not loaded");
                let todo = format!(
                    "`modprobe {name}`, and a line {name} in /etc/modules-load.d/edged.conf"
                );
                let finding = Finding::bad(id, severity, what, why, todo);
                found.push(finding.with(Fix::Module(name)));
            }
            Ability::Missing => {
                let what = format!("the kernel has no {name}");
                let todo = format!(
                    "install the modules of the running kernel (a reboot after an update may be \
                     due), or a kernel that has {name}"
                );
                found.push(Finding::bad(id, severity, what, why, todo));
            }
        }
    }
}

fn clock(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "clock";
    let why = "until the clock is right, images can't be pulled (certificates look not yet valid), \
               and logs and events tell wrong times; pods start all the same";
    let todo = "let the board reach a time server (systemctl status systemd-timesyncd, or chrony), \
                or give it a clock with a battery";
    let early = facts.now_ms.is_some_and(|now| now < THIS_PROGRAM);
    match (early, facts.synchronised) {
        (true, _) => {
            let what = "the clock is before 2026, when this program was made";
            found.push(Finding::warning(id, what, why, todo));
        }
        (false, Some(false)) => {
            let what = "the clock follows no source of time";
            found.push(Finding::warning(id, what, why, todo));
        }
        (false, Some(true)) => found.push(Finding::ok(id, "the clock is synchronised")),
        (false, None) => found.push(Finding::ok(id, "the clock looks sane")),
    }
}

fn limits(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some(files) = facts.open_files {
        let what = format!("{files} files may be open");
        found.push(match files < FILES {
            false => Finding::ok("open-files", what),
            true => Finding::warning(
                "open-files",
                what,
                "connections of clients and pods are refused when they run out",
                "raise LimitNOFILE= of edged.service, or `ulimit -n`",
            ),
        });
    }
    let settings = [
        ("fs/inotify/max_user_instances", facts.inotify_instances, INSTANCES, "512"),
        ("fs/inotify/max_user_watches", facts.inotify_watches, WATCHES, "65536"),
    ];
    for (name, value, least, wanted) in settings {
        let Some(value) = value else { continue };
        let setting = name.replace('/', ".");
        let what = format!("{setting} is {value}");
        if value >= least {
            found.push(Finding::ok("inotify", what));
            continue;
        }
        let why = "pods and `logs -f` that watch files fail with \"too many open files\"";
        let todo = format!("set {setting} to {wanted} in /etc/sysctl.d");
        let finding = Finding::warning("inotify", what, why, todo);
        found.push(finding.with(Fix::Sysctl { name, value: wanted }));
    }
    match facts.entropy {
        Some(bits) if bits < CHANCE => found.push(Finding::warning(
            "entropy",
            format!("the kernel has gathered {bits} bits of chance"),
            "keys are made of it: the first start may wait",
            "wait, or turn the board's hardware random generator on (dtparam=random=on)",
        )),
        Some(_) => found.push(Finding::ok("entropy", "the kernel has chance enough")),
        None => {}
    }
}
