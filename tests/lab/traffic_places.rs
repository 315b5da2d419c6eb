//! Where traffic comes from and goes to: pods, boards and a host beside them, each a network
//! namespace; and a server that tells its name and who asks.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CloneFlags, setns};

use super::asking::serve;
pub(crate) use super::asking::{Answer, PORT, Transport, ask, page};
use super::board::Board;

/// A network namespace to stand in.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) namespace: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str, namespace: impl AsRef<Path>) -> Place {
        Place { name: name.to_owned(), namespace: namespace.as_ref().to_owned() }
    }

    /// Moves the calling thread there, for good.
    pub(crate) fn enter(&self) {
        let file = File::open(&self.namespace).expect("the namespace is there");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
    }

    /// Does something there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                self.enter();
                work()
            });
            there.join().expect("no panic")
        })
    }
}

impl Board {
    /// Runs a line of shell in the board's network.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        let mut command = self.inside("sh");
        command.args(["-c", line]);
        crate::board::command::run(command).ok()
    }
}

/// A server in a pod; it ends when this is dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Answers on the port with the pod's name and the asking one's address.
    pub(crate) fn start(pod: &Place) -> Server {
        let (told, heard) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (place, stopped) = (pod.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            place.enter();
            let any = (Ipv4Addr::UNSPECIFIED, PORT);
            let tcp = TcpListener::bind(any).expect("listen in a pod");
            let udp = UdpSocket::bind(any).expect("listen in a pod");
            tcp.set_nonblocking(true).expect("a listener");
            udp.set_nonblocking(true).expect("a socket");
            told.send(()).expect("somebody waits");
            while !stopped.load(Ordering::Acquire) {
                serve(&place.name, &tcp, &udp, |_, _| {});
            }
        });
        heard.recv().expect("the server listens");
        Server { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
