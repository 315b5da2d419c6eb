//! `edged doctor --fix` on a kernel that lacks a module: it lies on the disk with what it needs, no
//! `modprobe` is there, and the doctor loads it.

use super::Lan;
use super::files::Files;
use super::kernel::Kernel;
use super::machine::Guest;
use crate::board::machine::built;

/// Looks, or repairs; says what of the module is told.
fn doctor(guest: &mut Guest, more: &str) -> String {
    let ask = format!("edged doctor --name b1 --node-ip 10.0.0.1 {more} | grep module-wireguard");
    guest.ok(&ask)
}

#[test]
fn a_module_that_is_on_the_disk_is_loaded() {
    if !super::asked() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("edged-guest-doctor-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let kernel = Kernel::find();
    let mut files = Files::new(&kernel, &[]).program(&built("edged"));
    // As `depmod` writes it: a module and all that it needs, those that others need last.
    let mut needs = Vec::new();
    for path in kernel.modules(&["wireguard"]) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        files = files.file(&name, &std::fs::read(path).expect("a module can be read"));
        needs.insert(0, name);
    }
    let own = needs.remove(0);
    files = files.file("modules.dep", format!("{own}: {}\n", needs.join(" ")).as_bytes());
    let disk = dir.join("disk");
    std::fs::write(&disk, files.finish()).expect("a disk");
    let lan = Lan::new("doctor");
    let mut guest = Guest::start("d", &kernel, &disk, &lan, &[]);
    guest.booted();
    guest.ok("d=/lib/modules/$(cat /proc/sys/kernel/osrelease) && mkdir -p $d && cp /files/* $d/");
    guest.ok("! test -d /sys/module/wireguard");
    let found = doctor(&mut guest, "");
    assert!(found.contains("warning"), "{found}");
    let fixed = doctor(&mut guest, "--fix");
    assert!(fixed.contains("loaded wireguard, and wrote it to"), "{fixed}");
    println!("{fixed}");
    guest.ok("test -d /sys/module/wireguard && grep -x wireguard /etc/modules-load.d/edged.conf");
    let after = doctor(&mut guest, "--fix");
    assert!(after.starts_with("ok"), "again it is well: {after}");
    std::fs::remove_dir_all(&dir).expect("a directory of ours");
}
