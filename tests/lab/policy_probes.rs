//! What policies are probed with: listeners in every place, and whether an answer comes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::policy_recipes::{PORTS, What};
use super::traffic_places::Place;

/// How long a packet that is dropped is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// Listens on all ports until it is dropped.
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn start(place: &Place) -> Listener {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let place = place.clone();
        let opened = std::thread::spawn(move || {
            place.enter();
            let any = |port| (Ipv4Addr::UNSPECIFIED, port);
            let udp = UdpSocket::bind(any(PORTS[0])).expect("listen");
            udp.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
            (PORTS.map(|port| TcpListener::bind(any(port)).expect("listen")), udp)
        });
        let (tcp, udp) = opened.join().expect("the place is there");
        let mut threads = vec![std::thread::spawn(move || {
            let mut word = [0; 16];
            while !stopped.load(Ordering::Acquire) {
                if let Ok((length, who)) = udp.recv_from(&mut word) {
                    let _ = udp.send_to(&word[..length], who);
                }
            }
        })];
        for listener in tcp {
            listener.set_nonblocking(true).expect("a listener");
            let stopped = stop.clone();
            threads.push(std::thread::spawn(move || accept(&listener, &stopped)));
        }
        Listener { stop, threads }
    }
}

/// Echoes what comes.
fn accept(listener: &TcpListener, stopped: &AtomicBool) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut word = [0; 16];
    while !stopped.load(Ordering::Acquire) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a socket");
            streams.push(stream);
        }
        streams.retain_mut(|stream| match stream.read(&mut word) {
            Ok(0) => false,
            Ok(length) => stream.write_all(&word[..length]).is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether an answer comes, from where the calling thread stands.
pub(crate) fn answers(what: What, to: Ipv4Addr) -> bool {
    let (port, question) = match what {
        What::Tcp(port) => {
            return TcpStream::connect_timeout(&SocketAddr::new(to.into(), port), PATIENCE).is_ok();
        }
        What::Udp(port) => (port, b"?".to_vec()),
        // A name of the cluster, which is answered at once, type A.
        What::Name => {
            let mut question = b"\x00\x07\x01\x00\x00\x01\0\0\0\0\0\0".to_vec();
            question.extend(b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\0\0\x01\0\x01");
            (53, question)
        }
    };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.send_to(&question, (to, port)).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}
