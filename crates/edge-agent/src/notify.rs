//! Readiness as systemd wants to hear it (`sd_notify(3)`): one datagram to the socket it named.

use std::os::unix::net::UnixDatagram;

/// Tells the service manager `state`, such as `READY=1`; nothing when none listens.
pub(crate) fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy();
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let sent = match path.strip_prefix('@') {
        Some(name) => {
            abstract_address(name).and_then(|a| socket.send_to_addr(state.as_bytes(), &a))
        }
        None => socket.send_to(state.as_bytes(), &*path),
    };
    if let Err(error) = sent {
        tracing::warn!("notify the service manager at {path}: {error}");
    }
}

fn abstract_address(name: &str) -> std::io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())
}
