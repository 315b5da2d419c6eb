//! A disk in memory that forgets what was not synced, and three members on three of them, without
//! a thread or a clock: what the simulator builds on.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use edge_core::consensus::{Change, MemberId, Role, Tuning};
use edge_store::sim::{Config, Member, MemoryBase};
use edge_store::{Disk, DiskFile, Expect, Founding, ListOptions, ProposeError};

use super::put;

/// A file as it is, and as a power cut would leave it.
type Content = (Vec<u8>, Vec<u8>);

/// Files in memory.
#[derive(Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Content>>,
    /// Takes nothing but zeroes and the first sectors of files, whatever room it grants.
    pub(crate) refuses: AtomicBool,
    /// Files that were given room so far.
    pub(crate) granted: AtomicUsize,
}

impl MemoryDisk {
    /// The power goes: what was not synced is gone.
    pub(crate) fn cut(&self) {
        for (now, durable) in self.files.lock().unwrap().values_mut() {
            now.clone_from(durable);
        }
    }

    /// The size of the largest file.
    fn largest(&self) -> usize {
        self.files.lock().unwrap().values().map(|(now, _)| now.len()).max().unwrap_or_default()
    }

    fn with<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&mut (Vec<u8>, Vec<u8>)) -> T,
    ) -> io::Result<T> {
        let mut files = self.files.lock().unwrap();
        files.get_mut(path).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let blank = bytes.iter().all(|byte| *byte == 0);
        if self.refuses.load(Ordering::SeqCst) && offset > 0 && !blank {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        self.with(file.path(), |(now, _)| {
            now.resize(now.len().max(to), 0);
            now[from..to].copy_from_slice(bytes);
            bytes.len()
        })
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        self.with(file.path(), |(now, durable)| durable.clone_from(now))
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        self.granted.fetch_add(1, Ordering::SeqCst);
        self.with(file.path(), |(now, _)| now.resize(length as usize, 0))
    }

    fn open(&self, path: &Path, fresh: bool) -> io::Result<DiskFile> {
        if fresh {
            self.files.lock().unwrap().insert(path.to_owned(), Default::default());
        }
        self.with(path, |_| DiskFile::named(path))
    }

    fn read_at(&self, file: &DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(file.path(), |(now, _)| {
            let rest = now.get(offset as usize..).unwrap_or(&[]);
            let count = rest.len().min(bytes.len());
            bytes[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let files = self.files.lock().unwrap();
        Ok(files.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.lock().unwrap().contains_key(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.lock().unwrap().remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Three members, their disks, and the messages between them.
struct World {
    members: BTreeMap<MemberId, Member>,
    disks: BTreeMap<MemberId, (Arc<MemoryDisk>, MemoryBase)>,
}

impl World {
    fn config(&self, id: MemberId) -> Config {
        let (disk, base) = self.disks[&id].clone();
        Config {
            me: super::cluster::info(id),
            founding: if id == 1 { Founding::Found } else { Founding::Join },
            tuning: Tuning::default(),
            seed: 7,
            fresh: 100 + id,
            segment_bytes: 8 * 1024,
            disk,
            base,
        }
    }

    fn start(&mut self, id: MemberId) {
        self.members.insert(id, Member::open(self.config(id)).unwrap());
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        loop {
            let mut still = true;
            let mut mail: Vec<(MemberId, MemberId, Bytes)> = Vec::new();
            for (id, member) in &mut self.members {
                while member.write() {
                    still = false;
                }
                mail.extend(member.send().into_iter().map(|(to, bytes)| (*id, to, bytes)));
            }
            let ids: Vec<_> = self.members.keys().copied().collect();
            for id in ids {
                let Some(fetch) = self.members.get_mut(&id).and_then(Member::fetch) else {
                    continue;
                };
                let mut bytes = Vec::new();
                self.members[&fetch.from].snapshot(&mut bytes).unwrap();
                self.members.get_mut(&id).unwrap().fetched(fetch, Ok(&mut &bytes[..]));
                still = false;
            }
            still &= mail.is_empty();
            for (from, to, bytes) in mail {
                if let Some(member) = self.members.get_mut(&to) {
                    member.deliver(from, bytes);
                }
            }
            if still {
                return;
            }
        }
    }

    fn pass(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.members.values_mut().for_each(Member::tick);
            self.settle();
        }
    }

    fn leader(&mut self) -> MemberId {
        let leads = |member: &Member| member.standing().role == Role::Leader;
        let found = self.members.iter().find(|(_, member)| leads(member));
        let all = || self.members.values().map(Member::standing).collect::<Vec<_>>();
        *found.unwrap_or_else(|| panic!("nobody leads: {:#?}", all())).0
    }

    fn put(&mut self, key: &str) -> u64 {
        let leader = self.leader();
        let command = put(key, &"v".repeat(700), Expect::Any);
        let mut answer = self.members.get_mut(&leader).unwrap().propose(command);
        self.settle();
        answer.try_recv().unwrap().unwrap().revision
    }
}

/// The whole run as text: the same seed gives the same.
fn run() -> Vec<String> {
    let disks = (1..=3).map(|id| (id, Default::default())).collect();
    let mut world = World { members: BTreeMap::new(), disks };
    let mut said = Vec::new();
    world.start(1);
    world.settle();
    for id in [2, 3] {
        world.start(id);
        let change = Change::Add { info: super::cluster::info(id), voter: true };
        let mut answer = world.members.get_mut(&1).unwrap().change(change);
        world.pass(20);
        assert_eq!(answer.try_recv().unwrap(), Ok(()));
    }
    for round in 0..6 {
        for number in 0..10 {
            said.push(format!("{}", world.put(&format!("k/{round}/{number}"))));
        }
        // The leader loses its power; every other time the state was committed before.
        let leader = world.leader();
        if round % 2 == 0 {
            world.members.get_mut(&leader).unwrap().commit();
            world.settle();
        }
        world.members.remove(&leader);
        world.disks[&leader].0.cut();
        world.pass(40);
        said.push(format!("after {leader}: {}", world.leader()));
        world.start(leader);
        world.pass(10);
    }
    let all = ListOptions::default();
    let lists: Vec<_> = world.members.values().map(|m| m.list("", &all).unwrap().entries).collect();
    assert_eq!(lists[0].len(), 60);
    assert!(lists.iter().all(|list| *list == lists[0]));
    said
}

#[test]
fn a_cluster_without_threads_keeps_everything_and_replays() {
    assert_eq!(run(), run());
}

/// Room that is granted and then not there, as on a file system that writes nothing in place:
/// whoever asked is told, and it is tried again with the ticks, not as fast as the disk says no.
#[test]
fn room_that_is_not_there_is_tried_with_the_ticks_only() {
    let disks = BTreeMap::from([(1, Default::default())]);
    let mut world = World { members: BTreeMap::new(), disks };
    world.start(1);
    world.settle();
    world.put("before");
    let disk = world.disks[&1].0.clone();
    let granted = || disk.granted.load(Ordering::SeqCst);
    disk.refuses.store(true, Ordering::SeqCst);
    for round in 0..3 {
        let member = world.members.get_mut(&1).unwrap();
        let asked = |key: &str| put(&format!("{key}/{round}"), "v", Expect::Any);
        let answers = ["a", "b", "c"].map(|key| member.propose(asked(key)));
        let steps = (0..100).take_while(|_| member.write()).count();
        assert!(steps < 100, "it ends without time");
        for mut answer in answers {
            assert!(matches!(answer.try_recv(), Ok(Err(ProposeError::Full { .. }))));
        }
    }
    let trouble = world.members[&1].standing().trouble.clone().unwrap();
    assert!(trouble.contains("free some space"), "{trouble}");
    let (before, patience) = (granted(), Tuning::default().election_ticks);
    world.pass(10 * patience);
    assert!((5..=10).contains(&(granted() - before)), "{before}, {}", granted());
    assert_eq!(disk.largest(), 8 * 1024, "a segment never grows by being refused");
    disk.refuses.store(false, Ordering::SeqCst);
    world.pass(2 * patience);
    assert_eq!(world.members[&1].standing().trouble, None);
    world.put("after");
    world.members.remove(&1);
    disk.cut();
    world.start(1);
    world.settle();
    let entries = world.members[&1].list("", &ListOptions::default()).unwrap().entries;
    let keys: Vec<_> = entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(keys, ["after", "before"]);
}
