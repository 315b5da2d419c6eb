//! The middle of the broker: who is connected, who subscribed to what, and where a message goes.
//! Nothing here waits: a message is put into the receivers' queues, or dropped and counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode as Reason;

use super::access::{Access, Identity};
use super::retained::Retained;
use crate::counters::{BrokerCounters, Count};
use crate::outbox::{Outbox, Put, Shared};
use crate::packet::{Manner, Message};
use crate::topics::{is_wild, matches};

/// Clients at once.
pub(crate) const CLIENTS: usize = 512;

/// Sessions that one certificate may have at once.
const SESSIONS_EACH: usize = 16;

/// Subscriptions of one client.
const FILTERS_EACH: usize = 64;

/// Bytes in all clients' queues.
const QUEUED_BYTES: usize = 48 * 1024 * 1024;

/// What a client left to be said when it is gone.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) message: Message,
    pub(crate) qos1: bool,
    pub(crate) retain: bool,
}

/// Options of a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) qos1: bool,
    pub(crate) no_local: bool,
    pub(crate) as_published: bool,
    /// Retained messages: 0 always, 1 if the subscription is new, 2 never.
    pub(crate) retained: u8,
}

/// Why a client was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many clients in all.
    Busy,
    /// Too many with this certificate.
    Quota,
}

struct Client {
    id: String,
    identity: Identity,
    outbox: Arc<Outbox>,
    will: Option<Will>,
    filters: Vec<String>,
    /// The publish that it was last found for, and with which manner: one copy each.
    mark: u64,
}

#[derive(Default)]
struct Table {
    clients: HashMap<u64, Client>,
    ids: HashMap<String, u64>,
    exact: HashMap<String, Vec<(u64, Wish)>>,
    wild: Vec<(String, u64, Wish)>,
    retained: Retained,
    mark: u64,
    next: u64,
}

/// Counters that many connections raise.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) received: Count,
    pub(crate) delivered: Count,
    pub(crate) dropped: Count,
    pub(crate) slow: Count,
    pub(crate) denied: Count,
    pub(crate) refused: Count,
    pub(crate) half_open: Count,
    pub(crate) malformed: Count,
    pub(crate) oversized: Count,
    pub(crate) wills: Count,
}

/// See the module.
pub(crate) struct Hub {
    table: Mutex<Table>,
    pub(crate) access: Access,
    pub(crate) counts: Counts,
    shared: Arc<Shared>,
}

/// What came of a publish.
#[derive(Default)]
pub(crate) struct Routed {
    /// Clients that got it.
    pub(crate) reached: usize,
    /// Queues that are more than half full.
    pub(crate) crowded: Vec<Arc<Outbox>>,
    /// It was to be retained and there was no room.
    pub(crate) unkept: bool,
}

impl Hub {
    pub(crate) fn new(access: Access) -> Arc<Hub> {
        let shared = Shared::new(QUEUED_BYTES);
        Arc::new(Hub { table: Mutex::default(), access, counts: Counts::default(), shared })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a client in; one with the same id is disconnected, and its will published. Returns
    /// the client's number and its id.
    pub(crate) fn enter(
        &self,
        identity: &Identity,
        wanted: &str,
        (window, largest): (u16, usize),
        will: Option<Will>,
    ) -> Result<Option<(u64, String, Arc<Outbox>)>, Turned> {
        let mut table = self.table();
        table.next += 1;
        let number = table.next;
        let Some(id) = identity.client_id(wanted, number) else { return Ok(None) };
        if let Some(old) = table.ids.get(&id).copied()
            && let Some(client) = self.remove(&mut table, old)
        {
            client.outbox.close(Reason::SessionTakenOver);
            self.fire(&mut table, client);
        }
        if table.clients.len() >= CLIENTS {
            return Err(Turned::Busy);
        }
        let same = table.clients.values().filter(|c| c.identity == *identity).count();
        if same >= SESSIONS_EACH {
            return Err(Turned::Quota);
        }
        let outbox = Outbox::new(self.shared.clone(), window, largest);
        let client = Client {
            id: id.clone(),
            identity: identity.clone(),
            outbox: outbox.clone(),
            will,
            filters: Vec::new(),
            mark: 0,
        };
        table.clients.insert(number, client);
        table.ids.insert(id.clone(), number);
        Ok(Some((number, id, outbox)))
    }

    /// A client's connection has ended; `clean` if it said good-bye, else its will is published.
    pub(crate) fn leave(&self, number: u64, clean: bool) {
        let mut table = self.table();
        let Some(client) = self.remove(&mut table, number) else { return };
        client.outbox.close(Reason::NormalDisconnection);
        if !clean {
            self.fire(&mut table, client);
        }
    }

    fn remove(&self, table: &mut Table, number: u64) -> Option<Client> {
        let client = table.clients.remove(&number)?;
        if table.ids.get(&client.id) == Some(&number) {
            table.ids.remove(&client.id);
        }
        for filter in &client.filters {
            table.unlist(filter, number);
        }
        Some(client)
    }

    fn fire(&self, table: &mut Table, client: Client) {
        let Some(will) = client.will else { return };
        self.counts.wills.one();
        let manner = Manner { qos1: will.qos1, retain: will.retain };
        self.route(table, None, &will.topic, &Arc::new(will.message), manner);
    }

    /// Sends a message to all who subscribed.
    pub(crate) fn publish(
        &self,
        from: Option<u64>,
        topic: &str,
        message: Message,
        manner: Manner,
    ) -> Routed {
        self.counts.received.one();
        self.route(&mut self.table(), from, topic, &Arc::new(message), manner)
    }

    fn route(
        &self,
        table: &mut Table,
        from: Option<u64>,
        topic: &str,
        message: &Arc<Message>,
        manner: Manner,
    ) -> Routed {
        let mut routed = Routed::default();
        if manner.retain {
            routed.unkept = !table.retained.set(topic, message, Instant::now());
        }
        let mut targets = table.exact.get(topic).cloned().unwrap_or_default();
        let wild = table.wild.iter().filter(|(filter, ..)| matches(filter, topic));
        targets.extend(wild.map(|(_, number, wish)| (*number, *wish)));
        // Of overlapping subscriptions of one client, that with the higher QoS counts.
        targets.sort_by_key(|(_, wish)| !wish.qos1);
        table.mark += 1;
        let mark = table.mark;
        for (number, wish) in targets {
            let Some(client) = table.clients.get_mut(&number) else { continue };
            if client.mark == mark || (wish.no_local && from == Some(number)) {
                continue;
            }
            client.mark = mark;
            let retain = manner.retain && wish.as_published;
            let manner = Manner { qos1: manner.qos1 && wish.qos1, retain };
            match self.hand(client, message, manner) {
                Put::Crowded => {
                    routed.reached += 1;
                    routed.crowded.push(client.outbox.clone());
                }
                Put::Taken => routed.reached += 1,
                Put::Full | Put::TooLarge | Put::Closed => {}
            }
        }
        routed
    }

    fn hand(&self, client: &Client, message: &Arc<Message>, manner: Manner) -> Put {
        let put = client.outbox.put(message, manner);
        match put {
            Put::Taken | Put::Crowded => self.counts.delivered.one(),
            Put::Full if manner.qos1 => {
                self.counts.slow.one();
                client.outbox.close(Reason::QuotaExceeded);
            }
            // MQTT: what is too large for a client is dropped as if it had been sent.
            Put::Full | Put::TooLarge => self.counts.dropped.one(),
            Put::Closed => {}
        }
        put
    }

    /// Adds a subscription; returns the retained messages it is to get. `None`: too many.
    pub(crate) fn subscribe(
        &self,
        number: u64,
        filter: &str,
        wish: Wish,
    ) -> Option<Vec<Arc<Message>>> {
        let mut table = self.table();
        let client = table.clients.get_mut(&number)?;
        let known = client.filters.iter().any(|f| f == filter);
        if !known {
            if client.filters.len() >= FILTERS_EACH {
                return None;
            }
            client.filters.push(filter.to_owned());
        }
        table.unlist(filter, number);
        if is_wild(filter) {
            table.wild.push((filter.to_owned(), number, wish));
        } else {
            table.exact.entry(filter.to_owned()).or_default().push((number, wish));
        }
        let wanted = wish.retained == 0 || (wish.retained == 1 && !known);
        Some(if wanted { table.retained.matching(filter, Instant::now()) } else { Vec::new() })
    }

    /// Ends a subscription; false if there was none.
    pub(crate) fn unsubscribe(&self, number: u64, filter: &str) -> bool {
        let mut table = self.table();
        let Some(client) = table.clients.get_mut(&number) else { return false };
        let before = client.filters.len();
        client.filters.retain(|f| f != filter);
        let had = client.filters.len() < before;
        table.unlist(filter, number);
        had
    }

    /// Whether somebody with this client id is connected.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.table().ids.contains_key(id)
    }

    /// Disconnects all sessions of a board, wills and all. Returns how many.
    pub(crate) fn evict(&self, name: &str) -> usize {
        let mut table = self.table();
        let of_board = |client: &Client| client.identity.name() == name;
        let found = table.clients.iter().filter(|(_, client)| of_board(client));
        let numbers: Vec<u64> = found.map(|(number, _)| *number).collect();
        for number in &numbers {
            if let Some(client) = self.remove(&mut table, *number) {
                client.outbox.close(Reason::NotAuthorized);
                self.fire(&mut table, client);
            }
        }
        numbers.len()
    }

    /// Disconnects all; no wills, for it is the broker that goes.
    pub(crate) fn close(&self) {
        let mut table = self.table();
        let numbers: Vec<u64> = table.clients.keys().copied().collect();
        for number in numbers {
            if let Some(client) = self.remove(&mut table, number) {
                client.outbox.close(Reason::ServerShuttingDown);
            }
        }
    }

    pub(crate) fn counters(&self) -> BrokerCounters {
        let (clients, retained) = {
            let table = self.table();
            (table.clients.len() as u64, table.retained.len() as u64)
        };
        let counts = &self.counts;
        BrokerCounters {
            clients,
            retained,
            received: counts.received.get(),
            delivered: counts.delivered.get(),
            dropped: counts.dropped.get(),
            slow: counts.slow.get(),
            denied: counts.denied.get(),
            refused: counts.refused.get(),
            half_open: counts.half_open.get(),
            malformed: counts.malformed.get(),
            oversized: counts.oversized.get(),
            wills: counts.wills.get(),
        }
    }
}

impl Table {
    fn unlist(&mut self, filter: &str, number: u64) {
        if is_wild(filter) {
            self.wild.retain(|(f, n, _)| *n != number || f != filter);
        } else if let Some(list) = self.exact.get_mut(filter) {
            list.retain(|(n, _)| *n != number);
            if list.is_empty() {
                self.exact.remove(filter);
            }
        }
    }
}
