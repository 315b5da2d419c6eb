//! A program on trial: it must say within its time that the cluster takes this board for Ready
//! with it, or what ran before runs again. The clock ticks on a thread of its own, so that nothing
//! that the program does wrong can stop it, short of the whole process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use edge_api::Object;
use edge_client::{Call, Client, Config, ConfigError};
use edge_core::upgrade::Slot;
use edge_node::upgrade::{Home, life};
use nix::unistd::alarm;
use tokio::sync::watch;

use super::crashes;
use crate::join::SERVER_NAME;
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
    given_up: bool,
    /// What was not well when it was looked at last.
    lacks: String,
}

impl Trial {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the program up, unless it has passed, and starts what ran before.
    fn end(&self) {
        let Some(lacks) = self.give_up() else { return };
        tracing::error!("edged {} is given up: {lacks}", version::own());
        self.over.send_replace(true);
        std::thread::sleep(ENDING);
        let error = identity::start_again();
        tracing::error!("start what ran before: {error}");
    }

    /// Keeps that the program is given up, and says what it lacked; `None` when it has passed.
    fn give_up(&self) -> Option<String> {
        // Held to the end: it must not pass between what is read here and what is written.
        let mut progress = self.progress();
        if progress.passed {
            return None;
        }
        progress.given_up = true;
        let mut state = self.home.read();
        let lacks = Some(progress.lacks.clone()).filter(|lacks| !lacks.is_empty());
        let lacks = lacks.unwrap_or_else(|| "it did not come so far".to_owned());
        // All of what it was given, of which its earlier starts and the look at its file took some.
        let within = state.trial.as_ref().map_or(0, |trial| trial.deadline_s);
        state.give_up(&format!("it was not healthy within {within} s: {lacks}"));
        let written = match state.failed {
            Some(_) => self.home.write(&state),
            None => Err(std::io::Error::other("it can't be read")),
        };
        if let Err(error) = written {
            tracing::error!("write {}: {error}", self.home.file().display());
        }
        Some(lacks)
    }

    /// All is well.
    fn pass(&self) -> std::io::Result<()> {
        let mut progress = self.progress();
        if progress.given_up {
            return Err(std::io::Error::other("its time was over"));
        }
        let mut state = self.home.read();
        // A state that can't be read must not be written over with one that knows nothing.
        if state.trial.is_none() {
            return Err(std::io::Error::other("the state says nothing of this trial"));
        }
        state.confirm(life());
        self.home.write(&state)?;
        progress.passed = true;
        drop(progress);
        alarm::cancel();
        for slot in [Slot::A, Slot::B] {
            if state.slot(slot).is_none() {
                self.home.empty(slot);
            }
        }
        tracing::info!("edged {} has passed its trial", version::own());
        crashes::watch(self.home.clone());
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
        trial.end();
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
    attend(|| Client::new(api.clone()), name, Proof::Node);
}

/// The same on a server whose board runs no pods: it has passed once the leader says that it hears
/// this server, and that it votes.
pub(crate) fn prove_server(data_dir: &Path, own: SocketAddr, name: &str) {
    let client = || {
        // Asked is this very process, which passes it on to the leader.
        let told = Config::from_kubeconfig(&data_dir.join("admin.kubeconfig"), None)?;
        let servers = vec![format!("https://{own}")];
        let server_name = Some(SERVER_NAME.to_owned());
        Client::new(Config { servers, server_name, ..told })
    };
    attend(client, name, Proof::Server);
}

/// Whose word it takes.
#[derive(Debug, Clone, Copy)]
enum Proof {
    /// The Node's.
    Node,
    /// The leader's.
    Server,
}

/// Looks until this process's trial has passed, if it is on one.
fn attend(client: impl FnOnce() -> Result<Client, ConfigError>, name: &str, proof: Proof) {
    let Some(trial) = TRIAL.get() else { return };
    let (client, name) = (client(), name.to_owned());
    tokio::spawn(async move {
        let client = match client {
            Ok(client) => client,
            Err(error) => return trial.progress().lacks = error.to_string(),
        };
        let mut looks = 0;
        loop {
            let well = match proof {
                Proof::Node => healthy(&client, &name).await,
                Proof::Server => heard(&client, &name).await,
            };
            looks = match well {
                Ok(()) => looks + 1,
                Err(lacks) => {
                    trial.progress().lacks = lacks;
                    0
                }
            };
            if looks >= LOOKS {
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

async fn heard(client: &Client, name: &str) -> Result<(), String> {
    let call = Call::get("/edged/v1/servers");
    let told = client.call(&call).await.map_err(|error| error.to_string())?.object;
    hears(&told, name)
}

/// What the leader says of this server.
fn hears(told: &Object, name: &str) -> Result<(), String> {
    let mut servers = told["servers"].as_array().into_iter().flatten();
    if !servers.clone().any(|server| server["leader"] == true) {
        return Err("no server leads".to_owned());
    }
    match servers.find(|server| server["name"] == name) {
        None => Err("it is none of the cluster's servers".to_owned()),
        Some(own) if own["away"] == true => Err("the leader doesn't hear it".to_owned()),
        Some(own) if own["voter"] != true => Err("it has not caught up".to_owned()),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::upgrade::{Installed, State};
    use serde_json::json;

    #[test]
    fn it_passes_or_is_given_up_and_the_disk_says_the_same() {
        let dir = std::env::temp_dir().join(format!("edged-trial-{}", std::process::id()));
        let (mut passed, mut given_up) = (0, 0);
        for round in 0..40 {
            let mut state = State::default();
            let digest = "d".repeat(64);
            let program = Installed { version: version::own(), digest, bytes: 1, proven: false };
            state.install(Slot::A, program);
            state.begin(Slot::A, 60).unwrap();
            let (home, over) = (Home::of(&dir), watch::Sender::new(false));
            home.write(&state).unwrap();
            let trial = Trial { home, progress: Mutex::default(), over };
            let (ended, confirmed) = std::thread::scope(|scope| match round {
                0 => (trial.give_up().is_some(), trial.pass().is_ok()),
                1 => {
                    let confirmed = trial.pass().is_ok();
                    (trial.give_up().is_some(), confirmed)
                }
                _ => {
                    let ended = scope.spawn(|| trial.give_up().is_some());
                    let confirmed = trial.pass().is_ok();
                    (ended.join().unwrap(), confirmed)
                }
            });
            assert!(ended != confirmed, "round {round}: both or none");
            let kept = trial.home.read();
            assert_eq!(kept.current == Some(Slot::A), confirmed, "round {round}");
            assert_eq!(kept.failed.is_some(), ended, "round {round}");
            (passed, given_up) = (passed + i32::from(confirmed), given_up + i32::from(ended));
        }
        assert!(passed > 0 && given_up > 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_server_is_well_when_its_leader_hears_it() {
        let said = |servers: Object| hears(&json!({ "servers": servers }), "s2");
        let leads = json!({"name": "s1", "leader": true, "voter": true});
        let own = json!({"name": "s2", "voter": true, "away": false});
        assert_eq!(said(json!([leads, own])), Ok(()));
        let own_lead = json!({"name": "s2", "leader": true, "voter": true});
        assert_eq!(said(json!([own_lead])), Ok(()), "alone");
        for (servers, word) in [
            (json!([own]), "no server leads"),
            (json!([leads]), "none of the cluster's"),
            (json!([leads, {"name": "s2", "voter": true, "away": true}]), "doesn't hear"),
            (json!([leads, {"name": "s2", "voter": false}]), "caught up"),
        ] {
            let lacks = said(servers).unwrap_err();
            assert!(lacks.contains(word), "{lacks}");
        }
    }
}
