//! What guests' network cards are plugged into: taps in a network namespace of this machine, whose
//! kernel routes or bridges between them, and an ear on one of them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::namespace::Namespace;

/// All protocols, as sockets for whole frames name them.
const ALL: u16 = 3;
/// The largest frame that is looked at.
const FRAME: usize = 65536;

/// The guests' networks.
pub(crate) struct Lan {
    pub(crate) namespace: Namespace,
}

impl Lan {
    /// Without any tap yet.
    pub(crate) fn new(what: &str) -> Lan {
        let namespace = Namespace::new(&format!("edt-{}-{what}", std::process::id()));
        namespace.within(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a setting");
        });
        Lan { namespace }
    }

    /// Makes a tap, up, for one card of one guest.
    pub(crate) fn tap(&self, name: &str) {
        let mut command = self.namespace.command("ip");
        command.args(["tuntap", "add", "dev", name, "mode", "tap"]);
        crate::board::command::run(command).ok();
        self.namespace.ip(&format!("link set {name} up\n"));
    }

    /// Listens to all that crosses a tap.
    pub(crate) fn listen(&self, tap: &str) -> Ear {
        let socket = self.namespace.within(|| open(tap));
        let done = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let done = done.clone();
            move || hear(&socket, &done)
        });
        Ear { done, thread: Some(thread) }
    }
}

/// Something that listens, and remembers all frames.
pub(crate) struct Ear {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Vec<u8>>>>,
}

/// What was heard.
pub(crate) struct Heard(Vec<Vec<u8>>);

impl Ear {
    /// Stops listening.
    pub(crate) fn stop(mut self) -> Heard {
        self.done.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it listens");
        Heard(thread.join().expect("no panic"))
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
    }
}

impl Heard {
    /// Frames that hold these bytes.
    pub(crate) fn with(&self, bytes: &[u8]) -> usize {
        let holds = |frame: &&Vec<u8>| frame.windows(bytes.len()).any(|part| part == bytes);
        self.0.iter().filter(holds).count()
    }

    /// Frames of IPv4 from or to an address in this /16.
    pub(crate) fn about(&self, net: [u8; 2]) -> usize {
        let about = |frame: &&Vec<u8>| {
            let ip = frame.get(12..14) == Some(&[8, 0]) && frame.len() >= 34;
            ip && (frame[26..28] == net || frame[30..32] == net)
        };
        self.0.iter().filter(about).count()
    }

    /// Frames of UDP over IPv4 to this port.
    pub(crate) fn udp_to(&self, port: u16) -> usize {
        let to = |frame: &&Vec<u8>| {
            let udp = frame.get(12..15) == Some(&[8, 0, 0x45]) && frame.get(23) == Some(&17);
            udp && frame.get(36..38) == Some(&port.to_be_bytes()[..])
        };
        self.0.iter().filter(to).count()
    }

    /// Frames that are a part of a larger packet over IPv4, or larger than a card's.
    pub(crate) fn pieces(&self) -> usize {
        let piece = |frame: &&Vec<u8>| {
            let ip = frame.get(12..14) == Some(&[8, 0]) && frame.len() >= 34;
            ip && (frame[20] & 0x3f != 0 || frame[21] != 0 || frame.len() > 1514)
        };
        self.0.iter().filter(piece).count()
    }

    /// All frames.
    pub(crate) fn frames(&self) -> usize {
        self.0.len()
    }
}

/// A socket that sees every frame of a link, both ways.
fn open(link: &str) -> OwnedFd {
    let index = nix::net::if_::if_nametoindex(link).expect("the tap is there");
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the descriptor is checked and owned at once; the address is a whole `sockaddr_ll` of
    // this stack, and its own size is given with it.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, kind, i32::from(ALL.to_be()));
        assert!(fd >= 0, "a packet socket: {}", std::io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("small");
        address.sll_protocol = ALL.to_be();
        address.sll_ifindex = i32::try_from(index).expect("small");
        let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("small");
        let bound = libc::bind(fd, (&raw const address).cast(), size);
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        socket
    }
}

fn hear(socket: &OwnedFd, done: &AtomicBool) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let mut frame = vec![0; FRAME];
    while !done.load(Ordering::Acquire) {
        // SAFETY: the buffer is writable for the whole length that is given.
        let length =
            unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        match usize::try_from(length) {
            Ok(length) => heard.push(frame[..length].to_vec()),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    heard
}
