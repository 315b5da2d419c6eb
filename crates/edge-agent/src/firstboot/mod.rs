//! `edged firstboot`: brings what a person wrote into `edged.yaml` on the boot partition to where
//! it belongs, before edged starts. A mistake is one line, on the screen and in a file beside
//! `edged.yaml`, and leaves the settings that were there. Secrets leave the boot partition, which
//! any laptop can read, once they are kept on the board.
//!
//! Whoever is cut off in the middle goes on at the next try, in this boot or the next: on a board
//! that has no settings yet edged waits for it, behind a file that is gone when they are taken.

mod boot;
mod commit;
mod gather;
mod links;
mod nm;
mod noted;
mod plan;
#[cfg(test)]
mod tests;
mod text;
mod wifi;
mod wish;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_server::pki::{read_if_present, write_atomically};

use boot::Boot;
use text::Mistake;

use crate::part::Part;
use crate::systemd::{Systemd, Word};
use crate::{config, install};

/// Exit status for a file that can't be used.
const USAGE: i32 = 64;
/// Exit status when something could not be read or written, and edged waits for it: the unit is
/// started again.
const FAILED: i32 = 1;
/// Exit status when something could not be read or written, and the board goes on as it was.
const AS_IT_WAS: i32 = 2;

/// What edged.yaml was when it was last taken, in the form of `noted`.
const APPLIED: &str = "etc/edged/edged.yaml.applied";

/// While this is there, edged does not start: a fresh board whose settings are wrong would found a
/// cluster that nobody asked for.
const HOLD: &str = "run/edged-hold";

/// There when edged is to run at all.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/edged.service";
/// Where boards have their boot partition.
const BOOT: &str = "/boot/firmware";

/// What is noted for the next time, beneath the root.
pub(crate) const NOTES: [&str; 4] = [APPLIED, HOLD, commit::LIST, commit::MADE];

/// The directories that were made for settings, inner ones first.
pub(crate) fn directories(root: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(root.join(commit::MADE)).unwrap_or_default();
    text.lines().rev().map(|line| root.join(line)).collect()
}

/// The files, beneath the root, that nobody else writes.
pub(crate) const OWN: [&str; 6] =
    [plan::WPA, plan::WIRED, plan::WIRELESS, nm::WIFI, nm::WIRED, nm::COUNTRY];

/// Whether nothing but what was taken from `edged.yaml` is in a file.
pub(crate) fn is_ours(text: &str) -> bool {
    !text.is_empty()
        && (text.starts_with(plan::OURS)
            || plan::PART.without(text).is_ok_and(|rest| rest.is_empty()))
}

/// The files, beneath the root, that have a part of ours.
pub(crate) const SHARED: [&str; 3] = [plan::CONFIG, plan::DEFAULTS, plan::KEYS];

/// The one of them that lets people in.
pub(crate) const LOGIN: &str = plan::KEYS;

/// Our part of each of them.
pub(crate) const PART: Part = plan::PART;

/// Where to read and where to write.
#[derive(Debug, Args)]
pub(crate) struct Firstboot {
    /// The boot partition, where edged.yaml is
    #[arg(long, value_name = "DIR", default_value = BOOT)]
    boot: PathBuf,
    /// The board's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Why the settings were not taken.
#[derive(Debug)]
enum Refusal {
    /// The person's.
    Mistake(Mistake),
    /// The whole file's.
    File(String),
    /// The board's: what could not be done.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Mistake(mistake) => mistake.fmt(f),
            Refusal::File(what) => write!(f, "edged.yaml: {what}"),
            Refusal::Failed(what) => f.write_str(what),
        }
    }
}

impl From<Mistake> for Refusal {
    fn from(mistake: Mistake) -> Refusal {
        Refusal::Mistake(mistake)
    }
}

fn failed(operation: &str, path: &Path, error: impl fmt::Display) -> Refusal {
    Refusal::Failed(format!("{operation} {}: {error}", path.display()))
}

/// Takes the settings if the file is there and has changed; gives the exit status. What is said
/// goes to standard error.
pub(crate) fn run(args: &Firstboot) -> i32 {
    take_from(&args.boot, &args.root)
}

/// [`run`], with its two places.
pub(crate) fn take_from(boot: &Path, root: &Path) -> i32 {
    let held = root.join(HOLD).exists();
    // Before anything that may hang or be killed.
    let fresh =
        !settled(root) && put(&root.join(HOLD), "settings are being taken\n", 0o644).is_ok();
    let boot = Boot::new(boot, root);
    let (code, lines) = match take(&boot, root) {
        Ok(lines) => {
            boot.told(None);
            (0, lines)
        }
        Err(refusal) => {
            let mut line = refusal.to_string();
            if matches!(refusal, Refusal::Mistake(_)) && lets_in(&boot, root) {
                line += "; its ssh-key lets you in all the same";
            }
            boot.told(Some(&line));
            let failed = matches!(refusal, Refusal::Failed(_));
            let (code, what) = match (failed, fresh) {
                (true, true) => (FAILED, "edged waits; it is tried again every half minute"),
                (true, false) => (AS_IT_WAS, "the settings stay as they were"),
                (false, true) => (USAGE, "edged does not start until edged.yaml is right"),
                (false, false) => (USAGE, "the settings stay as they were"),
            };
            (code, vec![format!("{line}; {what}")])
        }
    };
    for line in lines {
        eprintln!("edged firstboot: {line}");
    }
    if code == 0 || !fresh {
        let _ = std::fs::remove_file(root.join(HOLD));
        if held {
            start(root);
        }
    }
    code
}

/// Whether the board has had its settings, or is of a cluster: then it runs with what it has.
fn settled(root: &Path) -> bool {
    root.join(APPLIED).exists() || config::data_dir(root).join("pki").exists()
}

/// Edged was kept from starting in this boot, and is not any more.
fn start(root: &Path) {
    if root != Path::new("/") || !root.join(ENABLED).exists() {
        return;
    }
    let started = Systemd::reach().and_then(|manager| match manager {
        Some(mut manager) => {
            manager.call("StartUnit", &[Word::Text(install::UNIT), Word::Text("replace")])
        }
        None => Ok(()),
    });
    if let Err(error) = started {
        eprintln!("edged firstboot: start edged: {error}");
    }
}

/// Says on the boot partition why the board that it set up is not in its cluster, or that it is.
/// Nothing, on a board that was not set up from there.
pub(crate) fn tell(line: Option<&str>) {
    let root = Path::new("/");
    let boot = Boot::new(Path::new(BOOT), root);
    if root.join(APPLIED).exists() && boot.file().exists() {
        boot.told(line);
    }
}

/// Lets the owner of a file that is wrong elsewhere in, to see what the board makes of it. Whether
/// its keys do.
fn lets_in(boot: &Boot, root: &Path) -> bool {
    let Ok(Some(text)) = boot.read() else { return false };
    let keys = wish::ssh_keys(&text);
    let done = gather::board(root, None)
        .and_then(|board| commit::apply(&plan::let_in(&keys, &board), &board, root));
    if let Err(error) = &done {
        eprintln!("edged firstboot: the ssh-key: {error}");
    }
    !keys.is_empty() && done.is_ok()
}

/// Gives what there is to say.
fn take(boot: &Boot, root: &Path) -> Result<Vec<String>, Refusal> {
    commit::finish(root)?;
    let applied = root.join(APPLIED);
    noted::finish(boot, &applied)?;
    let Some(text) = boot.read()? else { return Ok(Vec::new()) };
    let mark = |bytes: &[u8]| noted::mark(bytes, nm::runs(root));
    let had = read_if_present(&applied).ok().flatten();
    if had.as_ref().is_some_and(|had| *had == mark(text.as_bytes())) {
        return Ok(Vec::new());
    }
    let entries = text::read(&text)?;
    if entries.is_empty() {
        // A new image's own file, beside data of before: it asks for nothing, and takes nothing.
        let line = "edged.yaml asks for nothing: what was taken before stays";
        return Ok(had.map(|_| line.to_owned()).into_iter().collect());
    }
    let wish = wish::read(entries)?;
    let board = gather::board(root, wish.timezone.as_ref().map(|(zone, _)| zone.as_str()))?;
    let plan = plan::plan(&wish, &board)?;
    let changed = commit::apply(&plan, &board, root)?;
    if let Some(name) = plan.hostname.as_ref().filter(|_| root == Path::new("/")) {
        call(name)?;
    }
    let mut lines = plan.notes;
    if root == Path::new("/") {
        lines.extend(now(plan.radio_on, &changed));
    }
    // Only what is safe on the board leaves the boot partition.
    let left = boot::without(text.as_bytes(), &plan.secrets).map(|left| mark(&left));
    let left = left.unwrap_or_else(|| mark(text.as_bytes()));
    if !plan.secrets.is_empty() {
        put(&applied, &format!("{left}{}", noted::places(&plan.secrets)), 0o644)?;
    }
    match boot.redact(&text, &plan.secrets) {
        Ok(()) => put(&applied, &left, 0o644)?,
        // Not noted as taken: the next boot tries it again, and changes nothing else.
        Err(error) => {
            match &had {
                Some(had) => put(&applied, had, 0o644)?,
                None => drop(std::fs::remove_file(&applied)),
            }
            lines.push(format!(
                "take the secrets out of {}: {error}: anybody who has the card can read them \
                 there; the next boot tries it again",
                boot.file().display()
            ));
        }
    }
    match changed.is_empty() {
        true => lines.push("edged.yaml changes nothing".to_owned()),
        false => lines.push(format!("edged.yaml is taken: {}", changed.join(", "))),
    }
    Ok(lines)
}

/// What the running system is told at once, and what waits.
fn now(radio_on: bool, changed: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    if radio_on && let Err(error) = nm::radio_on() {
        lines.push(format!("wifi: let the radio send: {error}: `rfkill unblock wifi` does it"));
    }
    let profile = |path: &String| path.contains(nm::WIFI) || path.contains(nm::WIRED);
    if changed.iter().any(profile) && nm::is_up() {
        lines.push("the network changes at the next boot, or with: nmcli con reload".to_owned());
    }
    lines
}

/// Gives the machine its name at once.
fn call(name: &str) -> Result<(), Refusal> {
    let is = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if is.trim() == name {
        return Ok(());
    }
    nix::unistd::sethostname(name)
        .map_err(|e| Refusal::Failed(format!("set the hostname to {name}: {e}")))
}

/// Writes a file whole, where a link leads if it is one; what can't be replaced (a file that is a
/// mount point) is written over.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), Refusal> {
    use std::io::{ErrorKind, Write as _};
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(dir) = real.parent() {
        let private = dir.ends_with(".ssh");
        let mut builder = std::fs::DirBuilder::new();
        use std::os::unix::fs::DirBuilderExt;
        let builder = builder.recursive(true).mode(if private { 0o700 } else { 0o755 });
        builder.create(dir).map_err(|e| failed("make", dir, e))?;
    }
    let written = match write_atomically(&real, text.as_bytes(), mode) {
        Err(error)
            if real.exists()
                && matches!(
                    error.kind(),
                    ErrorKind::ResourceBusy | ErrorKind::ReadOnlyFilesystem
                ) =>
        {
            let over = || -> std::io::Result<()> {
                let mut file =
                    std::fs::OpenOptions::new().write(true).truncate(true).open(&real)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()
            };
            over()
        }
        other => other,
    };
    written.map_err(|e| failed("write", path, e))
}
