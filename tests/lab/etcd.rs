//! The peer: Debian's etcd with its default settings, on boards of its own in a laboratory like
//! edged's, written to over its HTTP/JSON gateway by the same client.

use std::time::Duration;

use edge_client::{Call, Client, Patience};
use serde_json::json;

use super::board::Board;
use super::cluster::Cluster;
use super::load::runtime;
use super::pulse::Target;
use crate::board::command::{has, until};

/// A cluster of etcd members.
pub(crate) struct Etcd {
    pub(crate) lab: Cluster,
}

/// Whether the machine has it; says so aloud when not.
pub(crate) fn is_installed() -> bool {
    if !has("etcd") {
        assert!(std::env::var_os("CI").is_none(), "CI compares with etcd: tests/setup.sh test");
        eprintln!("SKIPPED: etcd is not installed; tests/setup.sh test installs it");
    }
    has("etcd")
}

impl Etcd {
    /// Starts so many members; they have a leader when this returns.
    pub(crate) fn start(members: usize) -> Etcd {
        let etcd = Etcd { lab: Cluster::dark(members, 0) };
        etcd.lab.boards.iter().for_each(|board| etcd.spawn(board));
        etcd.wait_leader();
        etcd
    }

    /// Starts, or starts again, the member on a board.
    pub(crate) fn spawn(&self, board: &Board) {
        let url = |ip, port| format!("http://{ip}:{port}");
        let peers = self.lab.boards.iter().map(|b| format!("{}={}", b.name, url(b.ip, 2380)));
        let (client, peer) = (url(board.ip, 2379), url(board.ip, 2380));
        let mut command = board.inside("etcd");
        command.arg("--name").arg(&board.name).arg("--data-dir").arg(board.dir.join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers.collect::<Vec<_>>().join(",")]);
        command.args(["--initial-cluster-state", "new", "--log-level", "error"]);
        board.run(command);
    }

    /// A client per member, as patient as edged's.
    pub(crate) fn clients(&self) -> Vec<Client> {
        let patience = Patience {
            connect: Duration::from_millis(700),
            answer: Duration::from_secs(3),
            attempts: 1,
            rounds: 1,
        };
        let one = |board: &Board| {
            let servers = vec![format!("http://{}:2379", board.ip)];
            let config = edge_client::Config { servers, ..edge_client::Config::default() };
            Client::with_patience(config, patience).expect("a client")
        };
        self.lab.boards.iter().map(one).collect()
    }

    pub(crate) fn target(&self) -> Target {
        Target::Etcd(self.clients())
    }

    /// Each member's id and the leader's, as it sees them.
    fn status(&self) -> Vec<Option<(String, String)>> {
        let clients = self.clients();
        self.lab.person.within(|| {
            runtime().block_on(async {
                let mut found = Vec::new();
                for client in clients {
                    let call = Call::new(http::Method::POST, "/v3/maintenance/status");
                    let answer = client.call(&call.json(&json!({}))).await;
                    found.push(answer.ok().and_then(|answer| {
                        let id = answer.object["header"]["member_id"].as_str()?.to_owned();
                        let leader = answer.object["leader"].as_str().filter(|id| *id != "0")?;
                        Some((id, leader.to_owned()))
                    }));
                }
                found
            })
        })
    }

    /// Waits until all members name one leader; gives its place.
    pub(crate) fn wait_leader(&self) -> usize {
        until("etcd has a leader", || {
            let status = self.status();
            let leader = status.first().cloned().flatten().map(|(_, leader)| leader);
            let agreed = status.iter().all(|s| s.as_ref().map(|(_, l)| l) == leader.as_ref());
            let place = status.iter().flatten().position(|(id, _)| Some(id) == leader.as_ref());
            place.filter(|_| agreed).ok_or_else(|| format!("{status:?}"))
        })
    }

    /// Asks the leader to hand over to another member.
    pub(crate) fn transfer(&self, from: usize, to: usize) {
        let id = self.status()[to].clone().expect("the member answers").0;
        let clients = self.clients();
        let call = Call::new(http::Method::POST, "/v3/maintenance/transfer-leadership");
        let call = call.json(&json!({"targetID": id}));
        let answer = self
            .lab
            .person
            .within(|| runtime().block_on(async { clients[from].call(&call).await.map(|_| ()) }));
        answer.expect("etcd hands over");
    }
}
