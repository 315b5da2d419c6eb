//! One board of the laboratory: a namespace with one card, directories, a cgroup, and an
//! `edged` that can be killed, paused, unplugged or lose its power at any moment.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fabric::{Fabric, Port, mac};
use super::namespace::Namespace;
use super::processes::Marks;
use super::tap;
use crate::board::command::until;
use crate::board::machine::built;

/// What a board runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Agent,
}

/// The parts that a power cut takes and a reboot gives anew.
struct Power {
    namespace: Option<Namespace>,
    edged: Option<Child>,
    /// Which boot this is: each has a run directory of its own, as on a tmpfs.
    boot: u32,
}

/// A board; all its switches work from any thread.
pub(crate) struct Board {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: Port,
    pub(crate) dir: PathBuf,
    /// The name of its namespace and of its cgroup.
    pub(crate) full: String,
    /// Arguments of `edged` beside those that say which board this is.
    extra: Mutex<Vec<String>>,
    power: Mutex<Power>,
    fabric: Arc<Fabric>,
}

/// The address of a port, in the laboratory's only network.
pub(crate) fn address(port: Port) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 78, u8::try_from(port + 10).expect("at most 240 ports"))
}

impl Board {
    /// A board with power and a cable, and no `edged` on it yet.
    pub(crate) fn new(
        lab: &str,
        name: &str,
        role: Role,
        port: Port,
        fabric: &Arc<Fabric>,
    ) -> Board {
        let full = format!("{lab}-{name}");
        let dir = std::env::temp_dir().join(lab).join(name);
        std::fs::create_dir_all(&dir).expect("a fresh directory");
        let board = Board {
            name: name.to_owned(),
            role,
            ip: address(port),
            port,
            dir,
            full,
            extra: Mutex::new(Vec::new()),
            power: Mutex::new(Power { namespace: None, edged: None, boot: 0 }),
            fabric: fabric.clone(),
        };
        board.power_on();
        board
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to find all of it in the machine.
    pub(crate) fn marks(&self) -> Marks {
        let namespace = Some(format!("/run/netns/{}", self.full));
        Marks { dir: self.dir.clone(), cgroup: self.full.clone(), namespace }
    }

    /// Current comes: a fresh network stack and a fresh run directory. `edged` does not start
    /// by itself.
    pub(crate) fn power_on(&self) {
        let mut power = self.power();
        assert!(power.namespace.is_none(), "{} has power", self.name);
        let namespace = Namespace::new(&self.full);
        let card = tap::plug(&namespace, mac(self.port), &self.ip.to_string());
        namespace.ip(&format!("route add default via {}\n", address(0)));
        self.fabric.plug(self.port, card);
        power.namespace = Some(namespace);
        power.boot += 1;
    }

    /// Current goes: from one moment to the next nothing is heard of the board; all its
    /// processes are killed, those that could still write something first, and its network
    /// stack, mounts and cgroups are gone. What was written and not synced survives here, since
    /// the kernel lives on: the store's own tests cover that.
    pub(crate) fn power_cut(&self) {
        self.fabric.unplug(self.port);
        let mut power = self.power();
        if let Some(child) = &mut power.edged {
            let _ = child.kill();
        }
        let marks = self.marks();
        marks.kill();
        if let Some(mut child) = power.edged.take() {
            let _ = child.wait();
        }
        marks.unmount();
        marks.remove_cgroups();
        power.namespace = None;
    }

    /// A power cut, and current again.
    pub(crate) fn reboot(&self) {
        self.power_cut();
        self.power_on();
        self.spawn();
    }

    /// The flags that tell `edged` which board this is.
    pub(crate) fn flags(&self) -> Vec<String> {
        let boot = self.power().boot;
        let dir = |part: String| self.dir.join(part).display().to_string();
        let flags = [
            ("--data-dir", dir("data".into())),
            ("--run-dir", dir(format!("run{boot}"))),
            ("--name", self.name.clone()),
            ("--node-ip", self.ip.to_string()),
            ("--cgroup-parent", format!("/{}", self.full)),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Adds arguments to all later starts of `edged`.
    pub(crate) fn with(&self, arguments: &[&str]) -> &Board {
        let mut extra = self.extra.lock().unwrap_or_else(PoisonError::into_inner);
        extra.extend(arguments.iter().map(|&argument| argument.to_owned()));
        drop(extra);
        self
    }

    /// Starts `edged` with these arguments, this time only, beside its own; its words go to a
    /// file beside its data.
    pub(crate) fn spawn_with(&self, arguments: &[&str]) {
        self.run(self.edged(arguments));
    }

    /// `edged` with these arguments beside the board's own, ready to run.
    pub(crate) fn edged(&self, arguments: &[&str]) -> Command {
        let role = if self.role == Role::Server { "server" } else { "agent" };
        let mut command = self.inside(built("edged"));
        command.arg(role).args(self.flags()).args(arguments);
        command.args(&*self.extra.lock().unwrap_or_else(PoisonError::into_inner));
        command
    }

    /// Starts the board's main program: `edged`, or a peer that is compared with it.
    pub(crate) fn run(&self, mut command: Command) {
        let path = self.dir.join("edged.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let log = log.expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut power = self.power();
        assert!(power.edged.is_none(), "{} runs its program", self.name);
        power.edged = Some(command.spawn().expect("the program starts"));
    }

    /// Starts `edged` as a restarted board does: its data directory knows the rest.
    pub(crate) fn spawn(&self) {
        self.spawn_with(&[]);
    }

    /// A program on the board: in its network, with its own kubeconfig.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let power = self.power();
        let namespace = power.namespace.as_ref().expect("the board has power");
        let mut command = namespace.command(program);
        command.env("KUBECONFIG", self.dir.join("data/admin.kubeconfig")).env("HOME", &self.dir);
        if self.clock().exists() {
            command.env(edge_node::clock::SKEW, self.clock());
        }
        command
    }

    /// The file that says how far the board's clock is off.
    pub(crate) fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    /// Sets the board's clock so many milliseconds ahead of the machine's. Programs that were
    /// started before the first time know nothing of it.
    pub(crate) fn set_clock(&self, ahead_ms: i64) {
        let fresh = self.dir.join("clock.fresh");
        std::fs::write(&fresh, ahead_ms.to_string()).expect("a clock");
        std::fs::rename(&fresh, self.clock()).expect("a clock");
    }

    /// Runs work on a thread that stands in the board's network.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.power().namespace.as_ref().expect("the board has power").within(work)
    }

    /// The process id of `edged`, if it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let mut power = self.power();
        let child = power.edged.as_mut()?;
        if child.try_wait().ok().flatten().is_some() {
            return None;
        }
        Some(Pid::from_raw(i32::try_from(child.id()).expect("a process id")))
    }

    /// `kill -9` of `edged` alone; its pods run on.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.power().edged.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: the process stands still, the kernel still acknowledges what is sent to it.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal to `edged`.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    /// SIGTERM; gives the exit status.
    #[track_caller]
    pub(crate) fn stop(&self) -> i32 {
        self.signal(Signal::SIGTERM);
        let mut child = self.power().edged.take().expect("edged runs");
        let status = until(&format!("edged of {} ends after SIGTERM", self.name), || {
            child.try_wait().map_err(|e| e.to_string())?.ok_or_else(|| "still runs".to_owned())
        });
        status.code().unwrap_or(-1)
    }

    /// Waits until `edged` ends by itself; gives the exit status.
    #[track_caller]
    pub(crate) fn ended(&self) -> i32 {
        let mut child = self.power().edged.take().expect("edged was started");
        let status = until(&format!("edged of {} ends by itself", self.name), || {
            child.try_wait().map_err(|e| e.to_string())?.ok_or_else(|| self.log())
        });
        status.code().unwrap_or(-1)
    }

    /// Pulls the cable: the card stays, nothing crosses.
    pub(crate) fn pull_cable(&self) {
        self.fabric.set_all_of(self.port, |weather| weather.cut = true);
    }

    /// Puts the cable back.
    pub(crate) fn mend_cable(&self) {
        self.fabric.set_all_of(self.port, |weather| weather.cut = false);
    }

    /// What `edged` said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("edged.log")).unwrap_or_default()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.power_cut();
    }
}
