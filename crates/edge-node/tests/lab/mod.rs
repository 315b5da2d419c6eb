//! A board for a test: network and mount namespaces of its own, with a LAN side, and small
//! servers and clients that run inside pods.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod objects;

use edge_node::net::{Net, NetConfig};
use edge_node::seams::SandboxPaths;
use nix::sched::{CloneFlags, setns, unshare};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Lab {
    run_dir: PathBuf,
    outside: Arc<OwnedFd>,
}

impl Lab {
    /// Runs a test in namespaces of its own; skipped, loudly, without root.
    pub fn run(name: &str, test: impl AsyncFnOnce(Lab) + Send + 'static) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED {name}: needs root, run the tests with sudo");
            return;
        }
        let run_dir = std::env::temp_dir().join(format!("edged-{name}-{}", std::process::id()));
        let dir = run_dir.clone();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
            let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
            nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
                .expect("private mounts");
            std::fs::create_dir_all(&dir).expect("a run directory");
            let outside = Arc::new(lan());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(test(Lab { run_dir: dir, outside }));
        });
        let outcome = thread.join();
        let _ = std::fs::remove_dir_all(&run_dir);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    pub fn config(&self) -> NetConfig {
        NetConfig { run_dir: self.run_dir.clone(), data_dir: self.run_dir.clone(), ..config() }
    }

    pub fn open(&self) -> Net {
        Net::open(self.config()).expect("the network opens")
    }

    /// Does something on the other host of the LAN.
    pub fn outside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.outside.clone();
        let thread = std::thread::spawn(move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET).expect("go outside");
            work()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The files below the run directory, without the lock.
    pub fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left = vec![self.run_dir.clone()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).expect("list").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    left.push(path.clone());
                }
                let name = path.strip_prefix(&self.run_dir).expect("below").display().to_string();
                if !matches!(name.as_str(), "net.lock" | "pods") {
                    found.insert(name);
                }
            }
        }
        found
    }
}

pub fn config() -> NetConfig {
    NetConfig {
        run_dir: PathBuf::new(),
        data_dir: PathBuf::new(),
        pod_cidr: "10.42.0.0/24".to_owned(),
        cluster_cidr: "10.42.0.0/16".to_owned(),
        service_cidr: "10.43.0.0/16".to_owned(),
        node_ip: IpAddr::from([192, 0, 2, 1]),
        encrypt_pods: false,
        wireguard_port: 51820,
        without_nf_tables: false,
    }
}

/// Something of the machine that tests lean on, with a program's help if it is there.
pub fn ip(arguments: &str) {
    let done = std::process::Command::new("ip").args(arguments.split_whitespace()).output();
    let done = done.expect("the program `ip`, of Debian's iproute2");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Runs the program `nft`; false when it is missing or says no.
pub fn nft(arguments: &str) -> bool {
    let done = std::process::Command::new("nft").arg(arguments).output();
    done.is_ok_and(|done| done.status.success())
}

/// The LAN side of the board: `lan0` here at 192.0.2.1, another host at 192.0.2.2 in a network
/// namespace of its own.
fn lan() -> OwnedFd {
    ip("link set lo up");
    ip("link add lan0 type veth peer name lan1");
    ip("addr add 192.0.2.1/24 dev lan0");
    ip("link set lan0 up");
    let (told, asked) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        told.send(nix::unistd::gettid()).expect("tell");
        gone.recv().expect("the link");
        ip("link set lo up");
        ip("addr add 192.0.2.2/24 dev lan1");
        ip("link set lan1 up");
        ip("route add 10.42.0.0/15 via 192.0.2.1");
        OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").expect("a namespace"))
    });
    ip(&format!("link set lan1 netns {}", asked.recv().expect("a thread")));
    go.send(()).expect("go");
    other.join().expect("the other host")
}

pub fn remove_link(name: &str) {
    ip(&format!("link del {name}"));
}

pub fn neighbours() -> usize {
    let text = std::process::Command::new("ip").args(["-4", "neigh", "show"]).output();
    String::from_utf8_lossy(&text.expect("ip").stdout)
        .lines()
        .filter(|line| line.contains("edge0"))
        .count()
}

pub fn unmount(path: &Path) {
    nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
}

fn enter(paths: &SandboxPaths) {
    let open = |path: &PathBuf| OwnedFd::from(std::fs::File::open(path).expect("a pin"));
    for (path, flag) in [
        (paths.net.as_ref(), CloneFlags::CLONE_NEWNET),
        (paths.uts.as_ref(), CloneFlags::CLONE_NEWUTS),
        (Some(&paths.ipc), CloneFlags::CLONE_NEWIPC),
    ] {
        if let Some(path) = path {
            setns(open(path), flag).expect("enter the pod");
        }
    }
}

/// Does something inside a pod, on a thread of its own.
pub fn in_pod<T: Send + 'static>(
    paths: &SandboxPaths,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let paths = paths.clone();
    let thread = std::thread::spawn(move || {
        enter(&paths);
        work()
    });
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A server in a pod: answers every connection with its name, and remembers who came.
pub struct Server {
    peers: Arc<Mutex<Vec<IpAddr>>>,
}

pub fn serve(paths: &SandboxPaths, address: &str, name: &str) -> Server {
    let address: SocketAddr = address.parse().expect("an address");
    let listener = in_pod(paths, move || TcpListener::bind(address).expect("listen in the pod"));
    let peers = Arc::new(Mutex::new(Vec::new()));
    let (seen, name) = (peers.clone(), name.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let peer = stream.peer_addr().map(|peer| peer.ip());
            seen.lock().expect("peers").extend(peer);
            let _ = stream.write_all(name.as_bytes());
        }
    });
    Server { peers }
}

pub fn peers(server: &Server) -> Vec<IpAddr> {
    server.peers.lock().expect("peers").clone()
}

pub fn try_fetch(address: impl ToSocketAddrs) -> std::io::Result<String> {
    let address = address.to_socket_addrs()?.next().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn fetch(address: impl ToSocketAddrs) -> String {
    try_fetch(address).expect("fetch")
}
