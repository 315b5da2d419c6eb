//! `edged uninstall`: takes away all that edged made on this machine: its pods and what they left
//! in the kernel, its state, its settings, its units, and itself. It says what, and asks.

use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::{Config, Settings};
use crate::install::{CONFIG, CTL, DEFAULTS, ENABLED, OURS, PROGRAM, TOKEN, UNITS};
use crate::systemd::{Systemd, Word};
use crate::wire::{WireError, failed};
use crate::{cleanup, firstboot, install};

/// How long edged may take to stop; systemd kills it sooner.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

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
    stays: Vec<PathBuf>,
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
    if install::is_packaged(root) {
        return Err(failed(
            "uninstall",
            "edged is a package here: `apt purge edged` does all of it",
        ));
    }
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
    let removed = remove(&found.gone);
    if let Some(manager) = &mut manager {
        manager.call("Reload", &[]).map_err(WireError::line)?;
    }
    cleaned.and(removed)?;
    println!("edged is gone");
    Ok(())
}

/// Has systemd stop it for good.
fn stop(manager: &mut Systemd, config: &Config) -> Result<(), WireError> {
    for unit in ENABLED {
        // One that is not loaded is stopped.
        if let Err(error) = manager.call("StopUnit", &[Word::Text(unit), Word::Text("replace")]) {
            tracing::debug!("{error}");
        }
    }
    let units = [Word::Texts(&ENABLED), Word::Switch(false)];
    if let Err(error) = manager.call("DisableUnitFiles", &units) {
        tracing::debug!("{error}");
    }
    let began = Instant::now();
    loop {
        match cleanup::check(config) {
            Err(error) if began.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(LOOK),
            Ok(()) => return Ok(()),
        }
    }
}

/// What is there.
fn look(root: &Path) -> Found {
    let mut found = Found::default();
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
    for path in [CONFIG, DEFAULTS].into_iter().chain(firstboot::OWN) {
        let text = fs::read_to_string(root.join(path)).unwrap_or_default();
        sort(path, text.starts_with(OURS) || firstboot::is_ours(&text));
    }
    for (path, _) in UNITS {
        sort(path, true);
    }
    let link = fs::read_link(root.join(CTL)).is_ok_and(|to| to == Path::new("edged"));
    sort(CTL, link);
    sort(PROGRAM, true);
    found
}

fn tell(found: &Found, config: &Config) {
    println!("This stops all pods of this board and removes for good:");
    println!("  {}: state, images, volumes, logs", config.data_dir.display());
    println!("  {}", config.run_dir.display());
    for path in &found.gone {
        println!("  {}", path.display());
    }
    for path in &found.stays {
        println!("What you wrote or installed yourself stays: {}", path.display());
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
fn remove(paths: &[PathBuf]) -> Result<(), WireError> {
    let mut result = Ok(());
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = format!("uninstall: remove {}", path.display());
                result = result.and(Err(failed(&what, error)));
            }
            _ => {}
        }
        let dir = path.parent().filter(|dir| dir.ends_with("edged") || dir.ends_with("edged.d"));
        if let Some(dir) = dir {
            // One that still has something in it stays.
            let _ = fs::remove_dir(dir);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_stays() {
        let root = std::env::temp_dir().join(format!("edged-uninstall-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let write = |path: &str, text: &str| {
            let full = root.join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        };
        write(PROGRAM, "");
        write(TOKEN, "");
        write(CONFIG, "log: debug\n");
        write(DEFAULTS, &format!("{OURS}EDGED_ROLE=agent\n"));
        write(CTL, "another program");
        let found = look(&root);
        assert_eq!(found.stays, [CONFIG, CTL].map(|path| root.join(path)));
        assert_eq!(found.gone, [TOKEN, DEFAULTS, PROGRAM].map(|path| root.join(path)));
        remove(&found.gone).unwrap();
        assert_eq!(look(&root).gone, Vec::<PathBuf>::new());
        assert!(root.join("etc/edged").exists(), "it is not empty");
        fs::remove_dir_all(&root).unwrap();
    }
}
