//! The first thing that `edged` does: find out whether another program is to run in its place, and
//! become that one. The process stays, and with it what systemd and the shims know of it.

mod crashes;
mod trial;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

use edge_core::upgrade::{Life, Own, PublicKey, State, Step, Target};
use edge_node::upgrade::{Home, Settings, Upgrades, life, now, runs_beside};
use edge_server::{ProgramAnswer, Programs};
use http::Request;
use hyper::body::Incoming;
use nix::unistd::alarm;
use tokio::sync::watch;

use crate::{config, version};
pub(crate) use crashes::told_to_end;
pub(crate) use trial::{prove, prove_server};

/// Tells a slot's program where the package's is.
const BASE: &str = "EDGED_BASE";
/// Where the package puts it.
const PACKAGED: &str = "/usr/bin/edged";
/// Each program that can't be started costs one.
const ROUNDS: usize = 4;
/// Seconds after its deadline at which the kernel ends a program on trial that hangs so that it
/// doesn't see to that itself.
const HANGS_S: u32 = 15;

/// Words after `edged` that run with the state of this board, and are the same program's.
const TOOLS: [&str; 5] = ["recover", "cleanup", "token", "stop-pods", "doctor"];
/// Words that make no more than a question of `server` and `agent`.
const QUESTIONS: [&str; 5] = ["leave", "-h", "--help", "-V", "--version"];

/// Becomes the program that is to run with these arguments, if that is another; returns if it is
/// this one. `layered` are the same words with what the installed board's service is given.
pub(crate) fn launch(args: &[OsString], layered: &[OsString]) {
    let word = args.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let runs = matches!(word, "server" | "agent")
        && !args[2..].iter().any(|arg| QUESTIONS.iter().any(|question| arg == question));
    let home = Home::of(&data_dir(layered));
    if !(runs || TOOLS.contains(&word)) || !home.exists() {
        return;
    }
    let own = own(&home);
    // Typed while the service runs, it will be refused: that says nothing of the program.
    let runs = runs && !home.read().watch.and_then(|it| it.life).is_some_and(|it| runs_beside(&it));
    for _ in 0..ROUNDS {
        let state = home.read();
        let step = match runs {
            true => decide(&home, &state, &own),
            false => state.tool(&own),
        };
        match step {
            Step::Stay => {
                alarm::cancel();
                if runs && home.read().watch.is_some() {
                    crashes::watch(home);
                }
                return;
            }
            Step::Prove { within_s } => {
                alarm::set(within_s.saturating_add(HANGS_S));
                return trial::begin(home, within_s);
            }
            Step::Become(target) => {
                if state.trial.is_none() {
                    alarm::cancel();
                }
                let why = match whole(&home, &state, target) {
                    Ok(()) => {
                        let error = become_(&home, target, &own, args);
                        format!("it could not be started: {error}")
                    }
                    Err(why) => why,
                };
                let Target::Slot(slot) = target else { return };
                eprintln!("edged: {} is not run: {why}", home.program(slot).display());
                let mut next = home.read();
                next.could_not_run(slot, &why);
                if !runs || home.write(&next).is_err() {
                    return;
                }
            }
        }
    }
}

/// This program.
fn own(home: &Home) -> Own {
    let Life { began, pid, .. } = life();
    Own { version: version::own(), place: home.place(), began, pid }
}

/// What the state says, and keeps what is to be kept. Where that is not possible nothing is tried,
/// and nothing led back: what is led back to would read that nothing was.
fn decide(home: &Home, state: &State, own: &Own) -> Step {
    let verdict = state.start(own, &now());
    let Some(next) = verdict.keep else { return verdict.step };
    if let (Some(failed), true) = (&next.failed, next.failed != state.failed) {
        eprintln!("edged: {} is given up: {}", failed.version, failed.why);
    }
    match home.write(&next) {
        Ok(()) => {
            if let (Step::Become(Target::Slot(_)), Some(trial)) = (&verdict.step, &next.trial) {
                alarm::set(trial.deadline_s.saturating_add(HANGS_S));
            }
            verdict.step
        }
        Err(error) => {
            eprintln!("edged: write {}: {error}: nothing new is tried", home.file().display());
            state.tool(own)
        }
    }
}

/// Whether what is in a slot is what was put there. Its length and its digest are known since it
/// came. By ring's own table that is 70 ms on a board of 1.5 GHz without instructions for it; no
/// board has been timed.
fn whole(home: &Home, state: &State, target: Target) -> Result<(), String> {
    let Target::Slot(slot) = target else { return Ok(()) };
    state.slot(slot).map_or(Ok(()), |program| home.expect_whole(slot, program))
}

/// Gives why it could not.
fn become_(home: &Home, target: Target, own: &Own, args: &[OsString]) -> io::Error {
    let program = match target {
        Target::Slot(slot) => home.program(slot),
        Target::Base => match base(own) {
            Some(base) => base,
            None => return io::ErrorKind::NotFound.into(),
        },
    };
    let mut command = Command::new(program);
    if own.place == Target::Base
        && let Some(itself) = itself()
    {
        command.env(BASE, itself);
    }
    let name = args.first().map_or(OsStr::new("edged"), OsString::as_os_str);
    command.arg0(name).args(&args[1..]).exec()
}

/// Where this program's file is, or was before another was put in its place.
fn itself() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?;
    let text = path.to_str()?;
    Some(text.strip_suffix(" (deleted)").unwrap_or(text).into())
}

/// The package's program.
fn base(own: &Own) -> Option<PathBuf> {
    if own.place == Target::Base {
        return itself();
    }
    let told = std::env::var_os(BASE).map(PathBuf::from).filter(|path| path.exists());
    told.or_else(|| Some(PACKAGED.into()).filter(|path: &PathBuf| path.exists()))
}

/// The data directory, as the settings will have it. Told apart from them, since this must also
/// read what a newer program than this one understands.
fn data_dir(args: &[OsString]) -> PathBuf {
    let typed = |flag: &str| config::typed(args, flag);
    let set = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let filed = || {
        let file = typed("--config").or_else(|| set("EDGED_CONFIG"));
        config::filed(&file.unwrap_or_else(|| config::FILE.into()))
    };
    let dir = typed("--data-dir").or_else(|| set("EDGED_DATA_DIR")).or_else(filed);
    let dir = dir.unwrap_or_else(|| "/var/lib/edged".into());
    std::path::absolute(&dir).unwrap_or(dir)
}

/// Where upgrades of a running board come in, and what ends it for one.
pub(crate) struct Seat {
    pub(crate) upgrades: Arc<Upgrades>,
    again: watch::Receiver<bool>,
}

impl Seat {
    /// That of this process.
    pub(crate) fn of(data_dir: &Path, keys: Vec<PublicKey>) -> Seat {
        let home = Home::of(data_dir);
        let own = own(&home);
        let base = base(&own);
        let (upgrades, again) = Upgrades::new(Settings { home, own, base, keys });
        Seat { upgrades, again }
    }

    /// Ends when the program is to start again: for a trial, or because its own is over.
    pub(crate) async fn again(&mut self) {
        tokio::select! {
            _ = self.again.wait_for(|again| *again) => {}
            () = trial::over() => {}
        }
    }
}

/// The way to this process's upgrades through the API server's own port.
pub(crate) struct Door(pub(crate) Arc<Upgrades>);

impl Programs for Door {
    fn answer(
        &self,
        what: String,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = ProgramAnswer> + Send + '_>> {
        Box::pin(async move { self.0.answer(&what, request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_is_found_as_the_settings_find_it() {
        let dir = |words: &[&str]| {
            let args: Vec<OsString> = words.iter().map(OsString::from).collect();
            data_dir(&args)
        };
        assert_eq!(dir(&["edged", "server", "--data-dir", "/x"]), Path::new("/x"));
        assert_eq!(dir(&["edged", "server", "--new-flag", "--data-dir=/y"]), Path::new("/y"));
        let file = std::env::temp_dir().join(format!("edged-conf-{}.yaml", std::process::id()));
        std::fs::write(&file, "data-dir: /z\nkey-of-the-next-version: 1\n").unwrap();
        let named = file.display().to_string();
        assert_eq!(dir(&["edged", "agent", "--config", &named]), Path::new("/z"));
        std::fs::remove_file(&file).unwrap();
    }
}
