//! A machine's tree before and after edged.

mod package;

use std::collections::BTreeMap;

use clap::Parser;
use edge_core::doctor::Fix;
use edge_node::doctor::repair;

use super::*;
use crate::install::{CONFIG, DEFAULTS, Install};

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Tree {
        let dir = std::env::temp_dir().join(format!("edged-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Tree(dir)
    }

    fn write(&self, path: &str, text: &str) {
        let full = self.0.join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, text).unwrap();
    }

    fn has(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap_or_default()
    }

    /// Everything in it but the kernel's files and edged's own data: mode and content.
    fn all(&self) -> BTreeMap<String, (u32, String)> {
        let mut all = BTreeMap::new();
        let mut left = vec![self.0.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                let (path, meta) = (entry.path(), fs::symlink_metadata(entry.path()).unwrap());
                let name = path.strip_prefix(&self.0).unwrap().display().to_string();
                if ["proc", "boot", "var/lib/edged"].contains(&name.as_str()) {
                    continue;
                }
                let text = match meta.file_type() {
                    kind if kind.is_dir() => "directory".to_owned(),
                    kind if kind.is_symlink() => {
                        fs::read_link(&path).unwrap().display().to_string()
                    }
                    _ => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
                };
                if meta.is_dir() {
                    left.push(path);
                }
                all.insert(name, (meta.permissions().mode() & 0o7777, text));
            }
        }
        all
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    install: Install,
}

#[test]
fn what_a_person_wrote_stays() {
    let tree = Tree::new("uninstall");
    let root = &tree.0;
    tree.write(PROGRAM, "");
    tree.write(TOKEN, "");
    tree.write(CONFIG, "log: debug\n");
    tree.write(DEFAULTS, "# begin: edged install\nEDGED_ROLE=agent\n# end: edged install\n");
    tree.write(CTL, "another program");
    let found = look(root);
    assert_eq!(found.stays, [CONFIG, CTL].map(|path| root.join(path)));
    assert_eq!(found.gone, [TOKEN, DEFAULTS, PROGRAM].map(|path| root.join(path)));
    remove(&found).unwrap();
    assert_eq!(look(root).gone, Vec::<PathBuf>::new());
    assert!(root.join("etc/edged").exists(), "it is not empty");
}

/// Everything that writes outside the data directory: the installation, the settings of the boot
/// partition, the doctor's repairs.
fn lives(tree: &Tree) {
    let root = tree.0.to_str().unwrap();
    install::run(&Typed::parse_from(["edged", "--root", root]).install).unwrap();
    let token = edge_server::join::Token::create(&"p".repeat(43)).unwrap();
    let settings = format!(
        "join: a.lan\ntoken: {token}\nwifi: {{ssid: a, password: 12345678, country: DE}}\n\
         ssh-key: ssh-ed25519 AAAAC3 me\n"
    );
    tree.write("boot/edged.yaml", &settings);
    assert_eq!(
        firstboot::take_from(&tree.0.join("boot"), &tree.0),
        0,
        "{}",
        tree.has("boot/edged-error.txt")
    );
    let (name, value) = ("fs/inotify/max_user_watches", "65536");
    for fix in [Fix::Module("overlay"), Fix::Module("bridge"), Fix::Sysctl { name, value }] {
        repair(&tree.0, &fix).unwrap();
    }
    tree.write(
        "etc/NetworkManager/conf.d/90-edged-wifi.conf",
        "[connection]\nwifi.powersave = 2\n",
    );
}

fn machine(name: &str) -> Tree {
    let tree = Tree::new(name);
    for dir in ["etc/NetworkManager/conf.d", "etc/default", "etc/modules-load.d", "etc/sysctl.d"] {
        fs::create_dir_all(tree.0.join(dir)).unwrap();
    }
    for dir in ["usr/bin", "usr/lib/systemd/system", "usr/lib/systemd/system-preset", "run"] {
        fs::create_dir_all(tree.0.join(dir)).unwrap();
    }
    for dir in ["etc/systemd/network", "etc/wpa_supplicant", "root", "var/lib"] {
        fs::create_dir_all(tree.0.join(dir)).unwrap();
    }
    tree.write("proc/sys/fs/inotify/max_user_watches", "10");
    tree
}

#[test]
fn the_tree_is_as_it_was_before() {
    // Whether the directories of others were there or not.
    for missing in [&["etc/wpa_supplicant"][..], &["etc/systemd/network", "etc/default"], &[]] {
        let tree = machine("before");
        for dir in missing {
            fs::remove_dir(tree.0.join(dir)).unwrap();
        }
        if missing.is_empty() {
            fs::create_dir(tree.0.join("root/.ssh")).unwrap();
            // One whose network NetworkManager runs.
            tree.write("etc/systemd/system/multi-user.target.wants/NetworkManager.service", "");
        }
        as_before(&tree);
    }
}

fn as_before(tree: &Tree) {
    let before = tree.all();
    lives(tree);
    let installed = tree.all();
    assert!(installed.len() > before.len() + 12, "{:?}", installed.keys());
    let found = look(&tree.0);
    assert!(found.stays.is_empty() && found.parts.is_empty(), "{found:?}");
    assert!(found.notes[0].contains("no other SSH key"), "{found:?}");
    remove(&found).unwrap();
    assert_eq!(tree.all(), before);
}

#[test]
fn lines_of_others_in_the_same_files_stay_as_they_were() {
    let tree = machine("others");
    tree.write("root/.ssh/authorized_keys", "ssh-rsa AAAA other\n");
    tree.write("etc/default/edged", "EDGED_LOG=debug\n");
    tree.write("etc/edged/config.yaml", "log: info\n");
    tree.write("etc/modules-load.d/edged.conf", "# mine\ni2c-dev\n");
    tree.write("etc/sysctl.d/90-edged.conf", "vm.swappiness = 1\n");
    for (path, mode) in [("root/.ssh", 0o700), ("root/.ssh/authorized_keys", 0o600)] {
        fs::set_permissions(tree.0.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = tree.all();
    lives(&tree);
    assert!(tree.has("root/.ssh/authorized_keys").contains("AAAAC3"));
    let found = look(&tree.0);
    assert_eq!((found.parts.len(), found.stays.len(), found.notes.len()), (5, 0, 0), "{found:?}");
    remove(&found).unwrap();
    assert_eq!(tree.all(), before);
    let left = look(&tree.0);
    assert!(left.gone.is_empty() && left.parts.is_empty(), "{left:?}");
}

#[test]
fn what_was_added_beneath_the_lines_of_an_installation_stays() {
    let tree = machine("added");
    let earlier = "# Written by `edged install`.\n";
    let joins = format!("{earlier}join:\n  - \"auto\"\ntoken-file: /etc/edged/token\n");
    tree.write(CONFIG, &format!("{joins}upgrade-keys: [a]\n"));
    tree.write(DEFAULTS, &format!("{earlier}EDGED_ROLE=agent\n"));
    let found = look(&tree.0);
    assert_eq!(found.parts, [(tree.0.join(CONFIG), "upgrade-keys: [a]\n".to_owned())]);
    assert!(found.gone.contains(&tree.0.join(DEFAULTS)), "{found:?}");
    tree.write(CONFIG, &joins);
    assert!(look(&tree.0).gone.contains(&tree.0.join(CONFIG)));
}

#[test]
fn a_part_whose_end_is_missing_is_left_alone_and_named() {
    let tree = machine("torn");
    let keys = "# begin: edged.yaml of the boot partition\nssh-rsa AAAA a\nssh-rsa AAAA other\n";
    tree.write("root/.ssh/authorized_keys", keys);
    let found = look(&tree.0);
    assert_eq!(found.stays, [tree.0.join("root/.ssh/authorized_keys")]);
    assert!(found.parts.is_empty() && found.gone.is_empty(), "{found:?}");
    let told = &found.notes[0];
    assert!(told.starts_with("/root/.ssh/authorized_keys: the line \"# begin: "), "{told}");
    remove(&found).unwrap();
    assert_eq!(tree.has("root/.ssh/authorized_keys"), keys);
}

#[test]
fn what_could_not_be_cleaned_up_keeps_the_program() {
    let tree = machine("failed");
    lives(&tree);
    let before = tree.all();
    let found = look(&tree.0);
    let why = failed("remove /var/lib/edged", "Device or resource busy");
    let told = take_away(&found, Err(why), &[]).unwrap_err().to_string();
    assert_eq!(tree.all(), before, "nothing else is taken away");
    for words in ["busy", "are still there: restart the machine", "`edged uninstall` once more"] {
        assert!(told.contains(words) && told.lines().count() == 1, "{told}");
    }
    // What somebody mounted there is mounted again by a restart.
    let why = failed("remove /var/lib/edged/images", "another file system is mounted there");
    let mounted = ["/var/lib/edged/images".into()];
    let told = take_away(&found, Err(why), &mounted).unwrap_err().to_string();
    let words = "unmount /var/lib/edged/images and take its line out of /etc/fstab, and type";
    assert!(told.contains(words) && !told.contains("restart"), "{told}");
    // One file that stays keeps it as well.
    let unit = tree.0.join(UNITS[0].path);
    fs::remove_file(&unit).unwrap();
    fs::create_dir(&unit).unwrap();
    assert!(take_away(&found, Ok(()), &[]).unwrap_err().to_string().contains("edged.service"));
    assert!(tree.0.join(PROGRAM).exists() && !tree.0.join(UNITS[1].path).exists());
    fs::remove_dir(&unit).unwrap();
    take_away(&look(&tree.0), Ok(()), &[]).unwrap();
    assert!(!tree.0.join(PROGRAM).exists());
}

#[test]
fn pods_that_are_being_stopped_are_waited_for() {
    let over = ["active", "activating", "deactivating", "reloading", "inactive", "failed"];
    assert_eq!(over.map(is_over), [false, false, false, false, true, true]);
}

#[test]
fn the_kernels_words_stay_and_are_named() {
    let tree = machine("words");
    tree.write("boot/firmware/cmdline.txt", "console=tty1\n");
    let path = "/boot/firmware/cmdline.txt".to_owned();
    let fix = Fix::Cmdline { path, text: "console=tty1 cgroup_enable=memory\n".to_owned() };
    repair(&tree.0, &fix).unwrap();
    let found = look(&tree.0);
    let told = &found.notes[0];
    assert!(told.starts_with("/boot/firmware/cmdline.txt keeps the memory cgroup on"), "{told}");
    assert!(told.ends_with("cmdline.txt.before-edged"), "{told}");
    remove(&found).unwrap();
    assert_eq!(tree.has("boot/firmware/cmdline.txt"), "console=tty1 cgroup_enable=memory\n");
}
