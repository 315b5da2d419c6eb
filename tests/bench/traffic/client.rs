//! Who asks and who answers, each in a pod's network: a byte says what is wanted of a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::PORT;
use crate::lab::traffic_places::Place;

/// Bytes of one round trip, and of one write of a stream.
const PING: usize = 64;
const BLOCK: usize = 128 * 1024;
/// Connections at once where their rate is measured.
const AT_ONCE: usize = 4;

/// How much is measured.
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) pings: usize,
    pub(super) length: Duration,
}

impl Effort {
    pub(super) fn new(quick: bool) -> Effort {
        let (rounds, pings, seconds) = if quick { (3, 300, 1) } else { (8, 3000, 3) };
        Effort { rounds, pings, length: Duration::from_secs(seconds) }
    }
}

/// Answers in a pod's network for as long as this process runs.
pub(super) fn answer(network: PathBuf) {
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        Place::new("answers", network).enter();
        let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("a port in a pod");
        told.send(()).expect("somebody waits");
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    heard.recv().expect("somebody answers");
}

fn serve(mut stream: TcpStream) {
    let mut wanted = [0];
    let mut buffer = vec![0; BLOCK];
    let _ = stream.set_nodelay(true);
    if stream.read_exact(&mut wanted).is_err() {
        return;
    }
    match wanted[0] {
        b'p' => {
            while stream.read_exact(&mut buffer[..PING]).is_ok() {
                let _ = stream.write_all(&buffer[..PING]);
            }
        }
        b's' => {
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
            let _ = stream.write_all(b"!");
        }
        _ => {
            let _ = stream.write_all(b"!");
        }
    }
}

fn inside<T: Send>(network: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            Place::new("asks", network).enter();
            work()
        });
        thread.join().expect("no panic")
    })
}

fn connect(to: SocketAddr, wanted: u8) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    stream.set_nodelay(true).expect("a socket");
    stream.write_all(&[wanted]).expect("somebody listens");
    stream
}

/// Round trips over one connection, in microseconds.
pub(super) fn latency(network: &Path, to: SocketAddr, count: usize) -> Vec<f64> {
    inside(network, || {
        let mut stream = connect(to, b'p');
        let mut buffer = [7; PING];
        let mut samples = Vec::with_capacity(count);
        for n in 0..count + 20 {
            let begin = Instant::now();
            stream.write_all(&buffer).expect("sent");
            stream.read_exact(&mut buffer).expect("answered");
            // The first ones find the way.
            if n >= 20 {
                samples.push(begin.elapsed().as_secs_f64() * 1e6);
            }
        }
        samples
    })
}

/// Connections a second, each with one question and its answer.
pub(super) fn connections(network: &Path, to: SocketAddr, length: Duration) -> f64 {
    let count = AtomicU64::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                Place::new("asks", network).enter();
                while begin.elapsed() < length {
                    let mut answer = [0];
                    let mut stream = connect(to, b'c');
                    stream.read_exact(&mut answer).expect("answered");
                    // No end waits for the last packets: ways share the ports of one pod.
                    let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    setsockopt(&stream, sockopt::Linger, &reset).expect("a socket");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    count.into_inner() as f64 / begin.elapsed().as_secs_f64()
}

/// Megabytes a second over one connection.
pub(super) fn throughput(network: &Path, to: SocketAddr, length: Duration) -> f64 {
    inside(network, || {
        let mut stream = connect(to, b's');
        let block = vec![7; BLOCK];
        let (begin, mut sent) = (Instant::now(), 0usize);
        while begin.elapsed() < length {
            stream.write_all(&block).expect("sent");
            sent += BLOCK;
        }
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("all of it arrived");
        sent as f64 / 1e6 / begin.elapsed().as_secs_f64()
    })
}
