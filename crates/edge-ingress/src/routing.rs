//! The table of the moment, with the endpoints of its backends. A new table keeps endpoints that
//! stay, with their connections; those that left get nothing more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use edge_core::ingress::Table;
use tokio::time::Instant;

use super::endpoint::{Endpoint, Lease};
use super::limits::COMPARED;

/// The endpoints of one backend.
#[derive(Default)]
pub(super) struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    turn: AtomicUsize,
}

impl Pool {
    /// The least busy endpoint that is none of those tried; they take turns among equals.
    pub(super) fn choose(&self, tried: &[Arc<Endpoint>]) -> Option<(Arc<Endpoint>, Lease)> {
        let count = self.endpoints.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let around = (0..count.min(COMPARED)).map(|n| &self.endpoints[(first + n) % count]);
        let fresh = around.filter(|e| !tried.iter().any(|known| Arc::ptr_eq(known, e)));
        let chosen = fresh.min_by_key(|endpoint| endpoint.cost(now))?;
        Some((chosen.clone(), chosen.lease(first, now)))
    }
}

/// A table and its endpoints.
#[derive(Default)]
pub(super) struct Current {
    pub(super) table: Table,
    /// As `table.backends`.
    pub(super) pools: Vec<Pool>,
}

/// What requests are routed by.
#[derive(Default)]
pub(super) struct Routing(RwLock<Arc<Current>>);

impl Routing {
    /// The table of the moment.
    pub(super) fn current(&self) -> Arc<Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a new table.
    pub(super) fn set(&self, table: Table) {
        let before = self.current();
        if before.table == table {
            return;
        }
        let mut known: BTreeMap<_, _> = before.endpoints().map(|e| (e.key(), e.clone())).collect();
        let mut stays = BTreeMap::new();
        let pools = table.backends.iter().map(|backend| {
            let endpoints = backend.targets.iter().map(|target| {
                let fresh = Endpoint::new(*target, backend.protocol);
                let key = fresh.key();
                let kept = known.remove(&key).unwrap_or(fresh);
                stays.entry(key).or_insert(kept).clone()
            });
            Pool { endpoints: endpoints.collect(), turn: AtomicUsize::new(1) }
        });
        let pools = pools.collect();
        let after = Arc::new(Current { table, pools });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = after;
        known.values().for_each(|endpoint| endpoint.leave());
    }

    /// Closes connections that have waited for too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.current().endpoints().for_each(|endpoint| endpoint.sweep(now));
    }
}

impl Current {
    fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.pools.iter().flat_map(|pool| &pool.endpoints)
    }
}
