//! `edged firstboot`: brings what a person wrote into `edged.yaml` on the boot partition to where
//! it belongs, before edged starts. A mistake is one line, on the screen and in a file beside
//! `edged.yaml`, and leaves the settings that were there. Secrets leave the boot partition, which
//! any laptop can read, once they are kept on the board.

mod boot;
mod gather;
mod plan;
#[cfg(test)]
mod tests;
mod text;
mod wifi;
mod wish;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use edge_server::pki::{read_if_present, to_hex, write_atomically};

use boot::Boot;
use plan::{Board, File, Plan};
use text::Mistake;

/// Exit status for a file that can't be used.
const USAGE: i32 = 64;
/// Exit status when something could not be written.
const FAILED: i32 = 1;

/// What edged.yaml was when it was last taken, by its hash.
const APPLIED: &str = "etc/edged/edged.yaml.applied";

/// While this is there, edged does not start: a fresh board whose settings are wrong would found a
/// cluster that nobody asked for.
const HOLD: &str = "run/edged-hold";

/// What is noted for the next time, beneath the root.
pub(crate) const NOTES: [&str; 2] = [APPLIED, HOLD];

/// The files, beneath the root, that nobody else writes.
pub(crate) const OWN: [&str; 3] = [plan::WPA, plan::WIRED, plan::WIRELESS];

/// Whether nothing but what was taken from `edged.yaml` is in a file.
pub(crate) fn is_ours(text: &str) -> bool {
    !text.is_empty() && (text.starts_with(plan::OURS) || plan::without_block(text).is_empty())
}

/// Where to read and where to write.
#[derive(Debug, Args)]
pub(crate) struct Firstboot {
    /// The boot partition, where edged.yaml is
    #[arg(long, value_name = "DIR", default_value = "/boot/firmware")]
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
    let boot = Boot::new(&args.boot);
    let (code, lines) = match take(&boot, &args.root) {
        Ok(lines) => {
            boot.told(None);
            (0, lines)
        }
        Err(refusal) => {
            let line = refusal.to_string();
            boot.told(Some(&line));
            let code = if let Refusal::Failed(_) = refusal { FAILED } else { USAGE };
            let held = hold(&args.root);
            let what = match held {
                true => "edged does not start until edged.yaml is right".to_owned(),
                false => "the settings stay as they were".to_owned(),
            };
            (code, vec![format!("{line}; {what}")])
        }
    };
    for line in lines {
        eprintln!("edged firstboot: {line}");
    }
    code
}

/// Gives what there is to say.
fn take(boot: &Boot, root: &Path) -> Result<Vec<String>, Refusal> {
    let Some(text) = boot.read()? else { return Ok(Vec::new()) };
    let applied = root.join(APPLIED);
    if read_if_present(&applied).ok().flatten().is_some_and(|had| had.trim() == sum(&text)) {
        let _ = std::fs::remove_file(root.join(HOLD));
        return Ok(Vec::new());
    }
    let wish = wish::read(text::read(&text)?)?;
    let board = gather::board(root, wish.timezone.as_ref().map(|(zone, _)| zone.as_str()))?;
    let plan = plan::plan(&wish, &board)?;
    let changed = apply(&plan, &board, root)?;
    let mut lines = plan.notes;
    // Only what is safe on the board leaves the boot partition.
    match boot.redact(&text, &plan.secrets) {
        Ok(left) => put(&applied, &format!("{}\n", sum(&left)), 0o644)?,
        // Not noted as taken: the next boot tries it again, and changes nothing else.
        Err(error) => lines.push(format!(
            "take the secrets out of {}: {error}: anybody who has the card can read them there; \
             the next boot tries it again",
            boot.file().display()
        )),
    }
    let _ = std::fs::remove_file(root.join(HOLD));
    match changed.is_empty() {
        true => lines.push("edged.yaml changes nothing".to_owned()),
        false => lines.push(format!("edged.yaml is taken: {}", changed.join(", "))),
    }
    Ok(lines)
}

fn sum(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    <&[u8; 32]>::try_from(digest.as_ref()).map(to_hex).unwrap_or_default()
}

/// Writes what differs; gives the paths.
fn apply(plan: &Plan, board: &Board, root: &Path) -> Result<Vec<String>, Refusal> {
    let mut changed = Vec::new();
    for File { path, text, mode } in &plan.files {
        if board.files.get(path) != Some(text) {
            put(&root.join(path), text, *mode)?;
            changed.push(format!("/{path}"));
        }
    }
    for path in &plan.gone {
        let full = root.join(path);
        std::fs::remove_file(&full).map_err(|e| failed("remove", &full, e))?;
        changed.push(format!("no /{path}"));
    }
    if let Some(zone) = &plan.zone {
        changed.extend(localtime(root, zone)?);
    }
    if let Some(name) = plan.hostname.as_ref().filter(|_| root == Path::new("/")) {
        let is = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        if is.trim() != name {
            nix::unistd::sethostname(name)
                .map_err(|e| Refusal::Failed(format!("set the hostname to {name}: {e}")))?;
        }
    }
    Ok(changed)
}

fn localtime(root: &Path, zone: &str) -> Result<Option<String>, Refusal> {
    let link = root.join("etc/localtime");
    let target = Path::new("/usr/share/zoneinfo").join(zone);
    if std::fs::read_link(&link).is_ok_and(|had| had.ends_with(Path::new("zoneinfo").join(zone))) {
        return Ok(None);
    }
    let beside = root.join("etc/localtime.new");
    let _ = std::fs::remove_file(&beside);
    std::os::unix::fs::symlink(&target, &beside)
        .and_then(|()| std::fs::rename(&beside, &link))
        .map_err(|e| failed("write", &link, e))?;
    Ok(Some("/etc/localtime".to_owned()))
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

/// Keeps a board from starting that has no settings at all yet; says whether it does.
fn hold(root: &Path) -> bool {
    let data = root.join(gather::DATA);
    let settled = root.join(APPLIED).exists() || data.join("pki").exists();
    !settled && put(&root.join(HOLD), "edged.yaml on the boot partition is wrong\n", 0o644).is_ok()
}
