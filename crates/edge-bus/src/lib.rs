//! The bus between boards: MQTT 5 sessions over mutual TLS, the broker that every server board
//! runs, and sealed messages on them. Safety never depends on it: the bus may lose, repeat,
//! delay and reorder.

mod backoff;
pub mod broker;
mod bus;
mod config;
mod counters;
mod dial;
mod enter;
mod fragments;
mod keys;
mod link;
mod opener;
mod outbox;
mod packet;
mod paths;
mod presence;
mod random;
mod receiver;
mod seal;
pub mod session;
mod sessions;
mod topics;
mod twin;
mod url;
mod window;

pub use bus::{Bus, Incoming};
pub use config::{BrokerAddress, Config, Me, Role, StartError, TlsPair};
pub use counters::{BrokerCounters, Counters, Drops};
pub use dial::Target;
pub use keys::{BeatKeys, Keys, derive};
pub use packet::MAX_PACKET;
pub use twin::twin;
pub use url::{BrokerUrlError, ExternalBroker, parse_broker};
