//! The bus over real TLS: the broker and its clients, our clients with Mosquitto's broker, its
//! clients with ours, and boards that speak over several brokers while those come and go.

mod attacks;
mod boards;
mod bounds;
mod broker;
mod client;
mod copies;
mod external;
mod mosquitto;
mod pki;
mod rules;
mod silence;

use std::net::SocketAddr;

use edge_bus::broker::Broker;

pub(crate) use client::{CLUSTER, Client, PATIENCE, Wishes, embedded, topic, until, wish};
pub(crate) use pki::{Files, Pki, fixed};

/// A broker of server `b` on a port of its own.
pub(crate) async fn broker(pki: &Pki) -> Broker {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Broker::start(CLUSTER, listen, fixed(pki.server("b"))).await.unwrap()
}
