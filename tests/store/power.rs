//! Power cuts: from some write on, only some sectors reach the disk and nothing else does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use edge_store::{Disk, DiskFile, Expect, Options, ProposeError, RealDisk, Store};

use super::{Directory, Random, pairs, put, small};

const SECTOR: usize = 512;

/// Loses its power at one of its next calls.
struct CutDisk(Mutex<(u64, Random)>);

impl CutDisk {
    fn calls(count: u64, seed: u64) -> CutDisk {
        CutDisk(Mutex::new((count, Random(seed))))
    }

    /// Whether there is power; the generator, if this call is the one that loses it.
    fn call(&self) -> io::Result<Option<Random>> {
        let mut state = self.0.lock().unwrap();
        match state.0 {
            0 => Err(io::Error::from_raw_os_error(libc::EIO)),
            1 => {
                state.0 = 0;
                Ok(Some(Random(state.1.0)))
            }
            _ => {
                state.0 -= 1;
                Ok(None)
            }
        }
    }
}

impl Disk for CutDisk {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let Some(mut random) = self.call()? else { return RealDisk.write_at(file, bytes, offset) };
        // Sectors reach the disk in any order, or not at all.
        let kept = random.below(101);
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            if random.below(100) < kept {
                RealDisk.write_at(file, sector, offset + (number * SECTOR) as u64)?;
            }
        }
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        match self.call()? {
            None => RealDisk.sync(file),
            Some(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        match self.call()? {
            None => RealDisk.allocate(file, length),
            Some(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}

/// Writes in waves until the power goes; answers what was acknowledged and what may be there.
async fn work(store: &Store, random: &mut Random) -> [BTreeMap<String, String>; 2] {
    let [mut acknowledged, mut asked] = [BTreeMap::new(), BTreeMap::new()];
    for wave in 0..40 {
        let tasks: Vec<_> = (0..=random.below(12))
            .map(|number| {
                let key = format!("k/{wave:02}/{number:02}");
                let value = format!("{number}{}", "v".repeat(random.below(1500) as usize));
                asked.insert(key.clone(), value.clone());
                let store = store.clone();
                tokio::spawn(async move {
                    let result = store.propose(put(&key, &value, Expect::Absent)).await;
                    (key, value, result)
                })
            })
            .collect();
        for task in tasks {
            match task.await.unwrap() {
                (key, value, Ok(_)) => drop(acknowledged.insert(key, value)),
                (_, _, Err(ProposeError::Broken { .. })) => {}
                (_, _, Err(other)) => panic!("{other}"),
            }
        }
    }
    [acknowledged, asked]
}

#[tokio::test]
async fn a_power_cut_keeps_what_was_acknowledged() {
    let mut lost = 0;
    for seed in 1..=150u64 {
        let mut random = Random(seed << 20 | 0xb0a2d);
        let dir = Directory::quick();
        drop(Store::open(&dir.0, small()).unwrap());
        // The first call is the opening's own sync.
        let disk = Arc::new(CutDisk::calls(2 + random.below(120), random.below(u64::MAX)));
        let options = Options { disk, ..small() };
        let store = Store::open(&dir.0, options).unwrap();
        let [acknowledged, asked] = work(&store, &mut random).await;
        drop(store);

        let store = Store::open(&dir.0, small()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let found: BTreeMap<String, String> = pairs(&store, "", None).into_iter().collect();
        for (key, value) in &acknowledged {
            assert_eq!(found.get(key), Some(value), "seed {seed}: {key}");
        }
        for (key, value) in &found {
            assert_eq!(asked.get(key), Some(value), "seed {seed}: {key}");
        }
        lost += asked.len() - found.len();
        store.propose(put("after", "1", Expect::Absent)).await.unwrap();
        drop(store);
        let store = Store::open(&dir.0, small()).unwrap();
        assert_eq!(pairs(&store, "", None).len(), found.len() + 1, "seed {seed}");
    }
    assert!(lost > 1000, "the power was hardly ever cut");
}
