//! The ways from this board to others: its sessions with brokers, and its place at its own. A
//! server is reached through its own broker; when there is no session with that, through another
//! at which it is believed to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::broker::{Hub, Identity};
use crate::outbox::Outbox;
use crate::packet::{MAX_PACKET, Manner, Message};
use crate::presence::Presence;
use crate::session::{Refused, Session};

/// The board's place at the broker in its own process: no TLS, no packets.
pub(crate) struct Local {
    pub(crate) hub: Arc<Hub>,
    identity: Identity,
    filters: Vec<(String, u8)>,
    place: Mutex<Option<(u64, Arc<Outbox>)>>,
}

impl Local {
    pub(crate) fn new(hub: Arc<Hub>, server: &str, filters: Vec<(String, u8)>) -> Local {
        let identity = Identity::Server(server.to_owned());
        Local { hub, identity, filters, place: Mutex::new(None) }
    }

    /// Enters the broker, or enters it again.
    pub(crate) fn enter(&self) -> Option<Arc<Outbox>> {
        let id = self.identity.common_name();
        let entered = self.hub.enter(&self.identity, &id, (u16::MAX, MAX_PACKET), None);
        let (number, _, outbox) = entered.ok().flatten()?;
        for (filter, qos) in &self.filters {
            let wish = crate::broker::Wish {
                qos1: *qos > 0,
                no_local: false,
                as_published: false,
                retained: 0,
            };
            let kept = self.hub.subscribe(number, filter, wish).unwrap_or_default();
            for message in kept {
                outbox.put(&message, Manner { qos1: false, retain: true });
            }
        }
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some((number, outbox.clone()));
        Some(outbox)
    }

    pub(crate) fn leave(&self) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((number, _)) = place {
            self.hub.leave(number, true);
        }
    }

    fn publish(&self, topic: &str, payload: Bytes, retain: bool) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let number = place.as_ref().map(|(number, _)| *number);
        drop(place);
        let bytes = Bytes::copy_from_slice(topic.as_bytes());
        let message = Message { topic: bytes, payload, properties: None };
        self.hub.publish(number, topic, message, Manner { qos1: false, retain });
    }
}

/// One way.
#[derive(Clone)]
pub(crate) enum Path {
    Local(Arc<Local>),
    Remote(Arc<Session>),
}

impl Path {
    /// The number of the connection that it is.
    pub(crate) fn connection(&self) -> u32 {
        match self {
            Path::Local(_) => 0,
            Path::Remote(session) => session.connection(),
        }
    }

    pub(crate) fn publish(&self, topic: &str, payload: Bytes, retain: bool) -> Result<(), Refused> {
        match self {
            Path::Local(local) => {
                local.publish(topic, payload, retain);
                Ok(())
            }
            Path::Remote(session) => session.publish(topic, payload, 0, retain),
        }
    }
}

/// All ways of this board.
#[derive(Default)]
pub(crate) struct Paths {
    /// The broker in this process.
    pub(crate) own: Option<Arc<Local>>,
    /// Sessions by the broker's name; one of any name if brokers are alternatives.
    pub(crate) sessions: BTreeMap<String, Arc<Session>>,
}

impl Paths {
    /// The way to server `to`.
    pub(crate) fn to(&self, to: &str, presence: &Presence) -> Option<Path> {
        let remote = |session: &Arc<Session>| Path::Remote(session.clone());
        if let Some(session) = self.sessions.get(to).filter(|s| s.is_up()) {
            return Some(remote(session));
        }
        if let Some(own) = &self.own
            && own.hub.has(&Identity::Server(to.to_owned()).common_name())
        {
            return Some(Path::Local(own.clone()));
        }
        let up = || self.sessions.iter().filter(|(_, session)| session.is_up());
        let there = up().find(|(broker, _)| !presence.lost_by(to, broker));
        there.or_else(|| up().next()).map(|(_, session)| remote(session))
    }

    /// The way to this broker.
    pub(crate) fn at(&self, broker: &str, me: &str) -> Option<Path> {
        match &self.own {
            Some(own) if broker == me => Some(Path::Local(own.clone())),
            _ => self.sessions.get(broker).map(|session| Path::Remote(session.clone())),
        }
    }

    /// Every way there is.
    pub(crate) fn all(&self) -> Vec<Path> {
        let own = self.own.iter().map(|own| Path::Local(own.clone()));
        let up = self.sessions.values().filter(|s| s.is_up());
        own.chain(up.map(|s| Path::Remote(s.clone()))).collect()
    }

    /// The ways over which all servers are reached: the own broker if they all are at it, else
    /// every way.
    pub(crate) fn to_servers(&self) -> Vec<Path> {
        if let Some(own) = &self.own {
            let there = |name: &String| own.hub.has(&Identity::Server(name.clone()).common_name());
            if self.sessions.keys().all(there) {
                return vec![Path::Local(own.clone())];
            }
        }
        self.all()
    }
}
