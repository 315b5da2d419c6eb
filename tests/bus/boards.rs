//! Whole buses: servers and agents that find each other over their own brokers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_bus::{BrokerAddress, Bus, Config, Incoming, Keys, Me, Role};
use tokio::sync::{mpsc, watch};

use super::{CLUSTER, PATIENCE, Pki, fixed, until};

/// The boards of a test: they know of each other's brokers.
pub(crate) struct Cluster {
    pub(crate) pki: Pki,
    brokers: watch::Sender<Vec<BrokerAddress>>,
}

/// One board.
pub(crate) struct Board {
    pub(crate) bus: Bus,
    incoming: mpsc::Receiver<Incoming>,
}

pub(crate) const SECRET: [u8; 32] = [5; 32];

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster { pki: Pki::new(), brokers: watch::Sender::new(Vec::new()) }
    }

    pub(crate) fn config(&self, name: &str, role: Role, keys: Keys) -> Config {
        let tls = match role {
            Role::Server => self.pki.server(name),
            Role::Agent => self.pki.agent(name),
        };
        let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
        Config {
            cluster: CLUSTER.into(),
            me: Me { name: name.into(), role },
            embedded: (role == Role::Server).then_some(listen),
            brokers: self.brokers.subscribe(),
            external: Vec::new(),
            tls: fixed(tls),
            keys,
        }
    }

    pub(crate) async fn server(&self, name: &str) -> Board {
        self.with_secret(SECRET, name).await
    }

    pub(crate) async fn with_secret(&self, secret: [u8; 32], name: &str) -> Board {
        let config = self.config(name, Role::Server, Keys::of_server(&secret));
        let board = Board::start(config).await;
        let port = board.bus.broker_address().unwrap().port();
        self.place(name, port);
        board
    }

    /// Tells everybody where a server's broker is.
    pub(crate) fn place(&self, name: &str, port: u16) {
        let address = BrokerAddress { name: name.into(), host: "127.0.0.1".into(), port };
        self.brokers.send_modify(|brokers| {
            brokers.retain(|b| b.name != name);
            brokers.push(address);
        });
    }

    /// Servers `a`, `b` and `c`, which have found each other.
    pub(crate) async fn three(&self) -> [Board; 3] {
        let all = [self.server("a").await, self.server("b").await, self.server("c").await];
        for board in &all {
            board.sessions(2).await;
        }
        all
    }

    pub(crate) async fn agent(&self, name: &str) -> Board {
        Board::start(self.config(name, Role::Agent, Keys::of_agent(&SECRET, name))).await
    }
}

impl Board {
    pub(crate) async fn start(config: Config) -> Board {
        let (bus, incoming) = Bus::start(config).await.unwrap();
        Board { bus, incoming }
    }

    pub(crate) async fn next(&mut self) -> Incoming {
        let next = tokio::time::timeout(PATIENCE, self.incoming.recv()).await;
        next.expect("something in time").expect("a bus")
    }

    /// The next raft message, whatever else comes.
    pub(crate) async fn raft(&mut self) -> (String, Bytes) {
        loop {
            if let Incoming::Raft { from, message } = self.next().await {
                return (from, message);
            }
        }
    }

    pub(crate) async fn beat(&mut self) -> (String, Bytes) {
        loop {
            if let Incoming::Beat { node, payload } = self.next().await {
                return (node, payload);
            }
        }
    }

    async fn hint(&mut self) -> (String, Bytes) {
        loop {
            if let Incoming::Leader { from, payload } = self.next().await {
                return (from, payload);
            }
        }
    }

    /// The next board that is gone (true) or back (false).
    pub(crate) async fn notice(&mut self) -> (String, bool) {
        loop {
            match self.next().await {
                Incoming::Gone { name } => return (name, true),
                Incoming::Back { name } => return (name, false),
                _ => {}
            }
        }
    }

    pub(crate) async fn sessions(&self, count: u64) {
        until("sessions", || self.bus.counters().sessions == count).await;
    }

    /// Fails if anybody is gone within a while.
    pub(crate) async fn nobody_gone(&mut self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        while let Ok(Some(next)) = tokio::time::timeout_at(until, self.incoming.recv()).await {
            assert!(!matches!(next, Incoming::Gone { .. }), "{next:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_and_agents_hear_what_is_for_them() {
    let cluster = Cluster::new();
    let [mut a, mut b, mut c] = cluster.three().await;
    a.bus.send("b", "one".into());
    assert_eq!(b.raft().await, ("a".into(), "one".into()));
    let mut times = Vec::new();
    for _ in 0..300 {
        let begin = Instant::now();
        a.bus.send("b", "there".into());
        b.raft().await;
        b.bus.send("a", "and back".into());
        a.raft().await;
        times.push(begin.elapsed());
    }
    times.sort();
    eprintln!("there and back, sealed: median {:?}, p99 {:?}", times[150], times[296]);
    let large: Bytes = (0..3_000_000_u32).map(|n| n as u8).collect::<Vec<_>>().into();
    b.bus.send("c", large.clone());
    assert_eq!(c.raft().await, ("b".into(), large));
    a.bus.lead("hint 1".into());
    assert_eq!(a.hint().await, ("a".into(), "hint 1".into()));
    assert_eq!(b.hint().await, ("a".into(), "hint 1".into()));
    // An agent that comes later gets the hint, and is heard by every server.
    let mut agent = cluster.agent("n").await;
    assert_eq!(agent.hint().await, ("a".into(), "hint 1".into()));
    agent.bus.beat("beat 1".into());
    for server in [&mut a, &mut b, &mut c] {
        assert_eq!(server.beat().await, ("n".into(), "beat 1".into()));
    }
    // A server's beats reach all servers, itself too, once each.
    b.bus.beat("of b".into());
    b.bus.beat("of b again".into());
    for server in [&mut a, &mut b, &mut c] {
        assert_eq!(server.beat().await, ("b".into(), "of b".into()));
        assert_eq!(server.beat().await, ("b".into(), "of b again".into()));
    }
    // What an agent may not.
    agent.bus.send("a", "no".into());
    assert_eq!(agent.bus.counters().drops.no_path, 1);
    let drops = [&a, &b, &c].map(|s| s.bus.counters().drops);
    assert!(drops.iter().all(|d| *d == edge_bus::Drops::default()), "{drops:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_gone_at_once_and_back_when_heard() {
    let cluster = Cluster::new();
    let [a, mut b, mut c] = cluster.three().await;
    a.bus.send("b", "here".into());
    b.raft().await;
    let begin = Instant::now();
    drop(a);
    assert_eq!(b.notice().await, ("a".into(), true));
    eprintln!("gone after {:?}", begin.elapsed());
    assert_eq!(c.notice().await, ("a".into(), true));
    let again = cluster.server("a").await;
    assert_eq!(b.notice().await, ("a".into(), false));
    assert_eq!(c.notice().await, ("a".into(), false));
    again.sessions(2).await;
    // One that says good-bye is not gone.
    again.bus.close().await;
    drop(again);
    b.nobody_gone(Duration::from_millis(400)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_alone_tells_of_no_servers_end() {
    let cluster = Cluster::new();
    let (a, mut b) = (cluster.server("a").await, cluster.server("b").await);
    a.sessions(1).await;
    a.bus.send("b", "here".into());
    b.raft().await;
    // b's broker loses a, whose own broker still listens.
    assert_eq!(b.bus.evict("a"), 1);
    until("the will", || b.bus.counters().broker.wills == 1).await;
    b.nobody_gone(Duration::from_millis(400)).await;
    a.sessions(1).await;
}

/// Of three servers the leader took its broker along, and the third has not met anybody yet: one
/// broker saw the will, and the port refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusing_port_is_as_good_as_a_second_broker() {
    let cluster = Cluster::new();
    let (a, mut b) = (cluster.server("a").await, cluster.server("b").await);
    for board in [&a, &b] {
        board.sessions(1).await;
    }
    a.bus.send("b", "here".into());
    b.raft().await;
    let begin = Instant::now();
    drop(a);
    assert_eq!(b.notice().await, ("a".into(), true));
    eprintln!("gone after {:?}", begin.elapsed());
    // It is back, and b has a session with it as soon as it shows itself.
    let again = cluster.server("a").await;
    assert_eq!(b.notice().await, ("a".into(), false));
    b.sessions(1).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_gone_after_its_grace_and_comes_back() {
    let cluster = Cluster::new();
    let [mut a, _b, _c] = cluster.three().await;
    let agent = cluster.agent("n").await;
    agent.sessions(1).await;
    agent.bus.beat("1".into());
    a.beat().await;
    let begin = Instant::now();
    drop(agent);
    assert_eq!(a.notice().await, ("n".into(), true));
    assert!(begin.elapsed() >= Duration::from_millis(250));
    let agent = cluster.agent("n").await;
    assert_eq!(a.notice().await, ("n".into(), false));
    agent.bus.close().await;
    a.nobody_gone(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_moves_on_when_its_broker_dies() {
    let cluster = Cluster::new();
    let mut boards: Vec<Option<Board>> = cluster.three().await.into_iter().map(Some).collect();
    let agent = cluster.agent("n").await;
    agent.sessions(1).await;
    let clients = |b: &Option<Board>| b.as_ref().unwrap().bus.counters().broker.clients;
    // It looks for its like at each of them first, for a moment.
    let settled = || boards.iter().map(clients).sum::<u64>() == 10;
    until("only the agent itself is left", settled).await;
    let at = boards.iter().position(|b| clients(b) == 4).expect("the agent is somewhere");
    let begin = Instant::now();
    boards[at].take();
    let other = boards.iter_mut().flatten().next().unwrap();
    let mut n = 0;
    loop {
        n += 1;
        agent.bus.beat(format!("beat {n}").into());
        let wait = tokio::time::timeout(Duration::from_millis(20), other.beat());
        if wait.await.is_ok() {
            break;
        }
    }
    eprintln!("heard again after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_broker_serves_when_the_receivers_own_is_out_of_reach() {
    let cluster = Cluster::new();
    let [a, mut b, _c] = cluster.three().await;
    // Nobody can reach b's broker any more, but b reaches theirs.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    cluster.place("b", nowhere.local_addr().unwrap().port());
    a.sessions(1).await;
    a.bus.send("b", "around".into());
    assert_eq!(b.raft().await, ("a".into(), "around".into()));
    // Back at its place.
    cluster.place("b", b.bus.broker_address().unwrap().port());
    a.sessions(2).await;
    a.bus.send("b", "straight".into());
    assert_eq!(b.raft().await.1, "straight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_changed_hands_is_noticed() {
    let cluster = Cluster::new();
    let [a, b, c] = cluster.three().await;
    // b's address is now c's.
    cluster.place("b", c.bus.broker_address().unwrap().port());
    a.sessions(1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(a.bus.counters().sessions, 1);
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_used_without_a_restart() {
    let (old, new) = (Pki::new(), Pki::new());
    let (tls, watched) = watch::channel(old.server("b"));
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let broker = edge_bus::broker::Broker::start(CLUSTER, listen, watched).await.unwrap();
    let plain = || super::wish(&[("leader", 0)]);
    let mut first = super::Client::server(&old, "a", broker.address(), plain()).up().await;
    tls.send_replace(new.server("b"));
    // New connections see the new certificate, the old one lives on.
    let mut outdated = super::Client::server(&old, "c", broker.address(), plain());
    assert!(outdated.down().await.starts_with("TLS: "));
    let renewed = super::Client::server(&new, "d", broker.address(), plain()).up().await;
    renewed.session.publish(&super::topic("leader"), "hint".into(), 0, false).unwrap();
    assert_eq!(first.message().await.1, "hint");
    // A bus whose own certificate is renewed comes in with the next attempt.
    let cluster = Cluster::new();
    let (mine, watched) = watch::channel(old.server("e"));
    let at = broker.address();
    cluster.place("b", at.port());
    let mut config = cluster.config("e", Role::Server, Keys::of_server(&SECRET));
    (config.tls, config.embedded) = (watched, None);
    let board = Board::start(config).await;
    until("refused", || board.bus.counters().disconnects > 0).await;
    assert_eq!(board.bus.counters().sessions, 0);
    mine.send_replace(new.server("e"));
    board.sessions(1).await;
    drop(Arc::new(board));
}
