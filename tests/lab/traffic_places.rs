//! Where traffic comes from and goes to: pods, boards and a host beside them, each a network
//! namespace; a server that tells its name and who asks, and a question that is put to it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

use super::board::Board;

/// What pods listen on, both by TCP and by UDP.
pub(crate) const PORT: u16 = 7001;

/// How long one connection may take: one lost packet is sent again after a second, and means
/// nothing; to a dead board it is sent in vain each time.
pub(crate) const ANSWER: Duration = Duration::from_millis(2500);

/// A datagram is sent so often before it counts as lost.
const DATAGRAMS: usize = 3;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

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

/// Who answered, and whom it took the asking one for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) server: String,
    pub(crate) peer: IpAddr,
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
                serve(&place.name, &tcp, &udp);
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

fn serve(name: &str, tcp: &TcpListener, udp: &UdpSocket) {
    let mut waiting =
        [PollFd::new(tcp.as_fd(), PollFlags::POLLIN), PollFd::new(udp.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut waiting, PollTimeout::from(100u8));
    while let Ok((mut stream, peer)) = tcp.accept() {
        let _ = stream.write_all(format!("{name} {}", peer.ip()).as_bytes());
    }
    let mut question = [0; 16];
    while let Ok((_, peer)) = udp.recv_from(&mut question) {
        let _ = udp.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
    }
}

/// Asks whoever is behind an address, from where the calling thread stands.
pub(crate) fn ask(transport: Transport, to: SocketAddr) -> Result<Answer, String> {
    let text = match transport {
        Transport::Tcp => ask_tcp(to),
        Transport::Udp => ask_udp(to),
    };
    let text = text.map_err(|error| error.to_string())?;
    let (server, peer) = text.split_once(' ').ok_or_else(|| format!("answered {text:?}"))?;
    let peer = peer.parse().map_err(|_| format!("answered {text:?}"))?;
    Ok(Answer { server: server.to_owned(), peer })
}

/// Asks an HTTP server, by this name, which pod it is, from where the calling thread stands.
pub(crate) fn page(to: SocketAddr, host: &str) -> Result<Answer, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&to, ANSWER).map_err(text)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(text)?;
    let head = format!("Host: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("GET /hostname HTTP/1.1\r\n{head}").as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let found = answer.split_once("\r\n\r\n");
    let found = found.filter(|(head, _)| head.starts_with("HTTP/1.1 200"));
    let (_, body) = found.ok_or_else(|| format!("answered {answer:?}"))?;
    Ok(Answer { server: body.trim().to_owned(), peer: Ipv4Addr::UNSPECIFIED.into() })
}

fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER / 3))?;
    let mut outcome = Err(std::io::ErrorKind::TimedOut.into());
    for _ in 0..DATAGRAMS {
        socket.send(b"?")?;
        let mut buffer = [0; 128];
        outcome = socket.recv(&mut buffer);
        if let Ok(length) = outcome {
            return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    outcome.map(|_| String::new())
}
