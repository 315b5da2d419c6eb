//! Three stores in one process, over a wire of function calls.

mod disks;
mod failover;
mod members;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edge_core::consensus::{MemberId, MemberInfo, Members, Role, Standing, Tuning};
use edge_store::{Expect, Founding, OpenError, Options, Peers, Store};

use super::{Directory, pairs, put};

/// How long anything may take here: elections need tenths of a second.
const SOON: Duration = Duration::from_secs(20);

/// Who is there, and who can't hear whom.
#[derive(Default)]
struct Wire {
    stores: Mutex<BTreeMap<MemberId, Store>>,
    cut: Mutex<BTreeSet<(MemberId, MemberId)>>,
    /// Snapshots that arrive damaged, still.
    damage: Mutex<usize>,
    fetches: Mutex<usize>,
}

/// One member's end of it.
struct End {
    me: MemberId,
    wire: Arc<Wire>,
}

impl Wire {
    fn find(&self, from: MemberId, to: MemberId) -> Option<Store> {
        if self.cut.lock().unwrap().contains(&(from, to)) {
            return None;
        }
        self.stores.lock().unwrap().get(&to).cloned()
    }

    fn set_alone(&self, member: MemberId, alone: bool) {
        let mut cut = self.cut.lock().unwrap();
        for other in (1..=9).filter(|other| *other != member) {
            for pair in [(member, other), (other, member)] {
                if alone {
                    cut.insert(pair)
                } else {
                    cut.remove(&pair)
                };
            }
        }
    }
}

impl Peers for End {
    fn send(&self, to: MemberId, message: Bytes) {
        if let Some(store) = self.wire.find(self.me, to) {
            store.deliver(self.me, message);
        }
    }

    fn fetch(&self, from: MemberId, _at: u64) -> Result<Box<dyn Read + Send>, String> {
        let store = self.wire.find(self.me, from).ok_or("no way there")?;
        *self.wire.fetches.lock().unwrap() += 1;
        let mut bytes = Vec::new();
        store.snapshot(&mut bytes).map_err(|error| error.to_string())?;
        let mut damage = self.wire.damage.lock().unwrap();
        if *damage > 0 {
            *damage -= 1;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

/// A cluster of stores; a member that is down has a directory and no store.
struct Cluster {
    wire: Arc<Wire>,
    dirs: BTreeMap<MemberId, Directory>,
    tuning: Tuning,
}

pub(crate) fn info(id: MemberId) -> MemberInfo {
    let api = format!("https://10.0.0.{id}:6443");
    MemberInfo { id, name: format!("board-{id}"), api, broker: format!("10.0.0.{id}:8883") }
}

impl Cluster {
    /// One founder, and two that join it.
    async fn three() -> Cluster {
        Cluster::with(Tuning { tick_ms: 20, ..Tuning::default() }).await
    }

    async fn with(tuning: Tuning) -> Cluster {
        let mut cluster = Cluster { wire: Arc::default(), dirs: BTreeMap::new(), tuning };
        cluster.add(1, Founding::Found);
        for id in [2, 3] {
            cluster.join(id).await;
        }
        cluster
    }

    fn options(&self, id: MemberId, founding: Founding) -> Options {
        let peers = Arc::new(End { me: id, wire: self.wire.clone() });
        let (me, tuning) = (info(id), self.tuning);
        Options { me, founding, peers, tuning, seed: 7, segment_bytes: 64 * 1024, ..super::small() }
    }

    fn add(&mut self, id: MemberId, founding: Founding) {
        self.dirs.insert(id, Directory::quick());
        self.start_as(id, founding);
    }

    async fn join(&mut self, id: MemberId) {
        self.add(id, Founding::Join);
        let change = edge_core::consensus::Change::Add { info: info(id), voter: true };
        let (first, leader) = self.leader().await;
        leader.change(change).await.unwrap();
        // The leader takes the next change once it has applied this one itself.
        let votes = |members: &Members| members.voters().contains(&id);
        for member in [id, first] {
            self.until(member, |standing| votes(&standing.members)).await;
        }
    }

    fn start_as(&self, id: MemberId, founding: Founding) {
        self.start_with(id, self.options(id, founding));
    }

    fn start_with(&self, id: MemberId, options: Options) {
        let begun = std::time::Instant::now();
        let store = loop {
            match Store::open(&self.dirs[&id].0, options.clone()) {
                Ok(store) => break store,
                // Another member's thread may just be handing it a message.
                Err(OpenError::Locked { .. }) if begun.elapsed() < SOON => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("member {id}: {error}"),
            }
        };
        self.wire.stores.lock().unwrap().insert(id, store);
    }

    fn start(&self, id: MemberId) {
        self.start_as(id, Founding::Join);
    }

    /// As a kill does: what was on its way is gone, what was synced stays.
    fn stop(&self, id: MemberId) {
        let store = self.wire.stores.lock().unwrap().remove(&id);
        drop(store);
    }

    fn store(&self, id: MemberId) -> Store {
        self.wire.stores.lock().unwrap()[&id].clone()
    }

    async fn until(&self, id: MemberId, holds: impl Fn(&Standing) -> bool) -> Arc<Standing> {
        let mut standing = self.store(id).standing();
        let waited = tokio::time::timeout(SOON, standing.wait_for(|now| holds(now))).await;
        let last = || format!("{:?}", self.store(id).standing().borrow());
        waited.unwrap_or_else(|_| panic!("member {id}: {}", last())).unwrap().clone()
    }

    /// The member that leads and is ready, as soon as one does.
    async fn leader(&self) -> (MemberId, Store) {
        self.leader_but(0).await
    }

    async fn leader_but(&self, not: MemberId) -> (MemberId, Store) {
        let begun = std::time::Instant::now();
        loop {
            for (id, store) in self.wire.stores.lock().unwrap().iter() {
                let standing = store.standing().borrow().clone();
                if *id != not && standing.role == Role::Leader && standing.ready {
                    return (*id, store.clone());
                }
            }
            assert!(begun.elapsed() < SOON, "nobody leads");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everybody who runs has the same, as of a linearizable point.
    async fn agree(&self) -> Vec<(String, String)> {
        let (_, leader) = self.leader().await;
        let all = pairs(&leader, "", None);
        let stores: Vec<_> = self.wire.stores.lock().unwrap().clone().into_iter().collect();
        for (id, store) in stores {
            settled(&store).await;
            assert_eq!(pairs(&store, "", None), all, "member {id}");
        }
        all
    }
}

/// A linearizable point; a member that is being filled may need more than one bounded wait.
async fn settled(store: &Store) -> u64 {
    let begun = std::time::Instant::now();
    loop {
        match store.barrier().await {
            Ok(revision) => return revision,
            Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
        }
    }
}

async fn write(store: &Store, key: &str, value: &str) -> u64 {
    store.propose(put(key, value, Expect::Any)).await.unwrap().revision
}
