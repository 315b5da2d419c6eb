//! The Lease `kube-system/edged-leader`, which tells Kubernetes' clients who leads. It is made from
//! what the election says whenever it is read, and never written: while a leader is known, whoever
//! reads it finds it renewed at that moment.

use super::Leadership;
use crate::api::LEADER_LEASE;
use edge_api::{keys, kinds, time};
use edge_store::{Entry, Revision};
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds after which a leader that says nothing is no leader any more, at the latest.
const DURATION_SECONDS: u32 = 3;

/// The Lease, another one for each term and leader.
pub(crate) struct LeaderLease {
    leadership: Leadership,
    uid: String,
    key: Arc<str>,
    held: Mutex<Option<Held>>,
}

/// What is known of the lead, since when, and until when it was certainly held.
#[derive(Default)]
struct Held {
    term: u64,
    holder: String,
    revision: Revision,
    since_ms: i64,
    renewed_ms: i64,
}

impl LeaderLease {
    /// A Lease with this uid, which must be the same on every server.
    pub(crate) fn new(leadership: Leadership, uid: String) -> LeaderLease {
        let key = keys::key(kinds::LEASE, LEADER_LEASE.0, LEADER_LEASE.1);
        LeaderLease { leadership, uid, key: Arc::from(key), held: Mutex::default() }
    }

    /// Its key, which the store never holds.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The Lease as it is at `now_ms`, at the latest at `revision`.
    pub(crate) fn entry(&self, revision: Revision, now_ms: i64) -> Entry {
        let term = self.leadership.standing().term;
        let leader = self.leadership.leader().map(|(_, name)| name);
        let led = leader.is_some();
        let holder = leader.unwrap_or_default();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| held.term != term || held.holder != holder) {
            // While nobody leads, it was renewed when somebody last did.
            let before = held.as_ref().map_or(now_ms, |held| held.renewed_ms);
            let (revision, since_ms) = (revision.max(1), now_ms);
            *held = Some(Held { term, holder, revision, since_ms, renewed_ms: before });
        }
        let Some(held) = held.as_mut() else { return self.write(&Held::default()) };
        if led {
            held.renewed_ms = now_ms;
        }
        self.write(held)
    }

    fn write(&self, held: &Held) -> Entry {
        let lease = serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEADER_LEASE.1,
                "namespace": LEADER_LEASE.0,
                "uid": self.uid,
                "resourceVersion": held.revision.to_string(),
                "creationTimestamp": time::format(held.since_ms),
            },
            "spec": {
                "holderIdentity": held.holder,
                "leaseDurationSeconds": DURATION_SECONDS,
                "leaseTransitions": i32::try_from(held.term).unwrap_or(i32::MAX),
                "acquireTime": time::format_micro(held.since_ms),
                "renewTime": time::format_micro(held.renewed_ms),
            },
        });
        let (key, revision) = (self.key.clone(), held.revision);
        Entry { key, revision, value: lease.to_string().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::consensus::{MemberInfo, Members, Standing};
    use serde_json::Value;
    use tokio::sync::watch;

    fn standing(term: u64, leader: Option<u64>) -> Arc<Standing> {
        let info = |id| MemberInfo { id, name: format!("s{id}"), ..MemberInfo::default() };
        let members = Members::founders([info(1), info(2)].to_vec());
        Arc::new(Standing { me: 1, term, leader, members, ..Standing::default() })
    }

    #[test]
    fn it_is_renewed_whenever_it_is_read_and_somebody_leads() {
        let (elected, known) = watch::channel(standing(7, Some(1)));
        let lease = LeaderLease::new(Leadership { standing: known }, "u".to_owned());
        let read = |revision, now_ms| -> (Value, Value) {
            let entry = lease.entry(revision, now_ms);
            let object: Value = serde_json::from_slice(&entry.value).unwrap();
            (object["metadata"]["resourceVersion"].clone(), object["spec"].clone())
        };
        let minute = |n: i64| 1_800_000_000_000 + n * 60_000;
        let at = |n: i64| Value::from(time::format_micro(minute(n)));
        let (first, spec) = read(10, minute(0));
        assert_eq!((&spec["holderIdentity"], &spec["renewTime"]), (&Value::from("s1"), &at(0)));
        let (same, spec) = read(20, minute(1));
        assert_eq!(same, first, "nothing was written");
        assert_eq!((&spec["acquireTime"], &spec["renewTime"]), (&at(0), &at(1)));
        // Nobody leads: it was renewed when somebody last did.
        elected.send_replace(standing(8, None));
        let (_, spec) = read(20, minute(2));
        assert_eq!((&spec["holderIdentity"], &spec["renewTime"]), (&Value::from(""), &at(1)));
        elected.send_replace(standing(8, Some(2)));
        let (next, spec) = read(30, minute(3));
        assert_ne!(next, first);
        assert_eq!((&spec["holderIdentity"], &spec["renewTime"]), (&Value::from("s2"), &at(3)));
        assert_eq!((&spec["acquireTime"], &spec["leaseTransitions"]), (&at(3), &Value::from(8)));
    }
}
