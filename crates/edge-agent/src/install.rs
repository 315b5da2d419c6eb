//! `edged install`: this file puts itself onto the machine, with the units that it carries, and has
//! systemd start it. Done again it upgrades in place: pods run on. What it writes is what
//! `edged uninstall` takes away.

mod settings;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_core::doctor::UnitFile;
use edge_node::closed::{Closed, closed};
use edge_node::doctor::is_packaged;
use edge_server::pki::{read_if_present, write_atomically};

pub(crate) use settings::others;

use crate::systemd::{Systemd, Word};
use crate::wire::{WireError, failed};

/// Where the program is, for the units and for people.
pub(crate) const PROGRAM: &str = "usr/bin/edged";
/// The other name of it, by which it takes edgectl's commands.
pub(crate) const CTL: &str = "usr/bin/edgectl";
pub(crate) const CONFIG: &str = "etc/edged/config.yaml";
pub(crate) const DEFAULTS: &str = "etc/default/edged";
pub(crate) const TOKEN: &str = "etc/edged/token";

/// The unit that is started.
pub(crate) const UNIT: &str = "edged.service";
/// The unit whose stop ends the pods; edged's own wants it.
pub(crate) const PODS: &str = "edged-pods.service";
/// Units that are enabled.
pub(crate) const ENABLED: [&str; 2] = [UNIT, "edged-firstboot.service"];

/// What systemd reads.
pub(crate) const UNITS: [UnitFile; 4] = [
    UnitFile {
        path: "usr/lib/systemd/system/edged.service",
        text: include_str!("../../../systemd/edged.service"),
    },
    UnitFile {
        path: "usr/lib/systemd/system/edged-firstboot.service",
        text: include_str!("../../../systemd/edged-firstboot.service"),
    },
    UnitFile {
        path: "usr/lib/systemd/system/edged-pods.service",
        text: include_str!("../../../systemd/edged-pods.service"),
    },
    UnitFile {
        path: "usr/lib/systemd/system-preset/50-edged.preset",
        text: include_str!("../../../systemd/50-edged.preset"),
    },
];

/// How the board is to run.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Run pods only; without this, the board may lead
    #[arg(long)]
    agent: bool,
    /// A server of the cluster to join, or auto to find one on the LAN; may be given several times
    #[arg(long, value_name = "https://HOST:6443", requires = "token_file", value_delimiter = ',')]
    join: Vec<String>,
    /// A file that holds the joining token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Put it there, and start nothing
    #[arg(long)]
    no_start: bool,
    /// Install into this directory instead, and start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// A file as it is to be.
struct Put {
    path: &'static str,
    text: String,
    mode: u32,
}

/// Refuses where nothing can be put or taken away.
///
/// # Errors
/// Says what to do instead.
pub(crate) fn writable(operation: &str, root: &Path) -> Result<(), WireError> {
    let dir = root.join(PROGRAM);
    let dir = dir.parent().unwrap_or(root);
    match closed(dir) {
        Some(why) => Err(failed(operation, told(dir, why))),
        None => Ok(()),
    }
}

/// What to do about a directory of programs that can't be written to.
fn told(dir: &Path, why: Closed) -> String {
    let todo = match why {
        Closed::Image => {
            "this board runs from the card image: flash that again, or empty the board with \
             `edged cleanup --data`"
        }
        Closed::Disk => {
            "unless somebody mounted it so, its disk has failed: look at `dmesg`, and try again \
             once it can be written"
        }
    };
    format!("{} is read-only: {todo}; nothing was changed", dir.display())
}

/// Installs, and tells what was done.
///
/// # Errors
/// Says what is in the way; what was written by then is written whole, and serves the next try.
pub(crate) fn run(args: &Install) -> Result<(), WireError> {
    let root = args.root.as_path();
    let here = root == Path::new("/");
    if here && !nix::unistd::geteuid().is_root() {
        return Err(failed("install", "needs root: use sudo"));
    }
    if is_packaged(root) {
        return Err(failed("install", "edged is installed as a package: use apt to upgrade it"));
    }
    writable("install", root)?;
    let files = settings::settle(args)?;
    let mut changed = program(root)?;
    let units = UNITS.map(|unit| Put { path: unit.path, text: unit.text.to_owned(), mode: 0o644 });
    for file in units.iter().chain(&files) {
        let full = root.join(file.path);
        if read_if_present(&full).ok().flatten().as_ref() != Some(&file.text) {
            // What a person has closed stays closed.
            let mode = fs::metadata(&full).map_or(0o777, |meta| meta.permissions().mode());
            put(&full, file.text.as_bytes(), file.mode & mode)?;
            changed = true;
            println!("wrote /{}", file.path);
        }
    }
    if !here {
        println!("{}", elsewhere(root));
        return Ok(());
    }
    match Systemd::reach().map_err(WireError::line)? {
        Some(manager) => start(manager, args.no_start, changed),
        None => {
            println!(
                "systemd does not run this machine: have its init start `/{PROGRAM} {}` as root, \
                 and start it again when it ends",
                if args.agent { "agent" } else { "server" }
            );
            Ok(())
        }
    }
}

/// What is left to do where another system is installed into than the one that runs.
fn elsewhere(root: &Path) -> String {
    let units = ENABLED.join(" ");
    format!(
        "nothing is enabled: `systemctl --root={} enable {units}` does that (so does the first \
         boot of an image whose etc/machine-id is empty)",
        root.display()
    )
}

/// Copies this file to its place, whole or not at all; whether it was another one.
fn program(root: &Path) -> Result<bool, WireError> {
    let full = root.join(PROGRAM);
    let own = fs::read("/proc/self/exe").map_err(|e| failed("read this program", e))?;
    let changed = fs::read(&full).ok().as_deref() != Some(&own[..]);
    if changed {
        put(&full, &own, 0o755)?;
        println!("wrote /{PROGRAM}");
    }
    let ctl = root.join(CTL);
    if fs::symlink_metadata(&ctl).is_err() {
        std::os::unix::fs::symlink("edged", &ctl)
            .map_err(|e| failed(&format!("write {}", ctl.display()), e))?;
        println!("wrote /{CTL}");
    }
    Ok(changed)
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WireError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)
        .and_then(|()| write_atomically(path, bytes, mode))
        .map_err(|e| failed(&format!("write {}", path.display()), e))
}

fn start(mut manager: Systemd, no_start: bool, changed: bool) -> Result<(), WireError> {
    let units = Word::Texts(&ENABLED);
    let mut call =
        |method: &str, words: &[Word<'_>]| manager.call(method, words).map_err(WireError::line);
    call("Reload", &[])?;
    call("EnableUnitFiles", &[units, Word::Switch(false), Word::Switch(false)])?;
    call("Reload", &[])?;
    if no_start {
        println!("it starts at the next boot, or with: systemctl start edged");
        return Ok(());
    }
    // Its pods run on while it is restarted.
    let method = if changed { "RestartUnit" } else { "StartUnit" };
    call(method, &[Word::Text(UNIT), Word::Text("replace")])?;
    println!("edged is being started: systemctl status edged; edgectl get nodes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use edge_server::join::Token;
    use nix::mount::MsFlags;

    fn args(root: &Path) -> Install {
        Install {
            agent: false,
            join: Vec::new(),
            token_file: None,
            no_start: false,
            root: root.to_owned(),
        }
    }

    #[test]
    fn it_installs_once_and_says_what_is_missing() {
        let root = std::env::temp_dir().join(format!("edged-install-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        let token = root.join("t");
        fs::write(&token, "hunter2").unwrap();
        let mut wish = args(&root);
        wish.agent = true;
        let told = run(&wish).unwrap_err().to_string();
        assert!(told.contains("--join auto"), "{told}");
        (wish.join, wish.token_file) = (vec!["auto".into()], Some(token.clone()));
        let told = run(&wish).unwrap_err().to_string();
        assert!(told.contains("not a joining token") && !told.contains("hunter2"), "{told}");
        assert!(!root.join(PROGRAM).exists(), "nothing is written by a mistake");
        let alone = Install { token_file: Some(token.clone()), ..args(&root) };
        let told = run(&alone).unwrap_err().to_string();
        assert!(told.contains("a token is for joining: give --join auto"), "{told}");
        fs::write(&token, Token::create(&"p".repeat(43)).unwrap().to_string()).unwrap();
        run(&wish).unwrap();
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert!(text(DEFAULTS).contains("\nEDGED_ROLE=agent\n"), "{}", text(DEFAULTS));
        let file = config::File::parse(&text(CONFIG)).unwrap();
        assert_eq!(
            (file.join, file.token_file),
            (vec!["auto".into()], Some("/etc/edged/token".into()))
        );
        let written = |path: &str| fs::metadata(root.join(path)).unwrap().modified().unwrap();
        let before = [PROGRAM, CONFIG, TOKEN, UNITS[0].path].map(written);
        run(&wish).unwrap();
        run(&args(&root)).unwrap();
        assert_eq!([PROGRAM, CONFIG, TOKEN, UNITS[0].path].map(written), before);
        assert_eq!(fs::read_link(root.join(CTL)).unwrap(), Path::new("edged"));
        // A fresh token for what joins already.
        let again = Token::create(&"q".repeat(43)).unwrap().to_string();
        fs::write(&token, &again).unwrap();
        run(&alone).unwrap();
        assert_eq!(text(TOKEN), format!("{again}\n"));
        let told = elsewhere(&root);
        assert!(told.starts_with("nothing is enabled: `systemctl --root="), "{told}");
        // What a person adds stays, and so does who may read it.
        let more = text(CONFIG) + "upgrade-keys: []\n";
        fs::write(root.join(CONFIG), more).unwrap();
        fs::set_permissions(root.join(CONFIG), fs::Permissions::from_mode(0o600)).unwrap();
        wish.join = vec!["a.lan".into()];
        run(&wish).unwrap();
        assert!(text(CONFIG).starts_with("upgrade-keys: []\n") && text(CONFIG).contains("a.lan"));
        let mode = fs::metadata(root.join(CONFIG)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        // A person's own join is not written over.
        fs::write(root.join(CONFIG), "join: [b.lan]\n").unwrap();
        assert!(run(&wish).unwrap_err().to_string().contains("write both into it"));
        // A package's program is apt's; what a removed package has left behind is nobody's.
        let list = root.join("var/lib/dpkg/info/edged.list");
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(&list, "/.\n/etc\n").unwrap();
        run(&args(&root)).unwrap();
        fs::write(&list, "/.\n/usr\n/usr/bin\n/usr/bin/edged\n").unwrap();
        assert!(run(&wish).unwrap_err().to_string().contains("use apt"));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_read_only_system_is_told_before_anything_else() {
        let root = std::env::temp_dir().join(format!("edged-squashed-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        assert!(writable("install", &root).is_ok());
        let none = None::<&str>;
        let mount = |flags| nix::mount::mount(none, &root, Some("tmpfs"), flags, none);
        if mount(MsFlags::empty()).is_err() {
            return eprintln!("SKIPPED: nobody may mount here");
        }
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        mount(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY).unwrap();
        let told = writable("uninstall", &root).unwrap_err().to_string();
        let installs = run(&args(&root)).unwrap_err().to_string();
        nix::mount::umount(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert!(told.starts_with("uninstall: /") && told.contains("look at `dmesg`"), "{told}");
        assert!(super::told(Path::new("/usr/bin"), Closed::Image).contains("flash that again"));
        assert!(installs.starts_with("install: /") && installs.ends_with("changed"), "{installs}");
    }
}
