//! The user's own broker: Debian's Mosquitto in the person's place, which is all that a cluster
//! with `--broker` has to talk over; it can be killed and paused like anything else.

use std::process::{Child, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Cluster, PERSON};
use crate::board::command::{has, until};

/// The port that people's brokers have.
const PORT: u16 = 1883;

/// A broker that runs, or is down.
pub(crate) struct Broker<'a> {
    cluster: &'a Cluster,
    child: Mutex<Option<Child>>,
}

/// Whether the machine has it; says so aloud when not.
pub(crate) fn is_installed() -> bool {
    if !has("mosquitto") {
        assert!(std::env::var_os("CI").is_none(), "CI needs mosquitto: tests/setup.sh test");
        eprintln!("SKIPPED: mosquitto is not installed; tests/setup.sh test installs it");
    }
    has("mosquitto")
}

impl<'a> Broker<'a> {
    /// Starts it; it takes connections when this returns.
    pub(crate) fn start(cluster: &'a Cluster) -> Broker<'a> {
        let settings = format!(
            "listener {PORT} 0.0.0.0\nallow_anonymous true\npersistence false\nset_tcp_nodelay \
             true\nuser root\n"
        );
        cluster.file("mosquitto.conf", settings);
        let broker = Broker { cluster, child: Mutex::new(None) };
        broker.spawn();
        broker
    }

    /// What `--broker` has to be told.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://{}:{PORT}", super::board::address(PERSON))
    }

    pub(crate) fn spawn(&self) {
        let path = self.cluster.dir.join("mosquitto.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a log");
        let mut command = self.cluster.person.command("mosquitto");
        command.arg("-c").arg(self.cluster.dir.join("mosquitto.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.child.lock().expect("no panic") = Some(command.spawn().expect("mosquitto starts"));
        until("mosquitto listens", || {
            let address = (super::board::address(PERSON), PORT);
            let dial = || std::net::TcpStream::connect(address).map(|_| ());
            self.cluster.person.within(dial).map_err(|error| error.to_string())
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

impl Drop for Broker<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}
