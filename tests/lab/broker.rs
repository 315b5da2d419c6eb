//! The user's own broker: Debian's Mosquitto in the person's place, which is all that a cluster
//! with `--broker` has to talk over; it can be killed and paused like anything else.
//! `EDGED_LAB_BROKER=mosquitto` gives every cluster of the laboratory such a one.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::PERSON;
use super::namespace::Namespace;
use crate::board::command::{has, until};

/// The port that people's brokers have.
const PORT: u16 = 1883;

/// A broker that runs, or is down.
pub(crate) struct Broker {
    place: Arc<Namespace>,
    /// Where its settings and its log are; in its arguments, so that a sweep finds it.
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

/// Whether every cluster shall have Mosquitto as its only broker.
pub(crate) fn is_wished() -> bool {
    match std::env::var("EDGED_LAB_BROKER").as_deref() {
        Err(_) | Ok("" | "embedded") => false,
        Ok("mosquitto") => is_installed(),
        Ok(other) => panic!("EDGED_LAB_BROKER={other}: it is embedded or mosquitto"),
    }
}

/// Whether the machine has it; says so aloud when not.
pub(crate) fn is_installed() -> bool {
    if !has("mosquitto") {
        assert!(std::env::var_os("CI").is_none(), "CI needs mosquitto: tests/setup.sh test");
        eprintln!("SKIPPED: mosquitto is not installed; tests/setup.sh test installs it");
    }
    has("mosquitto")
}

impl Broker {
    /// Starts it; it takes connections when this returns.
    pub(crate) fn start(place: &Arc<Namespace>, dir: &Path) -> Broker {
        let settings = format!(
            "listener {PORT} 0.0.0.0\nallow_anonymous true\npersistence false\nset_tcp_nodelay \
             true\nuser root\n"
        );
        std::fs::create_dir(dir).expect("a fresh directory");
        std::fs::write(dir.join("mosquitto.conf"), settings).expect("a file can be written");
        let (place, dir) = (place.clone(), dir.to_path_buf());
        let broker = Broker { place, dir, child: Mutex::new(None) };
        broker.spawn();
        broker
    }

    /// What `--broker` has to be told.
    pub(crate) fn url() -> String {
        format!("mqtt://{}:{PORT}", super::board::address(PERSON))
    }

    pub(crate) fn spawn(&self) {
        let path = self.dir.join("mosquitto.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a log");
        let mut command = self.place.command("mosquitto");
        command.arg("-c").arg(self.dir.join("mosquitto.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.child.lock().expect("no panic") = Some(command.spawn().expect("mosquitto starts"));
        until("mosquitto listens", || {
            let address = (super::board::address(PERSON), PORT);
            let dial = || std::net::TcpStream::connect(address).map(|_| ());
            self.place.within(dial).map_err(|error| error.to_string())
        });
    }

    /// `kill -9`: all sessions end, and with `persistence false` everything retained is gone.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("no panic").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &*self.child.lock().expect("no panic") {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
            let _ = kill(pid, signal);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
