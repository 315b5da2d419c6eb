//! `edged uninstall`: takes away all that edged made on this machine: its pods and what they left
//! in the kernel, its state, its settings, its units, and itself. It says what, and asks.

use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use edge_node::cleanup::{is_mount_point, others_mounts};
use edge_node::doctor::{self, Made};
use edge_server::pki::write_atomically;

use crate::config::{Config, Settings};
use crate::install::{CTL, ENABLED, PODS, PROGRAM, TOKEN, UNITS};
use crate::systemd::{Systemd, Word};
use crate::wire::{WireError, failed};
use crate::{cleanup, firstboot, install};

/// How long edged may take to stop; systemd kills it sooner.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the pods may take to stop after it; systemd ends that sooner (`TimeoutStopSec`).
const PODS_PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);
/// Directories that are edged's; systemd makes the second one also where the state is elsewhere.
const DIRECTORIES: [&str; 2] = ["etc/edged", "var/lib/edged"];

/// Of which board, and whether to ask.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub(crate) settings: Box<Settings>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What goes, and what a person wrote that stays.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    gone: Vec<PathBuf>,
    /// Files that are a person's as well, and what stays of them.
    parts: Vec<(PathBuf, String)>,
    stays: Vec<PathBuf>,
    /// Directories that go if nothing else is in them by then.
    empty: Vec<PathBuf>,
    notes: Vec<String>,
}

/// Uninstalls.
///
/// # Errors
/// Says what is in the way, or could not be removed; the rest has been tried all the same.
pub(crate) fn run(args: &Uninstall, config: &Config) -> Result<(), WireError> {
    let root = Path::new("/");
    if !nix::unistd::geteuid().is_root() {
        return Err(failed("uninstall", "needs root: use sudo"));
    }
    if doctor::is_packaged(root) {
        return Err(failed(
            "uninstall",
            "edged is a package here: `apt purge edged` does all of it",
        ));
    }
    install::writable("uninstall", root)?;
    let found = look(root);
    tell(&found, config);
    if !args.yes && !asked()? {
        return Err(failed("uninstall", "nothing was removed"));
    }
    let mut manager = Systemd::reach().map_err(WireError::line)?;
    if let Some(manager) = &mut manager {
        stop(manager, config)?;
    }
    // Another init may still run it.
    cleanup::check(config)?;
    let cleaned = cleanup::run(config, true);
    let mounted = others_mounts(&config.data_dir).unwrap_or_default();
    let taken = take_away(&found, cleaned, &mounted);
    if let Some(manager) = &mut manager {
        let reloaded = manager.call("Reload", &[]).map_err(WireError::line);
        taken.and(reloaded)?;
    } else {
        taken?;
    }
    if is_mount_point(&config.data_dir) {
        let (dir, todo) = (&config.data_dir, unmount(std::slice::from_ref(&config.data_dir)));
        println!("{} stays, empty, as something is mounted on it: {todo}", dir.display());
    }
    println!("edged is gone");
    Ok(())
}

/// Takes edged itself away once its pods and its state are gone: without its program, nobody could
/// try that again.
fn take_away(
    found: &Found,
    cleaned: Result<(), WireError>,
    mounted: &[PathBuf],
) -> Result<(), WireError> {
    let Err(error) = cleaned else { return remove(found) };
    let todo = match mounted {
        [] => "restart the machine, which ends what holds on".to_owned(),
        // A restart would mount them again.
        some => unmount(some),
    };
    let what = format!(
        "{error}; edged and its pods are stopped and stay so, and its units, its settings and \
         /{PROGRAM} are still there: {todo}, and type `edged uninstall` once more"
    );
    Err(failed("uninstall", what))
}

/// What to do about what somebody mounted in the data directory.
fn unmount(mounted: &[PathBuf]) -> String {
    let points: Vec<String> = mounted.iter().map(|point| point.display().to_string()).collect();
    let lines = if points.len() == 1 { "its line" } else { "their lines" };
    format!("unmount {} and take {lines} out of /etc/fstab", points.join(" and "))
}

/// Has systemd stop it for good, and its pods in order.
fn stop(manager: &mut Systemd, config: &Config) -> Result<(), WireError> {
    for unit in ENABLED.into_iter().chain([PODS]) {
        // One that is not loaded is stopped.
        if let Err(error) = manager.call("StopUnit", &[Word::Text(unit), Word::Text("replace")]) {
            tracing::debug!("{error}");
        }
    }
    let units = [Word::Texts(&ENABLED), Word::Switch(false)];
    if let Err(error) = manager.call("DisableUnitFiles", &units) {
        tracing::debug!("{error}");
    }
    patiently(PATIENCE, || cleanup::check(config))?;
    // Their stop begins when edged has ended, and is not to be disturbed: cleaning up is its end.
    patiently(PODS_PATIENCE, || {
        let state = manager.state(PODS).map_err(WireError::line)?;
        match is_over(&state) {
            true => Ok(()),
            false => {
                let what =
                    format!("its pods are still being stopped: {PODS} is {state}; try again");
                Err(failed("uninstall", what))
            }
        }
    })
}

/// Whether nothing of a unit in this state runs.
fn is_over(state: &str) -> bool {
    matches!(state, "inactive" | "failed")
}

/// Tries until it is done, or its time is over.
fn patiently(
    time: Duration,
    mut done: impl FnMut() -> Result<(), WireError>,
) -> Result<(), WireError> {
    let began = Instant::now();
    loop {
        match done() {
            Err(error) if began.elapsed() > time => return Err(error),
            Err(_) => std::thread::sleep(LOOK),
            Ok(()) => return Ok(()),
        }
    }
}

/// What is there.
fn look(root: &Path) -> Found {
    let mut found = Found::default();
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut sort = |path: &str, ours: bool| {
        let full = root.join(path);
        match (fs::symlink_metadata(&full).is_ok(), ours) {
            (true, true) => found.gone.push(full),
            (true, false) => found.stays.push(full),
            (false, _) => {}
        }
    };
    for path in [TOKEN].into_iter().chain(firstboot::NOTES) {
        sort(path, true);
    }
    for path in firstboot::OWN {
        sort(path, firstboot::is_ours(&text(path)));
    }
    let (mut parts, mut torn) = (Vec::new(), Vec::new());
    for path in firstboot::SHARED {
        let has = text(path);
        match firstboot::PART.without(&has).and_then(|rest| install::others(&rest)) {
            Err(why) => {
                sort(path, false);
                torn.push(format!("/{path}: {why}"));
            }
            Ok(rest) if rest == has => {
                if path != firstboot::LOGIN {
                    sort(path, false);
                }
            }
            Ok(rest) if rest.trim().is_empty() => sort(path, true),
            Ok(rest) => parts.push((root.join(path), rest)),
        }
    }
    for unit in UNITS {
        sort(unit.path, true);
    }
    let link = fs::read_link(root.join(CTL)).is_ok_and(|to| to == Path::new("edged"));
    sort(CTL, link);
    sort(PROGRAM, true);
    found.parts = parts;
    for Made { path, rest } in doctor::made(root) {
        match rest.is_empty() {
            true => found.gone.insert(0, root.join(path)),
            false => found.parts.push((root.join(path), rest)),
        }
    }
    found.empty = firstboot::directories(root);
    found.empty.extend(DIRECTORIES.map(|dir| root.join(dir)));
    found.notes = torn;
    found.notes.extend(notes(root, &found));
    found
}

/// What a person should know before.
fn notes(root: &Path, found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    let login = root.join(firstboot::LOGIN);
    if found.gone.contains(&login) {
        let login = login.display();
        notes.push(format!("no other SSH key is in {login}: have another way to log in"));
    }
    if let Some((path, kept)) = doctor::cmdline(root) {
        notes.push(format!(
            "{} keeps the memory cgroup on, which other programs may use by now; as it was: {}",
            path.display(),
            kept.display()
        ));
    }
    notes
}

fn tell(found: &Found, config: &Config) {
    println!("This stops all pods of this board and removes for good:");
    println!("  {}: state, images, volumes, logs", config.data_dir.display());
    println!("  {}", config.run_dir.display());
    for path in &found.gone {
        println!("  {}", path.display());
    }
    for (path, _) in &found.parts {
        println!("  {}: edged's part of it", path.display());
    }
    for path in &found.stays {
        println!("What you wrote or installed yourself stays: {}", path.display());
    }
    for note in &found.notes {
        println!("Note: {note}");
    }
    if config.data_dir.join("store").exists() {
        println!(
            "This board is a server: if its cluster is to go on, `edged server leave` comes first."
        );
    }
}

fn asked() -> Result<bool, WireError> {
    if !std::io::stdin().is_terminal() {
        return Err(failed("uninstall", "nobody is there to ask: say --yes"));
    }
    print!("Type yes to go on: ");
    let mut line = String::new();
    let read = std::io::stdout().flush().and_then(|()| std::io::stdin().read_line(&mut line));
    read.map_err(|e| failed("uninstall: ask", e))?;
    Ok(line.trim() == "yes")
}

/// Removes the files, and the directories that nothing else is in.
fn remove(found: &Found) -> Result<(), WireError> {
    let mut result = Ok(());
    for (path, rest) in &found.parts {
        // A link stays one.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let mode = fs::metadata(&real).map_or(0o600, |meta| meta.permissions().mode() & 0o7777);
        if let Err(error) = write_atomically(&real, rest.as_bytes(), mode) {
            let what = format!("uninstall: take edged's part out of {}", path.display());
            result = result.and(Err(failed(&what, error)));
        }
    }
    for path in &found.gone {
        if result.is_err() && path.ends_with(PROGRAM) {
            // For the next try.
            continue;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = format!("uninstall: remove {}", path.display());
                result = result.and(Err(failed(&what, error)));
            }
            _ => {}
        }
    }
    for dir in &found.empty {
        // One that still has something in it stays.
        let _ = fs::remove_dir(dir);
    }
    result
}

#[cfg(test)]
mod tests;
