//! The servers of a cluster as joining sees them. Whoever ties server and store together implements
//! [`Membership`] on the store's members; a server by itself has [`Lone`].

use super::words::ServerInfo;
use edge_core::controllers::load_balancer::LanPool;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// Why the servers of a cluster cannot be changed as asked; one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipError {
    /// The cluster cannot have more than one server.
    Lone,
    /// No server has this name.
    Unknown(String),
    /// It cannot be done now; trying again may help.
    Busy(String),
    /// It cannot be done.
    Refused(String),
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipError::Lone => write!(
                f,
                "this cluster has one server whose state is not replicated: no other can join it \
                 as a server; join as an agent (`edged agent`)"
            ),
            MembershipError::Unknown(name) => write!(f, "no server is called {name:?}"),
            MembershipError::Busy(why) | MembershipError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for MembershipError {}

/// The outcome of a change, when it is known.
pub type Changing<'a> = BoxFuture<'a, Result<(), MembershipError>>;

/// Reads and changes which servers a cluster has. Changes are for the leader.
pub trait Membership: Send + Sync {
    /// All servers as this one knows them.
    fn list(&self) -> Vec<ServerInfo>;
    /// Why no server can be added at all, if that is so.
    fn closed(&self) -> Option<MembershipError>;
    /// Adds a server, which votes once it has caught up. Adding one that is there already, with
    /// the same id, brings its addresses up to date.
    fn add(&self, server: ServerInfo) -> Changing<'_>;
    /// Tells the addresses that a server has now.
    fn update(&self, server: ServerInfo) -> Changing<'_>;
    /// Takes a server out, by its name.
    fn remove(&self, name: &str) -> Changing<'_>;
    /// Hands the lead to the server of this name, or to any other. One that leads keeps it.
    fn transfer(&self, to: Option<&str>) -> Changing<'_>;
}

/// A server by itself.
pub(crate) struct Lone(pub(crate) ServerInfo);

impl Membership for Lone {
    fn list(&self) -> Vec<ServerInfo> {
        vec![self.0.clone()]
    }

    fn closed(&self) -> Option<MembershipError> {
        Some(MembershipError::Lone)
    }

    fn add(&self, _: ServerInfo) -> Changing<'_> {
        Box::pin(async { Err(MembershipError::Lone) })
    }

    fn update(&self, _: ServerInfo) -> Changing<'_> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, name: &str) -> Changing<'_> {
        let outcome = match name == self.0.name {
            true => MembershipError::Refused(format!(
                "{name} is the only server of this cluster: without it there is no cluster"
            )),
            false => MembershipError::Unknown(name.to_owned()),
        };
        Box::pin(async { Err(outcome) })
    }

    fn transfer(&self, _: Option<&str>) -> Changing<'_> {
        let why = "there is no other server to hand the lead to".to_owned();
        Box::pin(async { Err(MembershipError::Refused(why)) })
    }
}

/// Makes the key for one use, which a label names, out of the cluster's secret.
pub type Derive = fn(&[u8; 32], &str) -> [u8; 32];

/// What a server is given from outside to take part in a cluster; the default is a cluster of one.
#[derive(Clone)]
pub struct Cluster {
    /// The cluster's time.
    pub clock: edge_core::clock::ClusterClock,
    /// The servers; `None` for a server by itself.
    pub membership: Option<Arc<dyn Membership>>,
    /// Derives the bus's keys from the cluster's secret, as the bus does; `None` without a bus.
    pub derive: Option<Derive>,
    /// The port of the embedded broker, as other boards are told of it.
    pub broker_port: u16,
    /// URLs of the user's own brokers, for boards that join; none when the servers' are used.
    pub brokers: Vec<String>,
    /// Addresses of the LAN that Services may have.
    pub lan_pool: LanPool,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            clock: edge_core::clock::ClusterClock::new(0, crate::clock::read),
            membership: None,
            derive: None,
            broker_port: 8883,
            brokers: Vec::new(),
            lan_pool: LanPool::default(),
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("clock", &self.clock)
            .field("lone", &self.membership.is_none())
            .finish_non_exhaustive()
    }
}
