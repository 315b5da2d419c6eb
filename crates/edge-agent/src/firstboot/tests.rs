//! A boot partition and a root in a temporary directory, taken from boot to boot.

mod bad;
mod broken;
mod kept;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use edge_server::join::Token;

use super::{APPLIED, Firstboot, HOLD, nm, plan, run, wifi};

struct Card {
    dir: PathBuf,
}

impl Card {
    fn new(name: &str) -> Card {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = format!("edged-card-{name}-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        let _ = fs::remove_dir_all(&dir);
        for sub in ["boot", "root/etc", "root/run", "root/var/lib/edged"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        Card { dir }
    }

    fn boot(&self, text: &str) -> i32 {
        fs::write(self.dir.join("boot/edged.yaml"), text).unwrap();
        self.again()
    }

    fn again(&self) -> i32 {
        run(&Firstboot { boot: self.dir.join("boot"), root: self.dir.join("root") })
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.join("root").join(path)
    }

    fn has(&self, path: &str) -> String {
        fs::read_to_string(self.root(path)).unwrap_or_default()
    }

    fn left(&self) -> String {
        fs::read_to_string(self.dir.join("boot/edged.yaml")).unwrap()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.dir.join("boot/edged-error.txt")).unwrap_or_default()
    }

    fn boot_file(&self, name: &str) -> PathBuf {
        self.dir.join("boot").join(name)
    }

    /// As [`Card::state`], of the board alone.
    fn root_state(&self) -> State {
        let boot = self.dir.join("boot");
        self.state().into_iter().filter(|(path, _, _)| !path.starts_with(&boot)).collect()
    }

    /// Every file of the root, with what it holds and when it was written.
    fn state(&self) -> State {
        let mut all = Vec::new();
        walk(&self.dir, &mut all);
        all.sort();
        all
    }
}

type State = Vec<(PathBuf, Vec<u8>, std::time::SystemTime)>;

fn walk(dir: &Path, all: &mut State) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path(), all),
            kind if kind.is_symlink() => {}
            _ => {
                let changed = entry.metadata().unwrap().modified().unwrap();
                all.push((entry.path(), fs::read(entry.path()).unwrap(), changed));
            }
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn token() -> String {
    Token::create(&"p".repeat(43)).unwrap().to_string()
}

/// What stands in the place of a secret.
fn stored(secret: &str) -> String {
    format!("{:<1$}", "stored", secret.len())
}

#[test]
fn an_agent_in_the_kitchen() {
    let card = Card::new("agent");
    fs::write(card.root("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\told\n").unwrap();
    let token = token();
    let text = format!(
        "# My board\r\nname: kitchen\r\njoin: auto   # the LAN's\r\ntoken: {token}  # of Monday\r\n\
         wifi: {{ssid: Home, password: \"hush hush\", country: DE}}\r\n\
         ssh-key: ssh-ed25519 AAAAC3 me\r\n"
    );
    assert_eq!(card.boot(&text), 0, "{}", card.told());
    assert_eq!(card.has("etc/hostname"), "kitchen\n");
    assert_eq!(card.has("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tkitchen\n");
    assert_eq!(card.has("etc/edged/token"), format!("{token}\n"));
    assert!(card.has("etc/default/edged").contains("\nEDGED_ROLE=agent\n"));
    let config = card.has("etc/edged/config.yaml");
    let file = crate::config::File::parse(&config).unwrap();
    assert_eq!(file.join, ["auto"]);
    assert_eq!(file.token_file.as_deref(), Some(Path::new("/etc/edged/token")));
    let wpa = card.has("etc/wpa_supplicant/wpa_supplicant-wlan0.conf");
    assert!(wpa.contains("country=DE") && wpa.contains("ssid=486f6d65") && !wpa.contains("hush"));
    assert!(card.has("etc/systemd/network/10-edged-wifi.network").contains("DHCP=yes"));
    for (path, mode) in [
        ("etc/edged/token", 0o600),
        ("etc/wpa_supplicant/wpa_supplicant-wlan0.conf", 0o600),
        ("root/.ssh/authorized_keys", 0o600),
        ("root/.ssh", 0o700),
        ("etc/hostname", 0o644),
    ] {
        let is = fs::metadata(card.root(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(is, mode, "{path}");
    }
    // Nothing else of the file has changed.
    let left = text.replace(&token, &stored(&token)).replace("\"hush hush\"", "stored     ");
    assert_eq!(card.left(), left);
    // Once more, and after the note of what was taken is lost: nothing is written.
    let before = card.state();
    assert_eq!(card.again(), 0);
    assert_eq!(card.state(), before);
    fs::remove_file(card.root(APPLIED)).unwrap();
    assert_eq!(card.again(), 0);
    let but_the_note = |state: Vec<(PathBuf, _, _)>| -> Vec<_> {
        state.into_iter().filter(|(path, _, _)| !path.ends_with(APPLIED)).collect()
    };
    assert_eq!(but_the_note(card.state()), but_the_note(before));
}

#[test]
fn a_changed_file_is_taken_and_a_bad_one_is_not() {
    let card = Card::new("changed");
    let first = format!("name: one\ntoken: {}\nwifi: {{ssid: a, password: 12345678}}\n", token());
    assert_eq!(card.boot(&first), 0);
    let kept = card.has("etc/edged/token");
    let wpa = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf";
    let key = card.has(wpa).lines().find(|l| l.contains("psk=")).unwrap().to_owned();
    // The stored secrets go on.
    assert_eq!(card.boot(&card.left().replace("one", "two").replace("{", "{country: FR, ")), 0);
    assert_eq!((card.has("etc/hostname"), card.has("etc/edged/token")), ("two\n".into(), kept));
    assert!(card.has(wpa).contains("country=FR") && card.has(wpa).contains(&key));
    // A mistake is said once, and changes nothing.
    let good = card.root_state();
    assert_eq!(card.boot("name: three\nrole: sever\n"), 64);
    let told = card.told();
    assert!(told.starts_with("edged.yaml, line 2: role: \"sever\" is neither"), "{told}");
    assert!(!card.root(HOLD).exists(), "it goes on as it was");
    assert_eq!(card.root_state(), good);
    // Another network needs its own password.
    assert_eq!(card.boot("wifi: {ssid: b, password: stored}\n"), 64);
    assert!(card.told().contains("write the password itself"));
    // Without Wi-Fi what was written for it goes, and so does the message.
    assert_eq!(card.boot("name: two\naddress: 10.0.0.9/24\ngateway: 10.0.0.1\n"), 0);
    assert!(!card.root(wpa).exists() && card.told().is_empty());
    assert!(!card.root("etc/edged/config.yaml").exists());
    let wired = card.has("etc/systemd/network/10-edged-wired.network");
    let wanted = "[Match]\nName=en* eth*\n\n[Network]\nMulticastDNS=yes\n\
                  Address=10.0.0.9/24\nDNS=10.0.0.1\n\n[Route]\nGateway=10.0.0.1\n";
    assert!(wired.ends_with(wanted), "{wired}");
}

#[test]
fn a_fresh_card_with_a_mistake_founds_no_cluster() {
    let card = Card::new("fresh");
    assert_eq!(card.again(), 0, "no file asks for nothing");
    assert_eq!(card.boot("join: auto\n"), 64);
    assert!(card.told().contains("line 1: join: a token is missing"), "{}", card.told());
    assert!(card.root(HOLD).exists());
    for (text, told) in [
        (&b"name: a\0\n"[..], "save it as UTF-8"),
        (b"\xff\xfen\0a\0", "save it as UTF-8"),
        (b"token: stored\n", "write the token itself"),
        (b"name: a\n\tjoin: auto\n", "line 2: there is a tab"),
        (b"timezone: Mars/Base\n", "knows no \"Mars/Base\""),
    ] {
        fs::write(card.dir.join("boot/edged.yaml"), text).unwrap();
        assert_eq!(card.again(), 64);
        assert!(card.told().contains(told), "{}", card.told());
    }
    fs::rename(card.dir.join("boot/edged.yaml"), card.dir.join("boot/edged.yaml.txt")).unwrap();
    assert_eq!(card.again(), 64);
    assert!(card.told().contains("rename it"));
    assert_eq!(card.boot("# nothing\n"), 0);
    assert!(!card.root(HOLD).exists() && card.told().is_empty());
}

#[test]
fn a_board_of_a_cluster_is_not_torn_out_of_it() {
    let card = Card::new("member");
    let data = card.root("var/lib/edged");
    fs::create_dir_all(data.join("store")).unwrap();
    fs::write(data.join("name"), "first\n").unwrap();
    for text in ["role: agent\n", &format!("join: auto\ntoken: {}\n", token())] {
        assert_eq!(card.boot(text), 64);
        assert!(card.told().contains("leads a cluster of its own"), "{}", card.told());
    }
    assert_eq!(card.boot("name: second\n"), 0, "only the hostname changes");
    let saved = r#"{"cluster":"c","name":"first","role":"agent"}"#;
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::write(data.join("cluster.json"), saved).unwrap();
    assert_eq!(card.boot("role: server\n"), 64);
    assert!(card.told().contains("joined its cluster as agent"), "{}", card.told());
    // What is left out stays as the board joined; its token may be gone.
    assert_eq!(card.boot("name: second\njoin: [10.0.0.5]\n"), 0);
    assert!(card.has("etc/default/edged").contains("EDGED_ROLE=agent"));
    assert!(!card.has("etc/edged/config.yaml").contains("token-file"));
}

#[test]
fn what_a_person_wrote_into_the_same_files_stays() {
    let card = Card::new("shared");
    fs::create_dir_all(card.root("etc/edged")).unwrap();
    fs::create_dir_all(card.root("etc/default")).unwrap();
    fs::write(card.root("etc/edged/config.yaml"), "log: debug").unwrap();
    fs::write(card.root("etc/default/edged"), "EDGED_LOG=info\n").unwrap();
    assert_eq!(card.boot(&format!("role: server\njoin: a.lan\ntoken: {}\n", token())), 0);
    let file = crate::config::File::parse(&card.has("etc/edged/config.yaml")).unwrap();
    assert_eq!((file.log.as_deref(), &file.join[0][..]), (Some("debug"), "https://a.lan:6443"));
    assert!(card.has("etc/default/edged").starts_with("EDGED_LOG=info\n# begin"));
    assert_eq!(card.boot("name:   # founded after all\n"), 0);
    assert_eq!(card.has("etc/edged/config.yaml"), "log: debug\n");
    assert_eq!(card.has("etc/default/edged"), "EDGED_LOG=info\n");
    fs::write(card.root("etc/edged/config.yaml"), "join: [b.lan:1]\n").unwrap();
    assert_eq!(card.boot("join: a.lan\ntoken: stored\n"), 64);
    assert!(card.told().contains("has a join of its own"), "{}", card.told());
}

#[test]
fn a_part_whose_end_is_missing_is_not_cut_to_the_end_of_the_file() {
    let card = Card::new("torn");
    assert_eq!(card.boot("name: a\nssh-key: ssh-rsa AAAAB3 old\n"), 0);
    let torn = card.has(plan::KEYS).replace(plan::PART.end, "ssh-rsa AAAAB3 mine");
    fs::write(card.root(plan::KEYS), &torn).unwrap();
    let before = card.root_state();
    for text in ["name: b\nssh-key: ssh-rsa AAAAB3 new\n", "name: b\n"] {
        assert_eq!(card.boot(text), 2, "{}", card.told());
        let told = card.told();
        assert!(told.starts_with("/root/.ssh/authorized_keys: the line \"# begin: "), "{told}");
        assert_eq!(card.root_state(), before);
    }
    fs::write(card.root(plan::KEYS), format!("{torn}{}\n", plan::PART.end)).unwrap();
    assert_eq!(card.again(), 0, "{}", card.told());
}

#[test]
fn a_mistake_keeps_nobody_out_whose_key_is_good() {
    let keys = "root/.ssh/authorized_keys";
    let wrong = "role: sever\n\tname: a\nwifi: Home\n";
    for (text, good) in [
        ("ssh-key: ssh-ed25519 AAAAC3 me\r\n", &["ssh-ed25519 AAAAC3 me"][..]),
        (
            "ssh-key:\n  - ssh-rsa AAAAB3 a\n# mine\n- hello\n  - ssh-ed25519 AAAAC3 b\n",
            &["ssh-rsa AAAAB3 a", "ssh-ed25519 AAAAC3 b"],
        ),
        ("ssh-keys: ssh-ed25519 AAAAC3 me\n", &[]),
        ("ssh-key: '-----BEGIN OPENSSH PRIVATE KEY-----'\n", &[]),
    ] {
        let card = Card::new("key");
        assert_eq!(card.boot(&format!("\u{feff}{text}{wrong}")), 64);
        let in_there = card.has(keys);
        let lines: Vec<&str> = in_there.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, good, "{text}");
        let told = card.told();
        assert_eq!(told.contains("its ssh-key lets you in all the same"), !good.is_empty());
        assert_eq!(told.lines().count(), 2, "{told}");
        assert!(card.root(HOLD).exists() && card.has("etc/hostname").is_empty());
        let before = card.state();
        assert_eq!(card.again(), 64);
        let but_the_hold = |state: State| -> State {
            state.into_iter().filter(|(path, _, _)| !path.ends_with(HOLD)).collect()
        };
        assert_eq!(but_the_hold(card.state()), but_the_hold(before), "nothing is written twice");
    }
    // Who may come in already may go on to, until the whole file is right.
    let card = Card::new("keys");
    assert_eq!(card.boot("name: a\nssh-key: ssh-rsa AAAAB3 old\n"), 0);
    assert_eq!(card.boot("name: _\nssh-key: ssh-rsa AAAAB3 new\n"), 64);
    assert!(card.has(keys).contains("old\nssh-rsa AAAAB3 new\n"), "{}", card.has(keys));
    assert_eq!(card.has("etc/hostname"), "a\n");
    assert_eq!(card.boot("name: b\nssh-key: ssh-rsa AAAAB3 new\n"), 0);
    assert!(!card.has(keys).contains("old"), "{}", card.has(keys));
}

#[test]
fn networkmanager_is_told_where_it_runs_the_network() {
    let card = Card::new("manager");
    let text = "wifi: {ssid: Home, password: hush hush, country: DE}\naddress: 10.0.0.9/24\n";
    assert_eq!(card.boot(text), 0, "{}", card.told());
    let key = wifi::key("Home", "hush hush");
    assert!(card.has(plan::WPA).contains(&key) && card.has(nm::WIFI).is_empty());
    // The same card in a system that it runs: what was taken is taken once more, for it.
    let wants = card.root("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    let unit = "/usr/lib/systemd/system/NetworkManager.service";
    std::os::unix::fs::symlink(unit, wants.join("NetworkManager.service")).unwrap();
    fs::create_dir_all(card.root("var/lib/NetworkManager")).unwrap();
    let state = "[main]\nWirelessEnabled=false\nWWANEnabled=true\n";
    fs::write(card.root(nm::STATE), state).unwrap();
    assert_eq!(card.again(), 0, "{}", card.told());
    let profile = card.has(nm::WIFI);
    assert!(profile.contains(&key) && profile.contains("address1=10.0.0.9/24\n"), "{profile}");
    let mode = fs::metadata(card.root(nm::WIFI)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it would not be read");
    assert_eq!(card.has(nm::STATE), "[main]\nWirelessEnabled=true\nWWANEnabled=true\n");
    assert!(card.has(nm::COUNTRY).ends_with("ieee80211_regdom=DE\n"));
    for path in [plan::WPA, plan::WIRELESS, plan::WIRED, nm::WIRED] {
        assert!(!card.root(path).exists(), "{path}");
    }
    let before = card.state();
    assert_eq!(card.again(), 0);
    assert_eq!(card.state(), before);
    // One that can't be written leaves all as it was, and what is not asked for goes.
    let way = card.root("etc/NetworkManager/system-connections/edged-wired.nmconnection.new/x");
    fs::create_dir_all(&way).unwrap();
    let before = card.root_state();
    assert_ne!(card.boot("name: b\naddress: 10.0.0.9/24\n"), 0);
    assert_eq!(card.root_state(), before);
    fs::remove_dir_all(way.parent().unwrap()).unwrap();
    assert_eq!(card.again(), 0, "{}", card.told());
    assert!(card.root(nm::WIRED).exists());
    assert!(!card.root(nm::WIFI).exists() && !card.root(nm::COUNTRY).exists());
    fs::remove_file(wants.join("NetworkManager.service")).unwrap();
    assert_eq!(card.again(), 0);
    assert!(card.root(plan::WIRED).exists() && !card.root(nm::WIRED).exists());
}

#[test]
fn what_cannot_be_written_is_named() {
    let card = Card::new("full");
    let text = format!("name: a\nrole: agent\njoin: auto\ntoken: {}\n", token());
    let way = card.root("etc/edged/token.new/in/the/way");
    fs::create_dir_all(&way).unwrap();
    let before = card.root_state();
    assert_eq!(card.boot(&text), 1);
    assert!(card.told().contains("etc/edged/token: "), "{}", card.told());
    assert!(card.left().contains(&token()[..7]), "it stays where it is");
    // Edged waits, and it is tried again.
    fs::remove_file(card.root(HOLD)).unwrap();
    assert_eq!(card.root_state(), before, "nothing is half-applied");
    fs::remove_dir_all(card.root("etc/edged/token.new")).unwrap();
    assert_eq!(card.again(), 0);
    assert!(!card.root(HOLD).exists() && card.has("etc/hostname") == "a\n");
}
