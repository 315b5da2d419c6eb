//! Ports of a pod on a person's computer, by every `kubectl` of this machine and by `edgectl`:
//! many connections, a large one that ends half by half, a port where nobody listens, a pod that
//! ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::until;
use super::machine::{Board, built};

/// The port on which the pod echoes; nobody listens on the next one.
const ECHO: u16 = 7000;
/// Where several versions of `kubectl` are, if they are.
const VERSIONS: &str = "/usr/lib/google-cloud-sdk/bin";
/// Bytes of the large connection.
const LARGE: usize = 100 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: example.org/busybox:1
    imagePullPolicy: Never
    command: [/bin/busybox, sleep, '1000']
    ports: [{name: words, containerPort: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: talk, port: 70, targetPort: words}]
";

/// Runs work on a thread that stands in a network.
fn within<T: Send + 'static>(network: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(network).expect("the network is there");
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
        work()
    });
    thread.join().expect("the work ends")
}

/// Lets something in the pod echo what it is told, on its loopback only.
fn echo(pod: &Path) {
    let at = (Ipv4Addr::LOCALHOST, ECHO);
    let listener = within(pod, move || TcpListener::bind(at).expect("listen in the pod"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut read, mut write) = (&stream, &stream);
                let _ = std::io::copy(&mut read, &mut write);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
}

/// A program that forwards ports; it is gone when this is dropped.
struct Forward {
    child: Child,
    ports: Vec<u16>,
    lines: std::sync::mpsc::Receiver<String>,
    network: PathBuf,
}

impl Forward {
    fn start(board: &Board, mut command: Command, args: &[&str], ports: usize) -> Forward {
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (told, lines) = std::sync::mpsc::channel();
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("piped"));
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("piped"));
        for pipe in [out, err] {
            let told = told.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = told.send(line);
                }
            });
        }
        let network = PathBuf::from(format!("/run/netns/{}", board.name));
        let mut forward = Forward { child, ports: Vec::new(), lines, network };
        while forward.ports.len() < ports {
            let line = forward.line("Forwarding from 127.0.0.1:");
            let port = line.split([':', ' ']).nth(3).and_then(|port| port.parse().ok());
            forward.ports.push(port.unwrap_or_else(|| panic!("no port in {line}")));
        }
        forward
    }

    /// The next line with these words.
    #[track_caller]
    fn line(&self, with: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(with) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no {with:?} in {seen:#?}"),
            }
        }
    }

    fn connect(&self, nth: usize) -> TcpStream {
        connect(&self.network, self.ports[nth])
    }

    /// Connections at once, each with words of its own that come back once they have ended.
    fn many(&self, count: usize, at_once: usize) {
        let (network, port) = (&self.network, self.ports[0]);
        std::thread::scope(|scope| {
            for worker in 0..at_once {
                scope.spawn(move || {
                    for n in (worker..count).step_by(at_once) {
                        let words = format!("connection {n} ").repeat(20);
                        let mut stream = connect(network, port);
                        stream.write_all(words.as_bytes()).expect("it takes words");
                        stream.shutdown(Shutdown::Write).expect("half of it ends");
                        let mut echoed = String::new();
                        stream.read_to_string(&mut echoed).expect("the other half goes on");
                        assert_eq!(echoed, words);
                    }
                });
            }
        });
    }

    /// One connection with a lot in both directions.
    fn large(&self) {
        let stream = self.connect(0);
        let mut write = stream.try_clone().expect("a socket");
        let writer = std::thread::spawn(move || {
            let block: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
            for _ in 0..LARGE / block.len() {
                write.write_all(&block).expect("it takes a block");
            }
            write.shutdown(Shutdown::Write).expect("half of it ends");
        });
        let (mut read, mut buffer, mut at) = (&stream, vec![0; 1 << 16], 0usize);
        while let Ok(count @ 1..) = read.read(&mut buffer) {
            let same = |(n, byte): (usize, &u8)| usize::from(*byte) == (at + n) % (1 << 20) % 251;
            assert!(buffer[..count].iter().enumerate().all(same), "different at {at}");
            at += count;
        }
        assert_eq!(at, LARGE);
        writer.join().expect("all was taken");
    }
}

/// A connection to a port of the person's computer, which is the board here.
fn connect(network: &Path, port: u16) -> TcpStream {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    within(network, move || {
        let stream = TcpStream::connect(at).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    })
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All versions of `kubectl` on this machine, the oldest first.
fn versions() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("kubectl."))
        })
        .collect();
    found.sort();
    if found.is_empty() {
        found.push(std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into()).into());
    }
    found
}

#[test]
fn ports_of_a_pod_by_every_kubectl_and_by_edgectl() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("forward");
    board.load_busybox();
    let file = board.file("pod.yaml", POD);
    board.kubectl(&["apply", "-f", &file]).ok();
    board.kubectl(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=30s"]).ok();
    let uid = board.kubectl(&["get", "pod", "echo", "-o", "jsonpath={.metadata.uid}"]).ok();
    echo(&board.dir.join("run/pods").join(&uid).join("net"));

    let versions = versions();
    for (n, version) in versions.iter().enumerate() {
        let forward = |target: &str| {
            let words = ["port-forward", target, ":7000", ":7001"];
            Forward::start(&board, board.inside(version), &words, 2)
        };
        // The newest and the oldest differ in how they travel.
        let outer = n == 0 || n + 1 == versions.len();
        let by_pod = forward("pod/echo");
        by_pod.many(if outer { 1000 } else { 50 }, 8);
        if outer {
            by_pod.large();
        }
        let mut nobody = by_pod.connect(1);
        let _ = nobody.read(&mut [0]);
        let line = by_pod.line("an error occurred forwarding");
        let wanted = format!(
            "error forwarding port 7001 to pod {uid}, uid : failed to connect to \
                              localhost:7001 inside namespace"
        );
        assert!(line.contains(&wanted) && line.contains("connection refused"), "{line}");
    }
    by_edgectl(&board, &uid);
}

fn by_edgectl(board: &Board, uid: &str) {
    let start =
        |words: &[&str], ports| Forward::start(board, board.inside(built("edgectl")), words, ports);
    for (target, port) in [("echo", "7000"), ("service/echo", "talk"), ("svc/echo", "70")] {
        let words = format!(":{port}");
        start(&["port-forward", target, &words], 1).many(5, 1);
    }
    let mut forward = start(&["port-forward", "pod/echo", ":words", ":7001"], 2);
    forward.many(300, 8);
    forward.large();
    forward.line("Handling connection for");
    let mut nobody = forward.connect(1);
    let _ = nobody.read(&mut [0]);
    let line = forward.line("error: an error occurred forwarding");
    assert!(line.contains(&format!("error forwarding port 7001 to pod {uid}, uid : ")), "{line}");
    forward.many(5, 1);

    let mut open = forward.connect(0);
    open.write_all(b"x").expect("it takes words");
    open.read_exact(&mut [0]).expect("it is echoed");
    board.kubectl(&["delete", "pod", "echo", "--wait=false"]).ok();
    let ended = open.read(&mut [0]);
    assert!(!matches!(ended, Ok(1)), "the pod has ended: {ended:?}");
    forward.line("error: lost connection to pod");
    let status = until("edgectl ends with the pod", || {
        forward.child.try_wait().map_err(|e| e.to_string())?.ok_or("it runs".to_owned())
    });
    assert_eq!(status.code(), Some(1));
    interrupted(board);
}

/// Ctrl-C is how people end it: no word, and no failure.
fn interrupted(board: &Board) {
    let file = board.file("pod.yaml", POD);
    until("the pod is there again", || {
        let applied = board.kubectl(&["apply", "-f", &file]);
        let pod = board.kubectl(&[
            "get",
            "pod",
            "echo",
            "-o",
            "jsonpath={.status.phase} \
                                   {.metadata.deletionTimestamp}",
        ]);
        (pod.stdout == "Running ").then_some(()).ok_or(format!("{applied:?} {pod:?}"))
    });
    let words = ["port-forward", "svc/echo", ":70"];
    let mut forward = Forward::start(board, board.inside(built("edgectl")), &words, 1);
    let pid = Pid::from_raw(i32::try_from(forward.child.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("it can be interrupted");
    let status = until("edgectl ends when it is told to", || {
        forward.child.try_wait().map_err(|e| e.to_string())?.ok_or("it runs".to_owned())
    });
    assert_eq!(status.code(), Some(0));
}
