//! The others on the same board: rules as kube-proxy's nftables mode has them, and haproxy.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::board::command::until;
use crate::lab::board::Board;
use crate::lab::cluster::Cluster;

/// An address of nobody's, as a Service's would be.
const ADDRESS: &str = "10.99.0.1";
const HAPROXY_PORT: u16 = 7102;

/// A peer's program; it ends when this is dropped.
pub(crate) struct Peer {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True for a program that this machine has; what is missing is said aloud.
pub(crate) fn has(program: &str) -> bool {
    let found = ["/usr/sbin", "/usr/bin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(program).exists());
    if !found {
        eprintln!("SKIPPED: no {program} here (tests/setup.sh bench)");
    }
    found
}

/// A map of verdicts to a chain for the Service, and from there to one for its endpoint.
pub(super) fn nft(board: &Board, to: SocketAddr) -> Option<SocketAddr> {
    if !has("nft") {
        return None;
    }
    let rules = format!(
        "table ip peer {{
          chain endpoint {{ meta l4proto tcp dnat to {to}; }}
          chain service {{ numgen random mod 1 vmap {{ 0 : goto endpoint }}; }}
          map services {{
            type ipv4_addr . inet_proto . inet_service : verdict
            elements = {{ {ADDRESS} . tcp . 80 : goto service }}
          }}
          chain prerouting {{
            type nat hook prerouting priority -90;
            ip daddr . meta l4proto . th dport vmap @services
          }}
        }}"
    );
    let mut nft = board.inside("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
    nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads");
    assert!(nft.wait().expect("nft ends").success(), "{rules}");
    Some(SocketAddr::new(ADDRESS.parse().expect("an address"), 80))
}

/// haproxy on the board, passing on connections.
pub(super) fn haproxy(cluster: &Cluster, to: SocketAddr) -> Option<Peer> {
    if !has("haproxy") {
        return None;
    }
    let board = &cluster.boards[0];
    let address = SocketAddr::new(board.ip.into(), HAPROXY_PORT);
    let text = format!(
        "global\n  maxconn 1000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client \
         60s\n  timeout server 60s\nlisten pods\n  bind {address}\n  server pod {to}\n"
    );
    let file = cluster.file("haproxy.cfg", text);
    let mut command = board.inside("haproxy");
    command.args(["-q", "-db", "-f", &file]).stdout(Stdio::null());
    let child = command.spawn().expect("haproxy starts");
    let peer = Peer { child, address };
    board.within(|| {
        until("haproxy listens", || {
            let tried = TcpStream::connect_timeout(&address, Duration::from_secs(1));
            tried.map(drop).map_err(|error| error.to_string())
        });
    });
    Some(peer)
}
