//! The bus between boards: MQTT 5 sessions over mutual TLS, the broker that every server board
//! runs, and sealed messages on them. Safety never depends on it: the bus may lose, repeat,
//! delay and reorder.

mod bus;
mod config;
mod counters;
mod keys;
mod url;

pub use bus::{Bus, Incoming};
pub use config::{BrokerAddress, Config, Me, Role, StartError, TlsPair};
pub use counters::{BrokerCounters, Counters, Drops};
pub use keys::{BeatKeys, Keys, derive};
pub use url::{BrokerUrlError, ExternalBroker, parse_broker};
