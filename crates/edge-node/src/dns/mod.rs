//! The board's DNS server: on the cluster's DNS address, which every board has on its own bridge,
//! so that pods and the board itself are answered here, whoever leads. Names of the cluster come
//! from the board's copy of Services and EndpointSlices; all others are asked for at the board's
//! own servers, and remembered for as long as their owners allow.

mod cache;
mod forward;
mod places;
mod serve;
mod talk;
#[cfg(test)]
mod tests;
mod upstreams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use edge_client::watcher::Event;
use edge_core::dns::{
    Names, Outcome, Query, Reply, Zone, answer, code, encode, parse, records, serve as pass_on,
};
use tokio::net::{TcpListener, UdpSocket};

pub use upstreams::Files;

use forward::Forwarder;

/// The port of DNS.
pub const PORT: u16 = 53;
/// Bytes of a message over TCP at most.
const TCP_BYTES: usize = 65_535;
/// Whoever has the port may give it up: so often we try.
const RETRY: Duration = Duration::from_secs(5);

/// How a board's server is set up.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// What it answers for.
    pub zone: Zone,
    /// Where it listens, on UDP and TCP.
    pub listen: SocketAddr,
    /// The range of this board's pods: who may ask, besides the board.
    pub pods: (Ipv4Addr, u8),
    /// The board's own addresses, besides loopback and the server's.
    pub own: Vec<IpAddr>,
    /// Where the board says whom it asks.
    pub files: Files,
}

/// The names of the cluster, as the board's agent learns them.
#[derive(Debug, Default)]
pub struct Table {
    names: Names,
    services: bool,
    slices: bool,
}

impl Table {
    /// Something about Services.
    pub fn services(&mut self, event: &Event) {
        match event {
            Event::Restarted(all) => {
                self.names.restart_services(all);
                self.services = true;
            }
            Event::Applied(object) => self.names.put_service(object),
            Event::Deleted(object) => self.names.remove_service(object),
        }
    }

    /// Something about EndpointSlices.
    pub fn slices(&mut self, event: &Event) {
        match event {
            Event::Restarted(all) => {
                self.names.restart_slices(all);
                self.slices = true;
            }
            Event::Applied(object) => self.names.put_slice(object),
            Event::Deleted(object) => self.names.remove_slice(object),
        }
    }

    fn known(&self) -> Option<&Names> {
        (self.services && self.slices).then_some(&self.names)
    }
}

/// The names, shared between who learns them and who tells them.
pub type SharedTable = Arc<RwLock<Table>>;

/// A board's server.
pub struct Dns {
    config: DnsConfig,
    table: SharedTable,
    forwarder: Forwarder,
    turn: AtomicUsize,
}

/// What is to be sent back.
enum Step {
    /// This, or nothing.
    Send(Option<Vec<u8>>),
    /// What others say to this question.
    Ask(Box<Query>, Outcome),
}

impl Dns {
    /// A server that answers out of this table.
    pub fn new(config: DnsConfig, table: SharedTable) -> Arc<Dns> {
        let forwarder = Forwarder::new(config.files.clone(), &config.zone);
        Arc::new(Dns { config, table, forwarder, turn: AtomicUsize::new(0) })
    }

    /// Answers for ever. While the address can't be had, it is tried again.
    pub async fn run(self: Arc<Dns>) {
        let listen = self.config.listen;
        let mut told = false;
        loop {
            match bind(listen).await {
                Ok((udp, tcp)) => {
                    tracing::info!("DNS for this board's pods at {listen}");
                    told = false;
                    let (dns, udp) = (self.clone(), Arc::new(udp));
                    tokio::select! {
                        () = serve::udp(dns.clone(), udp) => {}
                        () = serve::tcp(dns, tcp) => {}
                    }
                }
                Err(error) if !told => {
                    tracing::warn!(
                        "DNS at {listen}: {error}; pods on this board find no names until the \
                         address is free: a server that listens on all addresses must be told \
                         which ones are its own"
                    );
                    told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether somebody may ask at all: nobody but this board and its pods.
    fn serves(&self, who: IpAddr) -> bool {
        let IpAddr::V4(ip) = who else { return who.is_loopback() };
        let (base, length) = self.config.pods;
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        ip.is_loopback()
            || u32::from(ip) & mask == u32::from(base)
            || who == self.config.listen.ip()
            || self.config.own.contains(&who)
    }

    /// Reads a message and answers it from what is at hand; `limit` is for UDP what the asker
    /// takes, and for TCP none.
    fn step(&self, packet: &[u8], udp: bool) -> Step {
        let query = match parse(packet) {
            Ok(query) => query,
            Err(reply) => return Step::Send(reply),
        };
        let limit = limit(&query, udp);
        if self.forwarder.is_own_probe(&query) {
            return Step::Send(None);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let outcome = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            answer(table.known(), &self.config.zone, &query, turn)
        };
        match outcome {
            Outcome::Reply(reply) => Step::Send(Some(encode(&query, &reply, limit))),
            Outcome::Forward => match self.forwarder.remembered(&query, &query.name) {
                Some((heard, age)) => Step::Send(Some(pass_on(&heard, &query, age, limit))),
                None => Step::Ask(Box::new(query), Outcome::Forward),
            },
            follow @ Outcome::Follow { .. } => Step::Ask(Box::new(query), follow),
        }
    }

    /// Asks others, and answers with what they say.
    async fn ask(&self, query: &Query, outcome: Outcome, udp: bool) -> Vec<u8> {
        let limit = limit(query, udp);
        let failed = Reply { code: code::FAILURE, ..Reply::default() };
        match outcome {
            Outcome::Follow { first, target } => {
                let heard = self.forwarder.lookup(query, &target).await;
                let Some((heard, age)) = heard.filter(|(heard, _)| heard.code <= code::NO_NAME)
                else {
                    return encode(query, &failed, limit);
                };
                let mut answers = first;
                answers.extend(records(&heard, age));
                encode(query, &Reply { code: heard.code, answers, ..Reply::default() }, limit)
            }
            _ => match self.forwarder.lookup(query, &query.name).await {
                Some((heard, age)) => pass_on(&heard, query, age, limit),
                None => encode(query, &failed, limit),
            },
        }
    }
}

fn limit(query: &Query, udp: bool) -> usize {
    if udp { query.udp_limit() } else { TCP_BYTES }
}

async fn bind(listen: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let tcp = TcpListener::bind(listen).await?;
    let udp = UdpSocket::bind(tcp.local_addr()?).await?;
    Ok((udp, tcp))
}
