//! Cut off in the middle, and boot partitions that are not there, vanish, are full or can't be
//! written: edged waits on a board that has no settings yet, and nothing is half-applied.

use std::fs;

use super::super::*;
use super::{Card, token};

/// All steps of a plan that were cut off before the first, between two, and after the last, by
/// putting the fresh files and the list where a killed process leaves them.
#[test]
fn who_is_cut_off_goes_on() {
    let whole = Card::new("whole");
    assert_eq!(whole.boot("name: a\nrole: server\n"), 0);
    for done in 0..=2 {
        let card = Card::new("cut");
        let all = ["etc/hostname", "etc/default/edged"];
        fs::create_dir_all(card.root("etc/default")).unwrap();
        fs::create_dir_all(card.root("etc/edged")).unwrap();
        let mut list = String::new();
        for (n, path) in all.iter().enumerate() {
            let place = card.root(path);
            let fresh = if n < done { place.clone() } else { place.with_file_name(name(path)) };
            fs::write(fresh, whole.has(path)).unwrap();
            list += &format!("place /{path}\n");
        }
        fs::write(card.root(commit::LIST), list).unwrap();
        fs::write(card.root(HOLD), "").unwrap();
        // Edged.yaml has vanished meanwhile.
        assert_eq!(card.again(), 0);
        for path in all {
            assert_eq!(card.has(path), whole.has(path), "{path} after {done}");
        }
        assert!(!card.root(commit::LIST).exists() && !card.root(HOLD).exists());
        assert!(!card.root("etc").join("hostname.new").exists());
    }
}

fn name(path: &str) -> String {
    format!("{}.new", Path::new(path).file_name().unwrap().to_str().unwrap())
}

#[test]
fn a_fresh_board_waits_while_its_boot_partition_is_missing() {
    let card = Card::new("missing");
    let unit = |card: &Card| {
        let dir = card.dir.join("boot").display().to_string();
        let unit = dir.trim_matches('/').replace('-', "\\x2d").replace('/', "-");
        card.root("run/systemd/generator").join(format!("{unit}.mount"))
    };
    fs::create_dir_all(card.root("run/systemd/generator")).unwrap();
    fs::write(unit(&card), "").unwrap();
    assert_eq!(card.again(), FAILED, "it is tried again");
    assert!(card.root(HOLD).exists());
    assert_eq!(card.told(), "", "nothing is written where the partition is missing");
    // A board that has its settings goes on.
    fs::create_dir_all(card.root("var/lib/edged/pki")).unwrap();
    assert_eq!(card.again(), AS_IT_WAS);
    assert!(!card.root(HOLD).exists());
    fs::remove_dir_all(card.root("var/lib/edged/pki")).unwrap();
    assert_eq!(card.again(), FAILED);
    fs::remove_file(unit(&card)).unwrap();
    assert_eq!(card.again(), 0, "the partition is there, and nobody wants anything");
    assert!(!card.root(HOLD).exists());
}

#[test]
fn a_file_that_vanishes_or_changes_is_not_written_over() {
    let card = Card::new("vanish");
    let boot = Boot::new(&card.dir.join("boot"), &card.root(""));
    let (text, span) = ("token: secret\n", 7..13);
    boot.redact(text, std::slice::from_ref(&span)).unwrap();
    assert!(!boot.file().exists(), "what is gone is not made again");
    fs::write(boot.file(), "name: other\n").unwrap();
    let told = boot.redact(text, std::slice::from_ref(&span)).unwrap_err().to_string();
    assert_eq!(told, "it has been changed meanwhile");
    assert_eq!(card.left(), "name: other\n");
    // A board that waited for a mistake is let go when the file is taken away.
    assert_eq!(card.boot("name: _\n"), USAGE);
    assert!(card.root(HOLD).exists());
    fs::remove_file(boot.file()).unwrap();
    assert_eq!(card.again(), 0);
    assert!(!card.root(HOLD).exists() && card.told().is_empty());
}

/// Wherever a sector ends, and whichever of the two was written when the power went.
#[test]
fn half_of_a_secret_is_no_new_one() {
    let text = format!("token: {}\nwifi: {{ssid: n, password: 12345678}}\n", token());
    let whole = Card::new("whole");
    assert_eq!(whole.boot(&text), 0);
    let (left, note) = (whole.left(), whole.has(APPLIED));
    let changed: Vec<usize> =
        (0..text.len()).filter(|n| left.as_bytes()[*n] != text.as_bytes()[*n]).collect();
    let places = noted::places(&[7..7 + token().len(), text.len() - 10..text.len() - 2]);
    let card = Card::new("half");
    assert_eq!(card.boot(&text), 0);
    for (n, first) in changed.iter().flat_map(|n| [(*n, true), (*n, false)]) {
        let (mut head, tail) = match first {
            true => (left.as_bytes()[..n].to_vec(), &text.as_bytes()[n..]),
            false => (text.as_bytes()[..n].to_vec(), &left.as_bytes()[n..]),
        };
        head.extend(tail);
        fs::write(card.boot_file("edged.yaml"), head).unwrap();
        fs::write(card.root(APPLIED), format!("{note}{places}")).unwrap();
        assert_eq!(card.again(), 0, "{n} {first}: {}", card.told());
        assert_eq!(card.left(), left);
        assert_eq!(card.has("etc/edged/token"), whole.has("etc/edged/token"));
        assert_eq!(card.has(plan::WPA), whole.has(plan::WPA));
        assert_eq!(card.has(APPLIED), note);
    }
    // A new one that is as long is a new one.
    assert_eq!(card.boot(&left.replace("stored  }", "87654321}")), 0, "{}", card.told());
    assert!(card.has(plan::WPA).contains(&wifi::key("n", "87654321")));
    assert_eq!(card.left(), left);
}

/// A file system of its own, with so much room.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &Path, size: &str) -> Option<Mounted> {
        let flags = nix::mount::MsFlags::empty();
        let data = Some(format!("size={size},mode=755"));
        let done = nix::mount::mount(Some("edt"), at, Some("tmpfs"), flags, data.as_deref());
        if done.is_err() {
            eprintln!("SKIPPED: nobody may mount here");
        }
        done.is_ok().then(|| Mounted(at.to_owned()))
    }

    fn fill(&self) {
        let mut size = 1 << 20;
        let (mut n, mut fails) = (0, 0);
        while fails < 2 {
            let path = self.0.join(format!("fill{n}"));
            n += 1;
            if fs::write(&path, vec![b'x'; size]).is_err() {
                (size, fails) = (4096, fails + usize::from(size == 4096));
                let _ = fs::remove_file(path);
            }
        }
    }

    fn read_only(&self) {
        let flags = nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY;
        nix::mount::mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount(&self.0);
    }
}

#[test]
fn a_full_or_read_only_boot_partition_gives_its_secrets_up_all_the_same() {
    for full in [true, false] {
        let card = Card::new("full-boot");
        let Some(mount) = Mounted::new(&card.dir.join("boot"), "64k") else { return };
        let token = token();
        let text = format!("token: {token}   # of Monday\nname: a\n");
        fs::write(card.boot_file("edged.yaml"), &text).unwrap();
        match full {
            true => mount.fill(),
            false => mount.read_only(),
        }
        assert_eq!(card.again(), 0);
        assert_eq!(card.has("etc/edged/token"), format!("{token}\n"));
        let left = card.left();
        assert!(!left.contains(&token) && left.contains("token: stored "), "{left}");
        assert_eq!(left.len(), text.len(), "in place, which takes no room");
        assert!(card.root(APPLIED).exists() && !card.root(HOLD).exists());
        assert!(!card.boot_file("edged.yaml.new").exists());
        let before = card.root_state();
        assert_eq!(card.again(), 0);
        assert_eq!(card.root_state(), before);
    }
}

#[test]
fn a_full_root_takes_nothing_by_halves() {
    let card = Card::new("full-root");
    let Some(mount) = Mounted::new(&card.root("etc"), "96k") else { return };
    assert_eq!(card.boot("name: one\nrole: server\n"), 0);
    fs::write(card.root("etc/room"), vec![b'x'; 4096]).unwrap();
    mount.fill();
    fs::remove_file(card.root("etc/room")).unwrap();
    let before = card.root_state();
    // There is room for one file and not for all.
    let text = format!("name: two\nrole: agent\njoin: auto\ntoken: {}\n", token());
    assert_eq!(card.boot(&text), AS_IT_WAS);
    assert!(card.told().contains("No space left"), "{}", card.told());
    assert_eq!(card.root_state(), before);
    for n in 0..99 {
        let _ = fs::remove_file(card.root(&format!("etc/fill{n}")));
    }
    assert_eq!(card.again(), 0, "{}", card.told());
    assert_eq!(card.has("etc/hostname"), "two\n");
    assert!(card.has("etc/default/edged").contains("EDGED_ROLE=agent"));
}
