//! Local ports, and who comes to them.

use super::ports::Pair;
use crate::fault::Fault;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Pause after the system could not accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who has come.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) local: u16,
    pub(super) remote: u16,
}

/// Where to listen: each of the addresses must be had, and one of those of `localhost`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    fixed: Vec<IpAddr>,
    either: Vec<IpAddr>,
}

/// Reads `--address`.
pub(super) fn addresses(words: &[String]) -> Result<Addresses, Fault> {
    let mut found = Addresses { fixed: Vec::new(), either: Vec::new() };
    for word in words {
        match word.trim() {
            "localhost" => {
                found.either = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            }
            word => {
                let ip = word.trim_matches(['[', ']']).parse();
                let ip = ip.map_err(|_| Fault::text(format!("{word} is not a valid IP")))?;
                if !found.fixed.contains(&ip) {
                    found.fixed.push(ip);
                }
            }
        }
    }
    found.either.retain(|ip| !found.fixed.contains(ip));
    Ok(found)
}

/// Listens for a pair on all addresses; what could not be had is told, if it matters.
pub(super) async fn on(pair: Pair, addresses: &Addresses) -> (Vec<TcpListener>, Option<String>) {
    let mut sockets: Vec<TcpListener> = Vec::new();
    let mut local = pair.local;
    let mut failures = Vec::new();
    let mut either_failed = 0;
    for (ip, either) in addresses
        .either
        .iter()
        .map(|ip| (*ip, true))
        .chain(addresses.fixed.iter().map(|ip| (*ip, false)))
    {
        let at = SocketAddr::new(ip, local);
        match TcpListener::bind(at).await {
            Ok(socket) => {
                // All addresses have the same port, also one that was free by chance.
                local = socket.local_addr().map_or(local, |at| at.port());
                sockets.push(socket);
            }
            Err(error) => {
                either_failed += usize::from(either);
                let version = if ip.is_ipv4() { 4 } else { 6 };
                let words = words(&error);
                let text = format!("Error listen tcp{version} {at}: bind: {words}");
                failures.push((either, format!("unable to create listener: {text}")));
            }
        }
    }
    let all_failed = either_failed == addresses.either.len();
    if !all_failed {
        failures.retain(|(either, _)| !either);
    }
    if failures.is_empty() {
        return (sockets, None);
    }
    let list: Vec<String> = failures.into_iter().map(|(_, text)| text).collect();
    let list = list.join(" ");
    let text = format!("Listeners failed to create with the following errors: [{list}]");
    (sockets, Some(text))
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}

/// Accepts until nobody wants to hear of it.
pub(super) async fn accept(listener: TcpListener, remote: u16, arrived: mpsc::Sender<Arrival>) {
    let local = listener.local_addr().map_or(0, |at| at.port());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                if arrived.send(Arrival { stream, local, remote }).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_free_port_is_the_same_on_all_addresses() {
        let both = addresses(&["localhost".to_owned()]).unwrap();
        let (first, failure) = on(Pair { local: 0, remote: 80 }, &both).await;
        assert_eq!(failure, None);
        let port = first[0].local_addr().unwrap().port();
        assert!(first.iter().all(|socket| socket.local_addr().unwrap().port() == port));
        let taken = addresses(&["127.0.0.1".to_owned()]).unwrap();
        let (none, failure) = on(Pair { local: port, remote: 80 }, &taken).await;
        assert!(none.is_empty());
        assert_eq!(
            failure.unwrap(),
            format!(
                "Listeners failed to create with the following errors: [unable to create \
                 listener: Error listen tcp4 127.0.0.1:{port}: bind: address already in use]"
            )
        );
    }

    #[test]
    fn addresses_are_addresses() {
        let fault = addresses(&["nowhere".to_owned()]).unwrap_err();
        assert_eq!(fault.to_string(), "error: nowhere is not a valid IP");
        let words = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let found = addresses(&words).unwrap();
        assert_eq!((found.either.len(), found.fixed.len()), (0, 2));
    }
}
