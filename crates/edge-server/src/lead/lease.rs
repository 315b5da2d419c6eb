//! The Lease `kube-system/edged-leader`, which tells Kubernetes' clients who leads. It is made from
//! what the election says whenever it is read, and never written.

use super::Leadership;
use crate::api::{LEADER_LEASE, now_ms};
use edge_api::{keys, kinds, time};
use edge_store::{Entry, Revision};
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds after which a leader that says nothing is no leader any more, at the latest.
const DURATION_SECONDS: u32 = 3;

/// The Lease, made anew when another term begins.
pub(crate) struct LeaderLease {
    leadership: Leadership,
    uid: String,
    key: Arc<str>,
    made: Mutex<Option<(u64, String, Entry)>>,
}

impl LeaderLease {
    /// A Lease with this uid, which must be the same on every server.
    pub(crate) fn new(leadership: Leadership, uid: String) -> LeaderLease {
        let key = keys::key(kinds::LEASE, LEADER_LEASE.0, LEADER_LEASE.1);
        LeaderLease { leadership, uid, key: Arc::from(key), made: Mutex::default() }
    }

    /// Its key, which the store never holds.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The Lease as it is now, at the latest at `revision`.
    pub(crate) fn entry(&self, revision: Revision) -> Entry {
        let term = self.leadership.standing().term;
        let holder = self.leadership.leader().map(|(_, name)| name).unwrap_or_default();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, name, entry)) = &*made
            && *at == term
            && *name == holder
        {
            return entry.clone();
        }
        let entry = self.make(&holder, term, revision.max(1));
        *made = Some((term, holder, entry.clone()));
        entry
    }

    fn make(&self, holder: &str, term: u64, revision: Revision) -> Entry {
        let now = now_ms();
        let lease = serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEADER_LEASE.1,
                "namespace": LEADER_LEASE.0,
                "uid": self.uid,
                "resourceVersion": revision.to_string(),
                "creationTimestamp": time::format(now),
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": DURATION_SECONDS,
                "leaseTransitions": i32::try_from(term).unwrap_or(i32::MAX),
                "acquireTime": time::format_micro(now),
                "renewTime": time::format_micro(now),
            },
        });
        Entry { key: self.key.clone(), revision, value: lease.to_string().into() }
    }
}
