//! Probes and lifecycle hooks: asks a container how it is, over HTTP, TCP or by a command in it.
//! Requests go out from the board, to the pod's own address.

mod exec;
mod http;
mod tcp;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use edge_api::k8s::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use edge_api::k8s::apimachinery::pkg::util::intstr::IntOrString;

use crate::runtime::Runtime;

/// `timeoutSeconds` when the probe says nothing.
const DEFAULT_TIMEOUT_S: i32 = 1;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The container is well.
    Success,
    /// It is not, and says why.
    Failure(String),
    /// The probe itself could not be made; it counts for nothing.
    Unknown(String),
}

/// Whom a probe asks.
pub struct Target<'a> {
    /// Runs commands.
    pub runtime: &'a Runtime,
    /// The container's id.
    pub id: &'a str,
    /// The container's spec, for its named ports.
    pub container: &'a Container,
    /// The pod's address.
    pub ip: Option<IpAddr>,
}

/// The one thing to do of a probe or hook.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// Run a command.
    Exec(&'a ExecAction),
    /// Get a page.
    Http(&'a HTTPGetAction),
    /// Connect.
    Tcp(&'a TCPSocketAction),
    /// Ask by gRPC.
    Grpc(&'a GRPCAction),
}

/// What a probe does; `None` when it says nothing.
pub fn ask_of(probe: &Probe) -> Option<Ask<'_>> {
    let exec = probe.exec.as_ref().map(Ask::Exec);
    let http = probe.http_get.as_ref().map(Ask::Http);
    let tcp = probe.tcp_socket.as_ref().map(Ask::Tcp);
    exec.or(http).or(tcp).or(probe.grpc.as_ref().map(Ask::Grpc))
}

/// The time that a probe gets.
pub fn timeout_of(probe: &Probe) -> Duration {
    let seconds = probe.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_S).max(1);
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}

/// Asks once.
pub async fn ask(target: &Target<'_>, ask: Ask<'_>, timeout: Duration) -> Outcome {
    match ask {
        Ask::Exec(action) => exec::ask(target, action, timeout).await,
        Ask::Http(action) => match http::address(target, action) {
            Ok(page) => http::ask(&page, timeout).await,
            Err(message) => Outcome::Unknown(message),
        },
        Ask::Tcp(action) => match tcp::address(target, action) {
            Ok(address) => tcp::ask(&address, timeout).await,
            Err(message) => Outcome::Unknown(message),
        },
        Ask::Grpc(_) => Outcome::Unknown(
            "gRPC probes are not supported on this board; use httpGet, tcpSocket or exec".into(),
        ),
    }
}

/// A port by number or by the name that the container gave it.
fn port(target: &Target<'_>, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let ports = target.container.ports.iter().flatten();
            let named = ports.into_iter().find(|p| p.name.as_deref() == Some(name));
            match named {
                Some(found) => i64::from(found.container_port),
                None => name.parse().map_err(|_| format!("couldn't find port \"{name}\""))?,
            }
        }
    };
    let valid = u16::try_from(number).ok().filter(|port| *port > 0);
    valid.ok_or_else(|| format!("invalid port number: {number}"))
}

/// Where to connect: the host that the probe names, else the pod.
fn host(target: &Target<'_>, named: Option<&str>) -> Result<String, String> {
    match named.filter(|host| !host.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => match target.ip {
            Some(ip) => Ok(ip.to_string()),
            None => Err("the pod has no address".into()),
        },
    }
}

/// `host:port`, with brackets for IPv6.
fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Runs a lifecycle hook. `sleep` sleeps; the rest is asked as a probe would.
pub async fn hook(
    target: &Target<'_>,
    handler: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    let wanted = if let Some(exec) = &handler.exec {
        Ask::Exec(exec)
    } else if let Some(http) = &handler.http_get {
        Ask::Http(http)
    } else if let Some(tcp) = &handler.tcp_socket {
        Ask::Tcp(tcp)
    } else if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(time.min(limit)).await;
        return Ok(());
    } else {
        return Err("the hook says nothing to do".into());
    };
    match ask(target, wanted, limit).await {
        Outcome::Success => Ok(()),
        Outcome::Failure(message) | Outcome::Unknown(message) => Err(message),
    }
}
