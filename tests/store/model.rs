//! The store against a model that is too simple to be wrong, with a fixed seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use edge_store::{Change, Command, Event, Expect, ListOptions, Op, ProposeError, ReadError};
use edge_store::{Store, Watch, stamp};

use super::{Directory, Random, small};

type Held = BTreeMap<String, (u64, Bytes)>;

/// What a watcher is owed: revision, key, whether written, and the revision before.
type Change3 = (u64, String, Change, Bytes, Option<u64>);

struct Model {
    now: Held,
    past: BTreeMap<u64, Held>,
    events: Vec<Change3>,
}

struct Watcher {
    watch: Watch,
    prefix: String,
    from: u64,
    seen: Vec<Change3>,
}

fn flat(event: &Arc<Event>) -> Change3 {
    let previous = event.previous.as_ref().map(|entry| entry.revision);
    (event.revision, event.key.to_string(), event.change, event.value.clone(), previous)
}

impl Watcher {
    fn drain(&mut self) {
        while let Some(event) = self.watch.try_next().unwrap() {
            self.seen.push(flat(&event));
        }
    }

    fn check(&mut self, model: &Model) {
        self.drain();
        let owed = model
            .events
            .iter()
            .filter(|(revision, key, ..)| *revision > self.from && key.starts_with(&self.prefix));
        assert!(owed.eq(&self.seen), "prefix {} from {}", self.prefix, self.from);
    }
}

impl Model {
    fn op(&self, random: &mut Random, key: String) -> Op {
        let found = self.now.get(&key).map(|(revision, _)| *revision);
        let expect = match random.below(6) {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 => Expect::Revision(found.unwrap_or(3)),
            3 => Expect::Revision(random.below(50)),
            _ => Expect::Any,
        };
        let value = Bytes::from(vec![b'a' + random.below(26) as u8; random.below(7000) as usize]);
        let at = random.below(value.len() as u64 + 1) as u32;
        let stamp = (random.below(2) == 0).then_some(at);
        match random.below(4) {
            0 => Op::Delete { key, last: value, stamp, expect },
            _ => Op::Put { key, value, stamp, expect },
        }
    }

    fn command(&self, random: &mut Random) -> Command {
        let mut keys: Vec<String> = (0..=random.below(3))
            .map(|_| {
                format!(
                    "{}/{}",
                    ["pods", "nodes", "po"][random.below(3) as usize],
                    random.below(30)
                )
            })
            .collect();
        keys.sort();
        keys.dedup();
        Command { ops: keys.into_iter().map(|key| self.op(random, key)).collect(), term: None }
    }

    /// The first expectation that does not hold.
    fn conflict(&self, command: &Command) -> Option<ProposeError> {
        command.ops.iter().find_map(|op| {
            let (Op::Put { key, expect, .. } | Op::Delete { key, expect, .. }) = op;
            let found = self.now.get(key).map(|(revision, _)| *revision);
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::Revision(revision) => found == Some(*revision),
            };
            (!holds).then(|| ProposeError::Conflict { key: key.clone(), found })
        })
    }

    fn apply(&mut self, revision: u64, command: &Command) {
        for op in &command.ops {
            let (Op::Put { key, value, stamp: at, .. }
            | Op::Delete { key, last: value, stamp: at, .. }) = op;
            let value = at.map_or_else(|| value.clone(), |at| stamp(value, at, revision));
            let previous = self.now.get(key).map(|(revision, _)| *revision);
            let change = match op {
                Op::Put { .. } => Change::Put,
                Op::Delete { .. } if previous.is_none() => continue,
                Op::Delete { .. } => Change::Delete,
            };
            match change {
                Change::Put => self.now.insert(key.clone(), (revision, value.clone())),
                Change::Delete => self.now.remove(key),
            };
            self.events.push((revision, key.clone(), change, value, previous));
        }
        self.past.insert(revision, self.now.clone());
    }

    fn check_list(&self, store: &Store, random: &mut Random, current: u64) {
        let prefix = ["", "p", "po", "po/", "pods/", "pods/1", "nodes/2"][random.below(7) as usize];
        let after = (random.below(2) == 0).then(|| format!("po/{}", random.below(30)));
        let limit = random.below(8) as usize;
        let at = (random.below(2) == 0).then(|| current - random.below(300.min(current)));
        let options = ListOptions { after: after.clone(), limit, at };
        let revision = at.unwrap_or(current);
        let oldest = store.stats().oldest;
        let listing = match store.list(prefix, options) {
            Err(error) => {
                assert_eq!(error, ReadError::Compacted { at: revision, oldest });
                return assert!(revision < oldest);
            }
            Ok(listing) => listing,
        };
        let empty = Held::new();
        let held = self.past.range(..=revision).next_back().map_or(&empty, |(_, held)| held);
        let expected: Vec<_> = held
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
            .collect();
        let count = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
        assert_eq!(listing.revision, revision);
        assert_eq!(listing.remaining as usize, expected.len() - count);
        assert_eq!(listing.more, expected.len() > count);
        let found: Vec<_> = listing
            .entries
            .iter()
            .map(|e| (e.key.to_string(), (e.revision, e.value.clone())))
            .collect();
        let expected: Vec<_> =
            expected[..count].iter().map(|(key, held)| ((*key).clone(), (*held).clone())).collect();
        assert!(found == expected, "list {prefix} after {after:?} at {revision}");
    }
}

#[tokio::test]
async fn the_store_does_what_the_model_does() {
    let dir = Directory::new();
    let mut random = Random(0xed9e_5704_e000_0001);
    let mut store = Store::open(&dir.0, small()).unwrap();
    let past = BTreeMap::from([(1, Held::new())]);
    let mut model = Model { now: Held::new(), past, events: Vec::new() };
    let mut watchers: Vec<Watcher> = Vec::new();
    for step in 0..2500 {
        let command = model.command(&mut random);
        let conflict = model.conflict(&command);
        match (store.propose(command.clone()).await, conflict) {
            (Ok(applied), None) => model.apply(applied.revision, &command),
            (Err(error), Some(expected)) => assert_eq!(error, expected, "step {step}"),
            (result, expected) => panic!("step {step}: {result:?}, expected {expected:?}"),
        }
        let current = store.revision();
        let key = format!("pods/{}", random.below(30));
        let found = store.get(&key).unwrap().map(|entry| (entry.revision, entry.value));
        assert!(found == model.now.get(&key).cloned(), "step {step}: {key}");
        model.check_list(&store, &mut random, current);
        if random.below(20) == 0 {
            let prefix = ["", "po", "pods/", "nodes/1"][random.below(4) as usize].to_owned();
            let from = current - random.below(200.min(current));
            match store.watch(&prefix, from) {
                Ok(watch) => watchers.push(Watcher { watch, prefix, from, seen: Vec::new() }),
                Err(gone) => assert!(from < gone.oldest && gone.oldest == store.stats().oldest),
            }
        }
        if random.below(5) == 0 && !watchers.is_empty() {
            let chosen = random.below(watchers.len() as u64) as usize;
            watchers[chosen].drain();
        }
        if watchers.len() > 8 {
            watchers.remove(0).check(&model);
        }
        if random.below(150) == 0 {
            watchers.drain(..).for_each(|mut watcher| watcher.check(&model));
            store.close().await;
            store = Store::open(&dir.0, small()).unwrap();
            assert!(store.revision() > current, "step {step}: the new term's first entry");
        }
    }
    watchers.into_iter().for_each(|mut watcher| watcher.check(&model));
    assert!(model.now.len() > 20 && model.events.len() > 1000);
}
