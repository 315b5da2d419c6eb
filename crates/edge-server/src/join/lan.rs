//! Finding servers on the LAN without knowing an address: servers answer on multicast DNS, boards
//! ask there. What answers is only a place to ask at; the token decides whether it is believed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::dns::{self, Announced, PACKET_BYTES};

/// Group and port of multicast DNS (RFC 6762).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// How long answers are waited for.
const WAIT: Duration = Duration::from_secs(1);
/// Servers that one question finds at most.
const FOUND: usize = 64;
/// Pause after the socket failed, as it does while there is no network.
const AGAIN: Duration = Duration::from_secs(10);

/// Looks for servers, and says of each once what it found, and again when that changed.
#[derive(Debug, Default)]
pub struct Finder {
    /// The cluster and the place that each name was last found with.
    said: BTreeMap<String, (String, SocketAddrV4)>,
}

impl Finder {
    /// Asks once; gives the URLs of the servers that answered within a second.
    ///
    /// # Errors
    /// When no question can be sent.
    pub async fn find(&mut self, own: IpAddr) -> std::io::Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        for server in ask(own).await? {
            let Announced { name, cluster, api } = &server;
            if self.is_news(&server) {
                tracing::info!("found the server {name} of cluster {cluster} at {api}");
            }
            let url = format!("https://{api}");
            if !found.contains(&url) {
                found.push(url);
            }
        }
        Ok(found)
    }

    /// Whether a server was not found before, or elsewhere.
    fn is_news(&mut self, server: &Announced) -> bool {
        let Announced { name, cluster, api } = server;
        let now = (cluster.clone(), *api);
        if self.said.get(name) == Some(&now) {
            return false;
        }
        // Anybody may answer with any name.
        if self.said.len() >= FOUND && !self.said.contains_key(name) {
            self.said.clear();
        }
        self.said.insert(name.clone(), now);
        true
    }
}

/// The servers that answer within a second.
async fn ask(own: IpAddr) -> std::io::Result<Vec<Announced>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    if let IpAddr::V4(own) = own {
        socket2::SockRef::from(&socket).set_multicast_if_v4(&own)?;
    }
    socket.send_to(&dns::question(), (GROUP, PORT)).await?;
    let mut found: Vec<Announced> = Vec::new();
    let listen = async {
        let mut packet = [0; PACKET_BYTES];
        while found.len() < FOUND {
            let Ok((length, _)) = socket.recv_from(&mut packet).await else { return };
            for server in dns::servers(&packet[..length]).unwrap_or_default() {
                if !found.contains(&server) {
                    found.push(server);
                }
            }
        }
    };
    // The end of the wait is the usual end.
    let _ = timeout(WAIT, listen).await;
    Ok(found)
}

/// Answers those who look for servers, until dropped. `api` is where this server's API is reached.
pub(crate) async fn announce(name: String, cluster: String, api: SocketAddr) {
    let SocketAddr::V4(api) = api else { return };
    let server = Announced { name, cluster, api };
    loop {
        if let Err(error) = respond(&server).await {
            tracing::debug!("announce this server on the LAN: {error}");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn respond(server: &Announced) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The board may have a responder of its own, which shares the port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.join_multicast_v4(&GROUP, server.api.ip())?;
    socket.set_multicast_if_v4(server.api.ip())?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let mut packet = [0; PACKET_BYTES];
    loop {
        let (length, from) = socket.recv_from(&mut packet).await?;
        let Some(id) = dns::asks(&packet[..length]) else { continue };
        // Who asks from another port is no responder and wants the answer for itself.
        let to = if from.port() == PORT { SocketAddr::from((GROUP, PORT)) } else { from };
        socket.send_to(&dns::answer(id, server), to).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_found_over_loopback_or_not_at_all() {
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, 7443));
        let answering = tokio::spawn(announce("here".into(), "0".repeat(16), api));
        // The responder needs a moment to take its port, and loopback may have no multicast.
        for _ in 0..3 {
            match Finder::default().find(IpAddr::V4(Ipv4Addr::LOCALHOST)).await {
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    assert!(found.contains(&"https://127.0.0.1:7443".to_owned()), "{found:?}");
                    break;
                }
                Err(_) => break,
            }
        }
        answering.abort();
    }

    #[test]
    fn what_was_found_is_said_once_and_again_when_it_changed() {
        let server = |name: &str, cluster: &str, port| Announced {
            name: name.to_owned(),
            cluster: cluster.to_owned(),
            api: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
        };
        let mut finder = Finder::default();
        for (found, news) in [
            (server("s1", "a", 1), true),
            (server("s2", "a", 2), true),
            (server("s1", "a", 1), false),
            (server("s2", "a", 3), true),
            (server("s1", "b", 1), true),
            (server("s2", "a", 3), false),
        ] {
            assert_eq!(finder.is_news(&found), news, "{found:?}");
        }
        // Whoever makes up names fills nothing.
        for n in 0..1000 {
            finder.is_news(&server(&format!("x{n}"), "a", 1));
            assert!(finder.said.len() <= FOUND);
        }
    }
}
