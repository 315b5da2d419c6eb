//! The package's scripts on a tree of files: a purge leaves what `edged uninstall` leaves.

use std::process::{Command, Output};

use super::*;

fn script(name: &str, word: &str, set: &[(&str, &Path)]) -> Output {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd/deb").join(name);
    Command::new("sh").arg(file).arg(word).envs(set.iter().copied()).output().unwrap()
}

/// Purges, after a removal; gives what was said.
fn purge(tree: &Tree) -> String {
    for path in UNITS.map(|unit| unit.path).into_iter().chain([CTL, PROGRAM]) {
        let _ = fs::remove_file(tree.0.join(path));
    }
    let done = script("postrm", "purge", &[("DPKG_ROOT", &tree.0)]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    said
}

#[test]
fn a_purge_leaves_the_tree_as_it_was_before() {
    let tree = machine("purge");
    let before = tree.all();
    lives(&tree);
    tree.write("var/lib/edged/store/log", "");
    assert_eq!(purge(&tree), "");
    assert_eq!(tree.all(), before);
    assert!(!tree.0.join("var/lib/edged").exists());
}

#[test]
fn a_purge_leaves_the_lines_of_others() {
    let tree = machine("purge-others");
    tree.write("root/.ssh/authorized_keys", "ssh-rsa AAAA other\n");
    let keys = tree.0.join("root/.ssh/authorized_keys");
    fs::set_permissions(keys, fs::Permissions::from_mode(0o600)).unwrap();
    tree.write("etc/modules-load.d/edged.conf", "# mine\ni2c-dev\n");
    tree.write("etc/sysctl.d/90-edged.conf", "vm.swappiness = 1\n");
    let before = tree.all();
    lives(&tree);
    assert_eq!(purge(&tree), "");
    assert_eq!(tree.all(), before);
    // Without an end, nobody knows whose keys follow.
    let begin = "# begin: edged.yaml of the boot partition\n";
    for torn in [
        "ssh-rsa AAAA a\n",
        "a\n# begin: edged.yaml of the boot partition\nb\n# end: \
                  edged.yaml of the boot partition\n",
    ] {
        let keys = format!("{begin}{torn}ssh-rsa AAAA other\n");
        tree.write("root/.ssh/authorized_keys", &keys);
        let said = purge(&tree);
        assert!(said.contains("authorized_keys") && said.lines().count() == 1, "{said}");
        assert_eq!(tree.has("root/.ssh/authorized_keys"), keys);
    }
}

#[test]
fn a_purge_takes_the_state_from_where_it_is() {
    for (path, settings) in [
        (DEFAULTS, "EDGED_LOG=info\n EDGED_DATA_DIR = \"/mnt/my ssd/edged\" \n"),
        (DEFAULTS, "EDGED_DATA_DIR=/mnt/my ssd/edged\n"),
        (CONFIG, "data-dir: '/mnt/my ssd/edged'   # not the card\nlog: info\n"),
        (CONFIG, "data-dir: /mnt/my ssd/edged\n"),
    ] {
        let tree = machine("purge-elsewhere");
        for file in ["mnt/my ssd/edged/pki/board.key", "mnt/my ssd/mine", "var/lib/edged/.removed"]
        {
            tree.write(file, "");
        }
        tree.write(path, settings);
        assert_eq!(purge(&tree), "");
        assert!(!tree.0.join("mnt/my ssd/edged").exists(), "{settings}");
        assert!(tree.0.join("mnt/my ssd/mine").exists() && !tree.0.join("var/lib/edged").exists());
        // A slip in the settings costs nobody's files.
        tree.write(CONFIG, "data-dir: /mnt\n");
        let said = purge(&tree);
        assert!(said.contains("/mnt") && said.contains("it stays"), "{said}");
        assert!(tree.0.join("mnt/my ssd/mine").exists());
        // A link stays and is emptied.
        tree.write("mnt/disk/ledger", "");
        std::os::unix::fs::symlink(tree.0.join("mnt/disk"), tree.0.join("var/lib/edged")).unwrap();
        assert_eq!(purge(&tree), "");
        assert_eq!(fs::read_dir(tree.0.join("var/lib/edged")).unwrap().count(), 0);
    }
}

#[test]
fn a_purge_after_another_installation_takes_nothing() {
    let tree = machine("purge-late");
    lives(&tree);
    tree.write("var/lib/edged/store/log", "");
    let before = tree.all();
    let done = script("postrm", "purge", &[("DPKG_ROOT", &tree.0)]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.contains("`edged install`"), "{said}");
    assert_eq!(tree.all(), before);
    assert!(tree.0.join("var/lib/edged/store/log").exists());
}

#[test]
fn boards_that_cannot_run_it_are_told_before_it_is_there() {
    let tree = machine("preinst");
    for (machine, installs) in [("armv6l", false), ("armv7l", true), ("aarch64", true)] {
        tree.write("bin/uname", &format!("#!/bin/sh\necho {machine}\n"));
        let uname = tree.0.join("bin/uname");
        fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", tree.0.join("bin").display(), std::env::var("PATH").unwrap());
        let done = script("preinst", "install", &[("PATH", Path::new(&path))]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.success(), installs, "{said}");
        assert_eq!(said.lines().count(), usize::from(!installs), "{said}");
        assert_eq!(said.contains("ARMv7 or later: nothing was installed"), !installs);
    }
}
