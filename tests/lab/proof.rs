//! The laboratory on trial: an instrument that is not itself tested proves nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::board::{Board, address};
use super::cluster::{Cluster, PERSON};
use super::history::{Asked, Told};
use super::link::Weather;
use super::load::{Load, Plan};
use super::watching;
use crate::board::command::until;

/// The port of the echo and of the stream.
const ECHO: u16 = 7;

/// How long an answer is waited for that has to come: a busy machine is no lost frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// Frames at most that are no datagrams: kernels ask now and then whose address it is.
const ARP: u64 = 16;

/// Datagrams that may be on their way to the echo at once: receive queues are short.
const WINDOW: u64 = 64;

/// A thread on a board that sends every datagram back, until an empty one comes.
struct Echo {
    heard: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

fn echo(board: &Board) -> Echo {
    let socket = board.within(|| UdpSocket::bind((board.ip, ECHO)).expect("a socket"));
    socket.set_read_timeout(Some(4 * PATIENCE)).expect("a timeout");
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::AcqRel);
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Echo { heard, thread }
}

impl Echo {
    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Ends it by the empty datagram; how many others it heard.
    fn end(self, speaker: &UdpSocket) -> u64 {
        speaker.send(&[]).expect("sent");
        self.thread.join().expect("the echo ends");
        self.heard.load(Ordering::Acquire)
    }
}

/// A socket on the board, connected to the echo of another.
fn speaker(board: &Board, other: &Board) -> UdpSocket {
    let socket = board.within(|| UdpSocket::bind((board.ip, 0)).expect("a socket"));
    socket.connect((other.ip, ECHO)).expect("an address");
    socket
}

/// One round trip; `None` if no answer came within `patience`.
fn round_trip(socket: &UdpSocket, n: u32, patience: Duration) -> Option<Duration> {
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    let mut buffer = [0; 64];
    let begin = Instant::now();
    socket.send(&n.to_be_bytes()).ok()?;
    while let Ok(length) = socket.recv(&mut buffer) {
        // An answer that comes late belongs to a question given up before.
        if buffer[..length] == n.to_be_bytes() {
            return Some(begin.elapsed());
        }
    }
    None
}

/// Round trips that all have to come back, as long as each took, the shortest first. The longest
/// ones tell of the machine; the shortest ones of the cable.
#[track_caller]
fn round_trips(socket: &UdpSocket, count: u32) -> Vec<Duration> {
    let one = |n| round_trip(socket, n, PATIENCE).expect("the answer comes");
    let mut times: Vec<Duration> = (0..count).map(one).collect();
    times.sort_unstable();
    times
}

fn is_silent(socket: &UdpSocket) -> bool {
    round_trip(socket, u32::MAX, SILENCE).is_none()
}

#[test]
fn frames_are_delayed_and_lost_as_told() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::dark(2, 0);
    let (one, two) = (&lab.boards[0], &lab.boards[1]);
    let listener = echo(two);
    let socket = speaker(one, two);

    let bare = round_trips(&socket, 200);
    eprintln!("round trips of a perfect cable: {:?} to {:?}", bare[0], bare[199]);
    assert!(bare[0] < Duration::from_millis(2), "{bare:?}");

    lab.fabric.set(one.port, two.port, |weather| weather.delay = Duration::from_millis(30));
    let slow = round_trips(&socket, 9);
    assert!((30..45).contains(&slow[0].as_millis()), "one way 30 ms: {slow:?}");
    lab.fabric.set_both(one.port, two.port, |weather| weather.delay = Duration::from_millis(20));
    let slow = round_trips(&socket, 9);
    assert!((40..55).contains(&slow[0].as_millis()), "20 ms each way: {slow:?}");
    lab.fabric.set(one.port, two.port, |weather| {
        *weather = Weather { jitter: Duration::from_millis(40), ..Weather::default() };
    });
    lab.fabric.set(two.port, one.port, |weather| *weather = Weather::default());
    let times = round_trips(&socket, 50);
    assert!(times[0] < Duration::from_millis(12), "{times:?}");
    assert!(times[24] < Duration::from_millis(40), "half of them within 20 ms: {times:?}");
    assert!(times[49] > Duration::from_millis(28), "{times:?}");

    lab.fabric.heal();
    lab.fabric.set(one.port, two.port, |weather| weather.loss = 0.2);
    let before = lab.fabric.count(one.port, two.port);
    let heard = listener.heard();
    let decided = || {
        let now = lab.fabric.count(one.port, two.port);
        (now.frames - before.frames, now.lost - before.lost)
    };
    for n in 1..=2000_u32 {
        socket.send(&n.to_be_bytes()).expect("sent");
        // No faster than the switch and the echo take them, whatever else the machine does.
        until("what was sent is decided on and heard", || {
            let (through, lost) = decided();
            let ahead = u64::from(n) - through - lost;
            let unheard = through.saturating_sub(listener.heard() - heard);
            (ahead + unheard < WINDOW).then_some(()).ok_or_else(|| format!("{ahead}, {unheard}"))
        });
    }
    until("all frames were decided on and heard", || {
        let ((through, lost), heard) = (decided(), listener.heard() - heard);
        let all = through + lost >= 2000 && heard + ARP >= through;
        all.then_some(()).ok_or_else(|| format!("{through} through, {lost} lost, {heard} heard"))
    });
    let ((through, lost), heard) = (decided(), listener.heard() - heard);
    assert!((300..500).contains(&lost), "20 % of 2000 is not {lost}");
    assert!(heard <= through && heard + ARP >= through, "{heard} of {through} arrived");
    lab.fabric.heal();
    listener.end(&socket);
}

#[test]
fn a_cut_may_be_one_way_and_heals() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::dark(3, 0);
    let (one, two, three) = (&lab.boards[0], &lab.boards[1], &lab.boards[2]);
    let listener = echo(two);
    let from_one = speaker(one, two);
    let from_three = speaker(three, two);
    round_trips(&from_one, 3);
    lab.fabric.set(two.port, one.port, |weather| weather.cut = true);
    let heard = listener.heard();
    assert!(is_silent(&from_one), "no way back");
    until("the way there is open", || {
        (listener.heard() > heard).then_some(()).ok_or_else(|| "nothing heard".to_owned())
    });
    round_trips(&from_three, 3);
    lab.fabric.heal();
    round_trips(&from_one, 3);
    two.pull_cable();
    assert!(is_silent(&from_three), "no cable");
    two.mend_cable();
    round_trips(&from_three, 3);
    listener.end(&from_three);
}

/// Sends `bytes` from the person to a board over TCP; gives bytes a second.
fn stream(lab: &Cluster, board: &Board, bytes: usize) -> f64 {
    let listener = board.within(|| TcpListener::bind((board.ip, ECHO)).expect("a listener"));
    let sink = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut buffer = vec![0; 1 << 18];
        let mut total = 0;
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            total += length;
        }
        let _ = stream.write_all(b"!");
        total
    });
    let to = SocketAddr::from((board.ip, ECHO));
    let mut stream = lab.person.within(|| TcpStream::connect(to).expect("a connection"));
    let begin = Instant::now();
    stream.write_all(&vec![7; bytes]).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("closed");
    stream.read_exact(&mut [0]).expect("the sink has all");
    assert_eq!(sink.join().expect("the sink ends"), bytes);
    bytes as f64 / begin.elapsed().as_secs_f64()
}

#[test]
fn bytes_are_counted_and_throttled() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::dark(1, 0);
    let board = &lab.boards[0];
    assert_eq!(address(PERSON).octets()[3], 10);
    let fast = stream(&lab, board, 64 << 20);
    eprintln!("a perfect cable carries {:.0} MB/s", fast / 1e6);
    assert!(fast > 20e6, "the switch is slow: {fast} bytes/s");
    let there = lab.fabric.count(PERSON, board.port).bytes;
    let back = lab.fabric.count(board.port, PERSON).bytes;
    assert!((64 << 20..70 << 20).contains(&there), "{there} bytes for 64 MiB");
    assert!(back < 4 << 20, "{back} bytes of acknowledgements");
    lab.fabric.set(PERSON, board.port, |weather| weather.rate = Some(2_000_000));
    let slow = stream(&lab, board, 3_000_000);
    // A busy machine makes it slower; nothing may make it faster.
    assert!((0.5e6..2.3e6).contains(&slow), "2 MB/s, measured {slow}");
}

#[test]
fn boards_are_killed_paused_and_lose_power() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::strangers(2);
    let (one, two) = (&lab.boards[0], &lab.boards[1]);
    for (server, name) in [(one, "s1"), (two, "s2")] {
        let nodes = lab.ctl(server, &["get", "nodes", "-o", "name"]).ok();
        assert_eq!(nodes.trim(), format!("node/{name}"), "each is reached by its own address");
    }
    one.pause();
    let mut curl = lab.person("curl", one);
    let url = format!("https://{}:6443/readyz", one.ip);
    curl.args(["-sk", "-m", "1", "-o", "/dev/null", &url]);
    let outcome = crate::board::command::run(curl);
    assert_eq!(outcome.status, 28, "a paused board accepts and says nothing: {outcome:?}");
    one.resume();
    lab.wait_ready(one, &["s1"]);

    let before = one.pid().expect("it runs");
    one.kill();
    assert!(one.pid().is_none());
    one.spawn();
    lab.wait_ready(one, &["s1"]);
    assert_ne!(one.pid().expect("it runs"), before);

    let example = lab.file("map.yaml", MAP);
    lab.ctl(two, &["apply", "-f", &example]).ok();
    let marks = two.marks();
    assert!(!marks.processes().is_empty());
    two.power_cut();
    assert_eq!(marks.leftovers(), Vec::<String>::new());
    two.power_on();
    two.spawn();
    lab.wait_ready(two, &["s2"]);
    let kept = lab.ctl(two, &["get", "configmap", "kept", "-o", "jsonpath={.data.word}"]).ok();
    assert_eq!(kept, "yes", "what was acknowledged is there after a power cut");
}

const MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: kept}
data: {word: 'yes'}
";

#[test]
fn nothing_is_left_of_a_laboratory() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::strangers(1);
    let (name, dir) = (lab.name.clone(), lab.dir.clone());
    let board = &lab.boards[0];
    let archive = lab.dir.join("webserver.tar").display().to_string();
    let mut make = std::process::Command::new(crate::board::machine::built("edged"));
    make.args(["webserver", "--archive", &archive]);
    crate::board::command::run(make).ok();
    crate::board::command::run({
        let mut load = board.inside(crate::board::machine::built("edgectl"));
        load.args(["image", "load", &archive]);
        load
    })
    .ok();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/web.yaml");
    lab.ctl(board, &["apply", "-f", example]).ok();
    lab.kubectl(board, &["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let marks = board.marks();
    let running = marks.processes().len();
    assert!(running >= 7, "edged, three shims, three programs: {running}");
    assert!(!marks.mounts().is_empty() && !marks.cgroups().is_empty());
    // As after a failed test: no pod was deleted, no edged stopped.
    drop(lab);
    assert_eq!(marks.leftovers(), Vec::<String>::new());
    assert!(!dir.exists());
    let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left = spaces.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
    assert_eq!(left.count(), 0);
}

/// The clients and their judges, on the simplest cluster there is: one server that is killed.
#[test]
fn a_load_is_judged_on_one_server() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::strangers(1);
    let plan = Plan {
        registers: 3,
        clients: 6,
        pause: Duration::from_millis(5),
        seed: super::cluster::seed(),
    };
    let load = Load::start(&lab, plan);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        lab.boards[0].kill();
        lab.boards[0].spawn();
        let since = load.now();
        let took = load.recovery(since, Duration::from_secs(20)).expect("it comes back");
        eprintln!("from a killed lone server to the next acknowledged write: {took:?}");
    }
    let mut evidence = load.finish();
    let count = evidence.history.acknowledged().count();
    eprintln!("{} requests, {count} acknowledged writes", evidence.history.records.len());
    assert!(count > 100, "{count}");
    assert_eq!(evidence.history.check(), Vec::<String>::new());
    assert_eq!(watching::check(&evidence.watches, &evidence.history), Vec::<String>::new());
    for watch in &evidence.watches {
        assert!(watch.events.len() > 100 && watch.resumed > 0, "{} events", watch.events.len());
    }

    // The judges see what is wrong: an event missed, one lost for all, a stale answer.
    let missing = evidence.watches[0].events.remove(40);
    let told = watching::check(&evidence.watches, &evidence.history).join("; ");
    assert!(told.contains("missed revision"), "{told}");
    for watch in &mut evidence.watches[1..] {
        watch.events.retain(|event| *event != missing);
    }
    let told = watching::check(&evidence.watches, &evidence.history).join("; ");
    assert!(told.contains("lost") || told.contains("not what watches saw"), "{told}");
    let last = evidence.history.records.last_mut().expect("records");
    last.told = Told::Done { value: 1, revision: 1 };
    last.asked = Asked::Read;
    let told = evidence.history.check().join("; ");
    assert!(told.contains("no order") && told.contains("is older than"), "{told}");
}
