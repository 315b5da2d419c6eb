//! Questions put from a sandbox or from the board itself: connections, datagrams of a given size
//! that nobody may split, names. Each is put again until its time is over, since what was made for
//! a check a moment ago reaches boards a moment later.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_api::status::Status;
use edge_core::dns::{CLASS_IN, Data, Name, Query, ask, kind, listen, records};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

use super::PREFIX;
use crate::agent::Board;
use crate::net::within;
use crate::serve::reply::{self, Reply};

/// The largest request.
const BODY: usize = 1 << 20;
/// Questions in one request, and under way at once.
const PROBES: usize = 4096;
const AT_ONCE: usize = 32;
/// Pause before a question is put again.
const AGAIN: Duration = Duration::from_millis(150);
/// How long one try may take; a lost packet is sent again after a second.
const TRY: Duration = Duration::from_millis(1200);
/// The longest that a question may take.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const ANSWER: usize = 512;

#[derive(Debug, Deserialize)]
struct Asked {
    /// From which sandbox; from the board itself without one.
    sandbox: Option<String>,
    probes: Vec<Probe>,
}

/// A question.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Probe {
    /// Connect; with `answer`, read who answers.
    Tcp { to: SocketAddrV4, answer: bool, timeout_ms: u64 },
    /// Send a datagram of so many bytes of payload, whole or not at all.
    Udp { to: SocketAddrV4, bytes: usize, timeout_ms: u64 },
    /// Ask for the addresses of a name, until they are those that are wanted, if any are.
    Dns { to: SocketAddrV4, name: String, want: BTreeSet<Ipv4Addr>, timeout_ms: u64 },
}

/// Where questions are put from.
type From = Option<PathBuf>;

/// Puts all questions of a request.
pub(super) async fn all(board: &Arc<Board>, body: Incoming) -> Result<Reply, Status> {
    let body = Limited::new(body, BODY).collect().await;
    let body = body.map_err(|error| Status::bad_request(format!("read the request: {error}")))?;
    let asked: Asked = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Status::bad_request(format!("not a list of probes: {error}")))?;
    if asked.probes.len() > PROBES {
        return Err(Status::bad_request(format!("at most {PROBES} probes at once")));
    }
    let from: From = match asked.sandbox {
        None => None,
        Some(uid) if uid.starts_with(PREFIX) => {
            let network = board.net.find_pod(&uid);
            let text = "that sandbox is not on this board any more";
            network.ok_or_else(|| Status::bad_request(text))?.namespaces.net
        }
        Some(_) => return Err(Status::bad_request("not a sandbox")),
    };
    let probes = asked.probes.into_iter();
    let answers = probes.map(move |probe| {
        let from = from.clone();
        async move { answer(&from, &probe).await }
    });
    let answers: BoxStream<'_, Value> = stream::iter(answers).buffered(AT_ONCE).boxed();
    let results: Vec<Value> = answers.collect().await;
    Ok(reply::json(200, &json!({ "results": results })))
}

/// Why a question was not answered.
struct Failure {
    /// For programs: `refused`, `timeout`, `noRoute`, `tooLarge`, `reset`, `dns`, `other`.
    code: &'static str,
    words: String,
}

impl Failure {
    fn new(code: &'static str, words: impl Into<String>) -> Failure {
        Failure { code, words: words.into() }
    }
}

impl std::convert::From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        use io::ErrorKind as Kind;
        let code = match error.kind() {
            Kind::ConnectionRefused => "refused",
            Kind::TimedOut => "timeout",
            Kind::HostUnreachable | Kind::NetworkUnreachable => "noRoute",
            Kind::ConnectionReset => "reset",
            _ if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => "tooLarge",
            _ => "other",
        };
        Failure::new(code, error.to_string())
    }
}

/// Puts one question until it is answered or its time is over; tells about the last try.
async fn answer(from: &From, probe: &Probe) -> Value {
    let limit = match probe {
        Probe::Tcp { timeout_ms, .. }
        | Probe::Udp { timeout_ms, .. }
        | Probe::Dns { timeout_ms, .. } => Duration::from_millis(*timeout_ms).min(LONGEST),
    };
    let began = Instant::now();
    let end = began + limit;
    loop {
        let tried = Instant::now();
        let left = end.saturating_duration_since(tried);
        let late = |_| Failure::new("timeout", "no answer in time");
        let done = timeout(left.min(TRY), once(from, probe)).await.map_err(late);
        let failure = match done {
            Ok(Ok(mut value)) => {
                if !value["wrong"].is_null() && Instant::now() + AGAIN < end {
                    sleep(AGAIN).await;
                    continue;
                }
                let ms = tried.elapsed().as_micros() as f64 / 1000.0;
                value["ok"] = json!(true);
                value["ms"] = json!(ms);
                return value;
            }
            Ok(Err(failure)) | Err(failure) => failure,
        };
        if Instant::now() + AGAIN >= end {
            return json!({ "ok": false, "code": failure.code, "error": failure.words });
        }
        sleep(AGAIN).await;
    }
}

async fn once(from: &From, probe: &Probe) -> Result<Value, Failure> {
    match probe {
        Probe::Tcp { to, answer, .. } => tcp(from, *to, *answer).await,
        Probe::Udp { to, bytes, .. } => udp(from, *to, *bytes).await,
        Probe::Dns { to, name, want, .. } => dns(from, *to, name, want).await,
    }
}

/// Who answered: the first word.
fn by(text: &[u8]) -> Value {
    let text = String::from_utf8_lossy(text);
    let mut words = text.split_whitespace();
    let who = words.next().unwrap_or_default();
    json!({ "by": who, "saw": words.next().unwrap_or_default() })
}

async fn tcp(from: &From, to: SocketAddrV4, answer: bool) -> Result<Value, Failure> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = move || -> io::Result<OwnedFd> {
        Ok(socket(AddressFamily::Inet, SockType::Stream, flags, None)?)
    };
    let fd = within(from.clone(), made).await?;
    let mut stream = TcpSocket::from_std_stream(fd.into()).connect(to.into()).await?;
    if !answer {
        return Ok(json!({}));
    }
    let mut text = Vec::with_capacity(ANSWER);
    (&mut stream).take(ANSWER as u64).read_to_end(&mut text).await?;
    match text.is_empty() {
        true => Err(Failure::new("other", "the connection ended without an answer")),
        false => Ok(by(&text)),
    }
}

/// A datagram socket that is connected, and whose datagrams travel whole.
async fn connected(from: &From, to: SocketAddrV4) -> io::Result<UdpSocket> {
    let made = move || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
        socket.connect(SocketAddr::V4(to))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    UdpSocket::from_std(within(from.clone(), made).await?)
}

async fn udp(from: &From, to: SocketAddrV4, bytes: usize) -> Result<Value, Failure> {
    let socket = connected(from, to).await?;
    let largest = |error: io::Error| {
        let mut failure = Failure::from(error);
        if failure.code == "tooLarge" {
            let mtu = sockopt::ip_mtu(&socket).unwrap_or(0);
            failure.words = format!("the way takes packets of {mtu} bytes only");
        }
        failure
    };
    socket.send(&vec![b'.'; bytes]).await.map_err(largest)?;
    let mut buffer = vec![0; ANSWER];
    let length = socket.recv(&mut buffer).await.map_err(largest)?;
    Ok(by(&buffer[..length]))
}

async fn dns(
    from: &From,
    to: SocketAddrV4,
    text: &str,
    want: &BTreeSet<Ipv4Addr>,
) -> Result<Value, Failure> {
    let name = Name::new(text).ok_or_else(|| Failure::new("other", "not a name"))?;
    let query = Query {
        id: 0,
        recursion: true,
        unchecked: false,
        name: name.clone(),
        kind: kind::A,
        class: CLASS_IN,
        edns: None,
    };
    let socket = connected(from, to).await?;
    let id = socket.local_addr()?.port();
    socket.send(&ask(id, &query, &name, false)).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(heard) = listen(&buffer[..length], id, &query, &name) else { continue };
        let found = records(&heard, 0);
        let addresses: BTreeSet<Ipv4Addr> = found
            .iter()
            .filter_map(|record| match record.data {
                Data::A(ip) => Some(ip),
                _ => None,
            })
            .collect();
        return match heard.code {
            0 | 3 if want.is_empty() || *want == addresses => {
                Ok(json!({ "rcode": heard.code, "addresses": addresses }))
            }
            0 | 3 => Ok(json!({ "wrong": true, "addresses": addresses })),
            2 => Err(Failure::new("dns", "SERVFAIL")),
            5 => Err(Failure::new("dns", "REFUSED")),
            code => Err(Failure::new("dns", format!("answer code {code}"))),
        };
    }
}
