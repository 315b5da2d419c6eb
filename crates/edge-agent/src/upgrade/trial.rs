//! A program on trial: it must say within its time that the cluster takes this board for Ready
//! with it, or what ran before runs again. The clock ticks on a thread of its own, so that nothing
//! that the program does wrong can stop it, short of the whole process.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use edge_client::{Call, Client};
use edge_core::upgrade::Slot;
use edge_node::upgrade::Home;
use nix::unistd::alarm;
use tokio::sync::watch;

use crate::{identity, version};

/// Pause between two looks at whether all is well.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row must find it well.
const LOOKS: u32 = 3;
/// How long a program that is given up may take to end in order.
const ENDING: Duration = Duration::from_secs(6);

/// The trial of this process, if it is on one.
static TRIAL: OnceLock<Trial> = OnceLock::new();

struct Trial {
    home: Home,
    progress: Mutex<Progress>,
    over: watch::Sender<bool>,
}

#[derive(Default)]
struct Progress {
    passed: bool,
    /// What was not well when it was looked at last.
    lacks: String,
}

impl Trial {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the program up, unless it has passed.
    fn end(&self, within: Duration) {
        let lacks = {
            let progress = self.progress();
            if progress.passed {
                return;
            }
            progress.lacks.clone()
        };
        let mut state = self.home.read();
        let lacks = if lacks.is_empty() { "it did not come so far".to_owned() } else { lacks };
        state.give_up(&format!("it was not healthy within {} s: {lacks}", within.as_secs()));
        let written = match state.failed {
            Some(_) => self.home.write(&state),
            None => Err(std::io::Error::other("it can't be read")),
        };
        if let Err(error) = written {
            tracing::error!("write {}: {error}", self.home.file().display());
        }
        tracing::error!("edged {} is given up: {lacks}", version::own());
        self.over.send_replace(true);
        std::thread::sleep(ENDING);
        let error = identity::start_again();
        tracing::error!("start what ran before: {error}");
    }

    /// All is well.
    fn pass(&self) -> std::io::Result<()> {
        let mut state = self.home.read();
        // A state that can't be read must not be written over with one that knows nothing.
        if state.trial.is_none() {
            return Err(std::io::Error::other("the state says nothing of this trial"));
        }
        state.confirm();
        self.home.write(&state)?;
        self.progress().passed = true;
        alarm::cancel();
        for slot in [Slot::A, Slot::B] {
            if state.slot(slot).is_none() {
                self.home.empty(slot);
            }
        }
        tracing::info!("edged {} has passed its trial", version::own());
        Ok(())
    }
}

/// Starts the clock.
pub(super) fn begin(home: Home, within_s: u32) {
    let (within, started) = (Duration::from_secs(within_s.into()), Instant::now());
    let trial = Trial { home, progress: Mutex::default(), over: watch::Sender::new(false) };
    let trial = TRIAL.get_or_init(|| trial);
    let clock = std::thread::Builder::new().name("trial".into()).spawn(move || {
        while let Some(left) = within.checked_sub(started.elapsed()).filter(|it| !it.is_zero()) {
            std::thread::sleep(left.min(LOOK));
            if trial.progress().passed {
                return;
            }
        }
        trial.end(within);
    });
    if let Err(error) = clock {
        // The kernel's alarm is left, and whoever restarts this.
        eprintln!("edged: start the clock of a trial: {error}");
    }
}

/// Ends when this process's trial has failed.
pub(super) async fn over() {
    match TRIAL.get() {
        Some(trial) => {
            let _ = trial.over.subscribe().wait_for(|over| *over).await;
        }
        None => std::future::pending().await,
    }
}

/// Looks after this process's trial, if it is on one: it has passed once the cluster says that
/// this board is Ready with this version.
pub(crate) fn prove(api: &edge_client::Config, name: &str) {
    let Some(trial) = TRIAL.get() else { return };
    let (client, name) = (Client::new(api.clone()), name.to_owned());
    tokio::spawn(async move {
        let client = match client {
            Ok(client) => client,
            Err(error) => return trial.progress().lacks = error.to_string(),
        };
        let mut well = 0;
        loop {
            well = match healthy(&client, &name).await {
                Ok(()) => well + 1,
                Err(lacks) => {
                    trial.progress().lacks = lacks;
                    0
                }
            };
            if well >= LOOKS {
                match trial.pass() {
                    Ok(()) => return,
                    Err(error) => trial.progress().lacks = format!("keep that: {error}"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

async fn healthy(client: &Client, name: &str) -> Result<(), String> {
    let call = Call::get(format!("/api/v1/nodes/{name}"));
    let node = client.call(&call).await.map_err(|error| error.to_string())?.object;
    let said = node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default();
    let own = version::kubelet();
    if said != own {
        return Err(format!("its Node still says {said}, not {own}"));
    }
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    match ready.filter(|ready| ready["status"] == "True") {
        Some(_) => Ok(()),
        None => {
            let why = ready.and_then(|ready| ready["message"].as_str()).unwrap_or("no word of it");
            Err(format!("its Node is not Ready: {why}"))
        }
    }
}
