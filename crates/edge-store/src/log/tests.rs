//! What a log does to its disk when it is read back.

use std::sync::Mutex;

use super::disk::RealDisk;
use super::*;

/// A real disk that notes what is synced.
#[derive(Default)]
struct Noting(Mutex<Vec<PathBuf>>);

impl Disk for Noting {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        RealDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        self.0.lock().unwrap().push(file.path().to_owned());
        RealDisk.sync(file)
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        RealDisk.allocate(file, length)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().unwrap().push(dir.to_owned());
        RealDisk.sync_dir(dir)
    }
}

/// A process that was killed between a write and its sync leaves a whole batch that no disk need
/// have; the one that finds it counts it, so a power failure must not take it away again.
#[test]
fn what_is_found_is_synced_before_it_counts() {
    let dir = std::env::temp_dir().join(format!("log-found-{}", std::process::id()));
    let disk = Arc::new(Noting::default());
    let config = LogConfig { dir: dir.clone(), disk: disk.clone(), segment_bytes: 16 * 1024 };
    let mut log = Log::create(config.clone(), 7, Outlived::default()).unwrap();
    let hard = HardState { term: 3, vote: 2, commit: 0 };
    log.append(hard, None, &[]).unwrap();
    let path = log.file.path().to_owned();
    drop(log);
    disk.0.lock().unwrap().clear();
    let recovered = Log::recover(config, 7, Outlived::default()).unwrap();
    assert!(matches!(recovered, Recovery::Whole(log, _) if log.hard() == hard));
    assert_eq!(*disk.0.lock().unwrap(), [path, dir.clone()]);
    std::fs::remove_dir_all(dir).unwrap();
}
