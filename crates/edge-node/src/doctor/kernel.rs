//! What the kernel says of itself: control groups, modules, pages, power, heat, limits.

use edge_core::doctor::{Ability, Cgroups, CmdlineFile, Facts, Layout, Module, is_cmdline};

use super::Place;
use super::files::Files;
use super::power;
use crate::net::survey;

/// Where the boot partition is mounted.
const BOOT: &str = "/boot/firmware";
/// Where Raspberry Pi OS keeps the kernel's command line, the newer place first.
pub(super) const CMDLINES: [&str; 2] = ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];
/// The key of the page's size in the auxiliary vector.
const PAGE_SIZE: usize = 6;
const OVERLAY: &str = "overlay";
const RULES: &str = "nf_tables";
/// What edged needs of the kernel, as `modprobe` takes it.
pub(super) const NEEDED: [&str; 5] = [OVERLAY, "bridge", "veth", RULES, TUNNELS];
/// What only some boards need; who does hears of it from the tunnels.
const TUNNELS: &str = "wireguard";
/// Links that edged makes.
const LINKS: [&str; 3] = ["bridge", "veth", TUNNELS];

/// What lies on the boot partition. Never at a glance: on a card it is mounted for whoever looks at
/// it, and that writes to it.
pub(super) fn gather(files: &Files<'_>, facts: &mut Facts) {
    facts.cmdline = CMDLINES.iter().find_map(|path| {
        let text = files.text(path).filter(|text| is_cmdline(text))?;
        Some(CmdlineFile { path: (*path).to_owned(), text })
    });
    let empty = files.at(BOOT).is_dir() && files.names(BOOT).is_empty();
    facts.unmounted = empty.then_some(BOOT);
}

pub(super) fn glance(files: &Files<'_>, facts: &mut Facts) {
    facts.kernel = files.line("proc/sys/kernel/osrelease");
    facts.page_bytes = std::fs::read(files.at("proc/self/auxv")).ok().and_then(|all| page(&all));
    facts.cgroups = cgroups(files);
    facts.throttled = power::word(files);
    facts.voltage_alarm = power::alarm(files);
    facts.raspberry = power::is_raspberry(files);
    let zones = files.names("sys/class/thermal").into_iter();
    let zones = zones.filter(|zone| zone.starts_with("thermal_zone"));
    facts.temperature_milli =
        zones.filter_map(|zone| files.number(&format!("sys/class/thermal/{zone}/temp"))).max();
}

fn page(vector: &[u8]) -> Option<u64> {
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| Some(usize::from_ne_bytes(bytes.try_into().ok()?));
    let mut pairs = vector.chunks_exact(2 * WORD);
    let found = pairs.find(|pair| word(&pair[..WORD]) == Some(PAGE_SIZE))?;
    u64::try_from(word(&found[WORD..])?).ok()
}

fn cgroups(files: &Files<'_>) -> Option<Cgroups> {
    let mounts = files.text("proc/self/mounts")?;
    let mut controllers = Vec::new();
    let (mut first, mut second) = (false, false);
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(at), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        match kind {
            "cgroup" => {
                first = true;
                controllers.extend(options.split(',').map(str::to_owned));
            }
            "cgroup2" => {
                second = true;
                let offered = files.line(&format!("{at}/cgroup.controllers")).unwrap_or_default();
                controllers.extend(offered.split_ascii_whitespace().map(str::to_owned));
            }
            _ => {}
        }
    }
    let layout = match (first, second) {
        (true, true) => Layout::Hybrid,
        (true, false) => Layout::V1,
        (false, true) => Layout::V2,
        (false, false) => return None,
    };
    Some(Cgroups { layout, controllers })
}

/// Looks which of the modules that edged needs are there. On the real board the kernel is asked,
/// which may load them.
pub(super) fn modules(place: &Place, facts: &mut Facts) {
    let files = Files(&place.root);
    let release = facts.kernel.clone().unwrap_or_default();
    let dir = format!("lib/modules/{release}");
    let list = |name: &str| files.text(&format!("{dir}/{name}"));
    let (built_in, on_disk) = (list("modules.builtin"), list("modules.dep"));
    let loads = files
        .line("proc/sys/kernel/modprobe")
        .is_some_and(|path| !path.is_empty() && files.at(&path).exists());
    let left_out = if place.runs { TUNNELS } else { "" };
    let asked = if place.is_real() { ask(left_out) } else { Vec::new() };
    let filesystems = files.text("proc/filesystems").unwrap_or_default();
    for name in NEEDED.into_iter().filter(|name| *name != left_out) {
        let told = asked.iter().find(|(kind, _)| *kind == name).map(|(_, there)| *there);
        let seen = told == Some(true)
            || files.at(&format!("sys/module/{name}")).exists()
            || (name == OVERLAY && filesystems.lines().any(|line| line.ends_with("\toverlay")))
            || built_in.as_deref().is_some_and(|text| listed(text, name));
        let stored = on_disk.as_deref().is_some_and(|text| listed(text, name));
        let ability = match (seen, stored) {
            (true, _) => Ability::There,
            // The kernel loads it when it is needed.
            (false, true) if loads && told.is_none() => Ability::There,
            (false, true) => Ability::OnDisk,
            (false, false) if told.is_none() && on_disk.is_none() => {
                let words = format!("whether the kernel has {name} (run this as root)");
                facts.unseen.push(("modules", words));
                continue;
            }
            (false, false) => Ability::Missing,
        };
        facts.modules.push(Module { name, ability });
    }
}

/// What the kernel answers when it is asked for rules and links, but for one kind.
fn ask(left_out: &str) -> Vec<(&'static str, bool)> {
    let links: Vec<_> = LINKS.into_iter().filter(|link| *link != left_out).collect();
    let mut told = survey::link_kinds(&links).unwrap_or_default();
    match survey::chains() {
        Ok(_) => told.push((RULES, true)),
        Err(crate::net::NetError::NoNfTables { .. }) => told.push((RULES, false)),
        Err(_) => {}
    }
    told
}

/// Whether a list of the kernel's module files, one a line, has the module. A file may be
/// compressed, and its name may have hyphens for underscores.
fn listed(text: &str, name: &str) -> bool {
    text.lines().any(|line| module_of(line) == name)
}

/// The module's name in a line of `modules.dep` or `modules.builtin`.
pub(super) fn module_of(line: &str) -> String {
    let path = line.split(':').next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

pub(super) fn limits(files: &Files<'_>, facts: &mut Facts) {
    let limits = files.text("proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    facts.open_files = hard.map(|hard| hard.parse().unwrap_or(u64::MAX));
    facts.inotify_instances = files.number("proc/sys/fs/inotify/max_user_instances");
    facts.inotify_watches = files.number("proc/sys/fs/inotify/max_user_watches");
    facts.entropy = files.number("proc/sys/kernel/random/entropy_avail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        let line = "kernel/net/netfilter/nf_tables.ko.xz: kernel/net/netfilter/nfnetlink.ko.xz";
        assert_eq!(module_of(line), "nf_tables");
        assert_eq!(module_of("kernel/drivers/net/some-thing.ko"), "some_thing");
        assert!(listed("kernel/fs/overlayfs/overlay.ko\n", "overlay"));
        assert!(!listed("kernel/fs/overlayfs/overlay.ko\n", "over"));
    }

    #[test]
    fn this_board_has_pages() {
        let page = page(&std::fs::read("/proc/self/auxv").unwrap()).unwrap();
        assert!(page.is_power_of_two() && page >= 4096, "{page}");
    }
}
