//! A network namespace by name: made, entered by a thread or by a program, removed at the end.
//! Programs enter with `nsenter --net`, never with `ip netns exec`: that one also makes a mount
//! namespace, and a board whose mounts nobody else sees can't be cleaned up after a kill.

use std::ffi::OsStr;
use std::fs::File;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::board::command::must;

/// A namespace; it is gone when this is dropped and its last process has ended.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace, with its loopback up and IPv6 quiet.
    pub(crate) fn new(name: &str) -> Namespace {
        must("ip", &["netns", "add", name]);
        let namespace = Namespace { name: name.to_owned() };
        namespace.within(|| {
            // Router solicitations and duplicate detection would be noise on every link.
            let quiet = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
            let _ = std::fs::write(quiet, "1");
        });
        namespace.ip("link set lo up\n");
        namespace
    }

    /// Where the namespace can be opened.
    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A program that will stand in the namespace. `nsenter` replaces itself with it, so that
    /// its process id is the child's.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program.as_ref());
        command
    }

    /// Runs work on a thread that stands in the namespace. Sockets made there stay there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that stands in the namespace.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(self.path()).expect("the namespace is there");
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
            work()
        })
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(&self) {
        let file = File::open(self.path()).expect("the namespace is there");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
    }

    /// Runs a batch of `ip` commands, one a line.
    pub(crate) fn ip(&self, batch: &str) {
        use std::io::Write;
        let mut command = self.command("ip");
        command.args(["-batch", "-"]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().expect("ip starts");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(batch.as_bytes()).expect("ip reads");
        drop(input);
        let status = child.wait().expect("ip ends");
        assert!(status.success(), "ip -batch in {}: {status}\n{batch}", self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
