//! Debian's Mosquitto as the only broker, as with `--broker`: found, left, killed and paused.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edge_bus::{Config, ExternalBroker, Keys, Me, Role, parse_broker};
use tokio::sync::watch;

use super::boards::Board;
use super::{CLUSTER, Pki, fixed, until};
use crate::store::Directory;

/// A Mosquitto of its own.
pub(crate) struct Mosquitto {
    child: Child,
    dir: Directory,
    port: u16,
    pki: Pki,
    tls: bool,
}

impl Mosquitto {
    async fn start(tls: bool) -> Mosquitto {
        let (dir, pki) = (Directory::new(), Pki::new());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let at = dir.0.display();
        let passwords = dir.0.join("passwords");
        let mut made = Command::new("mosquitto_passwd");
        made.args(["-b", "-c"]).arg(&passwords).args(["edged", "pass word/1"]);
        assert!(made.status().expect("mosquitto: tests/setup.sh test").success());
        let files = pki.files("localhost", "brokers");
        let (ca, cert, key) = (files.ca.display(), files.cert.display(), files.key.display());
        let mut text = format!("user root\nlistener {port} 127.0.0.1\nset_tcp_nodelay true\n");
        text += &if tls {
            format!(
                "cafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\n\
                 allow_anonymous true\n"
            )
        } else {
            format!("allow_anonymous false\npassword_file {at}/passwords\n")
        };
        std::fs::write(dir.0.join("conf"), text).unwrap();
        let child = Mosquitto::spawn(&dir);
        let broker = Mosquitto { child, dir, port, pki, tls };
        until("mosquitto listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
            .await;
        broker
    }

    fn spawn(dir: &Directory) -> Child {
        let sbin = std::path::Path::new("/usr/sbin/mosquitto");
        let program = if sbin.exists() { sbin } else { std::path::Path::new("mosquitto") };
        let mut command = Command::new(program);
        command.arg("-c").arg(dir.0.join("conf")).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("mosquitto: tests/setup.sh test installs it")
    }

    fn url(&self) -> ExternalBroker {
        let port = self.port;
        if !self.tls {
            return parse_broker(&format!("mqtt://edged:pass%20word%2F1@127.0.0.1:{port}"))
                .unwrap();
        }
        let files = self.pki.files("client", "boards");
        let (ca, cert, key) = (files.ca.display(), files.cert.display(), files.key.display());
        parse_broker(&format!("mqtts://localhost:{port}?ca={ca}&cert={cert}&key={key}")).unwrap()
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn board(name: &str, role: Role, external: Vec<ExternalBroker>, pki: &Pki) -> Board {
    let secret = [3; 32];
    let keys = match role {
        Role::Server => Keys::of_server(&secret),
        Role::Agent => Keys::of_agent(&secret, name),
    };
    let (_, brokers) = watch::channel(Vec::new());
    let config = Config {
        cluster: CLUSTER.into(),
        me: Me { name: name.into(), role },
        embedded: Some("127.0.0.1:0".parse().unwrap()),
        brokers,
        external,
        tls: fixed(pki.server("any")),
        keys,
    };
    Board::start(config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boards_speak_over_it_and_come_back_after_its_death() {
    let mut broker = Mosquitto::start(false).await;
    let pki = Pki::new();
    let url = || vec![broker.url()];
    let mut a = board("a", Role::Server, url(), &pki).await;
    let mut b = board("b", Role::Server, url(), &pki).await;
    let n = board("n", Role::Agent, url(), &pki).await;
    assert_eq!(a.bus.broker_address(), None, "no embedded broker beside an external one");
    for board in [&a, &b, &n] {
        board.sessions(1).await;
    }
    let large = bytes::Bytes::from(vec![9; 700_000]);
    a.bus.send("b", large.clone());
    assert_eq!(b.raft().await, ("a".into(), large));
    n.bus.beat("beat".into());
    assert_eq!(a.beat().await, ("n".into(), "beat".into()));
    broker.kill();
    for board in [&a, &b, &n] {
        board.sessions(0).await;
    }
    a.bus.send("b", "lost".into());
    assert_eq!(a.bus.counters().drops.no_path, 1);
    broker.child = Mosquitto::spawn(&broker.dir);
    for board in [&a, &b, &n] {
        board.sessions(1).await;
    }
    b.bus.send("a", "again".into());
    assert_eq!(a.raft().await, ("b".into(), "again".into()));
    // An agent's end is told by one broker; a server's is not.
    drop(b);
    drop(n);
    assert_eq!(a.notice().await, ("n".into(), true));
    a.nobody_gone(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_one_is_left_for_the_next() {
    let (first, second) = (Mosquitto::start(false).await, Mosquitto::start(true).await);
    let pki = Pki::new();
    let urls = || vec![first.url(), second.url()];
    let mut a = board("a", Role::Server, urls(), &pki).await;
    let b = board("b", Role::Server, urls(), &pki).await;
    a.sessions(1).await;
    b.sessions(1).await;
    first.signal(nix::sys::signal::Signal::SIGSTOP);
    let begin = std::time::Instant::now();
    let heard = loop {
        b.bus.send("a", "over the second".into());
        let wait = tokio::time::timeout(Duration::from_millis(100), a.raft());
        if let Ok(heard) = wait.await {
            break heard;
        }
        assert!(begin.elapsed() < Duration::from_secs(18), "the paused broker was not left");
    };
    eprintln!("paused broker left after {:?}", begin.elapsed());
    assert_eq!(heard.1, "over the second");
    // Once it is back, all meet there again: brokers know nothing of each other.
    first.signal(nix::sys::signal::Signal::SIGCONT);
    let connects = |board: &Board| board.bus.counters().connects;
    until("all back at the first", || connects(&a) == 3 && connects(&b) == 3).await;
    drop(second);
    a.sessions(1).await;
    b.sessions(1).await;
    b.bus.send("a", "at the first again".into());
    while a.raft().await.1 != "at the first again" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_shown() {
    let broker = Mosquitto::start(false).await;
    let wrong = format!("mqtt://edged:hunter2@127.0.0.1:{}", broker.port);
    let target = edge_bus::Target::External(parse_broker(&wrong).unwrap());
    let mut client = super::Client::start(Pki::new().server("a"), "a", target, <_>::default());
    let why = client.down().await;
    assert!(why.contains("NotAuthorized") && !why.contains("hunter2"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_speaks_no_tls_or_another_authoritys_is_told() {
    let (plain, other) = (Mosquitto::start(false).await, Mosquitto::start(true).await);
    let strangers = Pki::new();
    let foreign = strangers.files("client", "boards");
    let (ca, cert, key) = (foreign.ca.display(), foreign.cert.display(), foreign.key.display());
    for port in [plain.port, other.port] {
        let url = format!("mqtts://localhost:{port}?ca={ca}&cert={cert}&key={key}");
        let target = edge_bus::Target::External(parse_broker(&url).unwrap());
        let mut client = super::Client::start(Pki::new().server("a"), "a", target, <_>::default());
        let why = client.down().await;
        assert!(why.starts_with("TLS: ") && !why.contains('\n'), "{why}");
    }
}
