//! The log after a power cut and after a failing disk: no acknowledged write is lost, or the
//! store refuses to open and says where and what to do.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use edge_store::{Damage, Expect, OpenError, Store};

use super::{Directory, pairs, put, small};

/// Six acknowledged writes, each a batch of its own; where each begins and ends in the segment.
struct Written {
    dir: Directory,
    extents: Vec<(u64, u64)>,
    pairs: Vec<(String, String)>,
}

async fn written(sizes: &[usize]) -> Written {
    let dir = Directory::new();
    let store = Store::open(&dir.0, small()).unwrap();
    let mut extents = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let begin = 512 + store.stats().log_bytes;
        let (key, value) = (format!("k/{number}"), "v".repeat(*size));
        store.propose(put(&key, &value, Expect::Absent)).await.unwrap();
        extents.push((begin, 512 + store.stats().log_bytes));
    }
    let pairs = pairs(&store, "", None);
    store.close().await;
    assert_eq!(dir.segments().len(), 1);
    Written { dir, extents, pairs }
}

fn segment(dir: &Directory) -> File {
    OpenOptions::new().read(true).write(true).open(&dir.segments()[0]).unwrap()
}

fn damage(opened: Result<Store, OpenError>) -> Damage {
    match opened {
        Err(OpenError::Damaged(damage)) => damage,
        Err(other) => panic!("{other}"),
        Ok(store) => panic!("opened at revision {}", store.revision()),
    }
}

/// The message must let a person act.
fn check_message(damage: &Damage, dir: &Path) {
    let text = damage.to_string();
    assert!(text.contains(&damage.file.display().to_string()), "{text}");
    assert!(text.contains(&format!("byte {}", damage.offset)), "{text}");
    assert!(damage.consent.starts_with(dir) && text.contains("accept-loss-from-"), "{text}");
}

/// Opens once more after accepting the loss; the store must be usable, its revisions new.
async fn accept(dir: &Directory, damage: &Damage) -> Vec<(String, String)> {
    std::fs::write(&damage.consent, b"").unwrap();
    let store = Store::open(&dir.0, small()).unwrap();
    assert!(store.revision() > 1_000_000, "revisions that may have been seen are not reused");
    let kept = pairs(&store, "", None);
    let revision = store.propose(put("after", "1", Expect::Absent)).await.unwrap().revision;
    store.close().await;
    assert!(!damage.consent.exists());
    let store = Store::open(&dir.0, small()).unwrap();
    assert_eq!(store.get("after").unwrap().unwrap().revision, revision);
    kept
}

#[tokio::test]
async fn a_log_file_that_was_cut_is_refused_at_every_byte() {
    let written = written(&[10, 300, 50, 200, 420, 90]).await;
    let last_two = written.extents[4].0..=written.extents[5].1;
    for cut in last_two.step_by(1) {
        let dir = Directory::copy_of(&written.dir.0);
        segment(&dir).set_len(cut).unwrap();
        let damage = damage(Store::open(&dir.0, small()));
        check_message(&damage, &dir.0);
        // Refusing changes nothing: the next start says the same.
        if cut % 64 == 0 {
            assert_eq!(segment(&dir).metadata().unwrap().len(), cut);
            let whole = written.extents.iter().filter(|(_, end)| *end <= cut).count();
            let kept = accept(&dir, &damage).await;
            assert!(kept.len() >= whole, "cut at {cut}");
            assert_eq!(kept, written.pairs[..kept.len()], "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_write_that_stopped_at_any_byte_keeps_everything_before() {
    let written = written(&[10, 300, 50, 200, 420, 1400]).await;
    let (begin, end) = (written.extents[4].0, written.extents[5].1);
    for stop in begin..=end {
        let dir = Directory::copy_of(&written.dir.0);
        let file = segment(&dir);
        file.write_all_at(&vec![0; (end - stop) as usize], stop).unwrap();
        let store = Store::open(&dir.0, small()).unwrap();
        let kept = pairs(&store, "", None);
        let whole = written.extents.iter().filter(|(_, end)| *end <= stop).count();
        assert!(kept.len() >= whole, "stopped at {stop}");
        assert_eq!(kept, written.pairs[..kept.len()], "stopped at {stop}");
        if stop % 128 == 0 {
            store.propose(put("after", "1", Expect::Absent)).await.unwrap();
            store.close().await;
            let store = Store::open(&dir.0, small()).unwrap();
            assert_eq!(pairs(&store, "after", None).len(), 1);
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_noticed_wherever_it_is() {
    let written = written(&[10, 300, 50, 200, 420, 90]).await;
    let end = written.extents[5].1;
    for at in 0..end + 1024 {
        let dir = Directory::copy_of(&written.dir.0);
        let file = segment(&dir);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << (at % 8);
        file.write_all_at(&byte, at).unwrap();
        match Store::open(&dir.0, small()) {
            Ok(store) => assert_eq!(pairs(&store, "", None), written.pairs, "flip at {at}"),
            Err(OpenError::Damaged(damage)) => {
                assert!(at < end, "flip at {at}");
                check_message(&damage, &dir.0);
                if at % 97 == 0 {
                    let kept = accept(&dir, &damage).await;
                    assert_eq!(kept, written.pairs[..kept.len()], "flip at {at}");
                }
            }
            Err(other) => panic!("flip at {at}: {other}"),
        }
    }
}

#[tokio::test]
async fn what_the_state_holds_already_may_be_damaged_in_the_log() {
    let dir = Directory::new();
    let store = Store::open(&dir.0, small()).unwrap();
    let value = "v".repeat(100_000);
    for number in 0..30 {
        let key = format!("k/{number:02}");
        store.propose(put(&key, &value, Expect::Absent)).await.unwrap();
    }
    // The commit runs beside the writes.
    for _ in 0..500 {
        if store.stats().commits > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(store.stats().commits > 0);
    store.propose(put("last", "1", Expect::Absent)).await.unwrap();
    let expected = pairs(&store, "", None);
    store.close().await;
    let segments = dir.segments();
    assert!(segments.len() < 20, "segments behind the state are removed: {}", segments.len());

    let store = Store::open(&dir.0, small()).unwrap();
    assert_eq!(pairs(&store, "", None), expected);
    drop(store);
    // Losing a segment in the middle, or the whole log, is damage and not an empty store.
    if segments.len() > 2 {
        let copy = Directory::copy_of(&dir.0);
        std::fs::remove_file(&copy.segments()[segments.len() - 2]).unwrap();
        check_message(&damage(Store::open(&copy.0, small())), &copy.0);
    }
    let copy = Directory::copy_of(&dir.0);
    for segment in copy.segments() {
        std::fs::remove_file(segment).unwrap();
    }
    let error = Store::open(&copy.0, small()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the log is missing"), "{error}");
    let copy = Directory::copy_of(&dir.0);
    std::fs::remove_file(copy.0.join("state/data.mdb")).unwrap();
    let error = Store::open(&copy.0, small()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the state is missing"), "{error}");
}

#[tokio::test]
async fn a_segment_of_another_store_is_refused() {
    let (one, two) = (written(&[10, 20]).await, written(&[10, 20, 30]).await);
    std::fs::copy(&two.dir.segments()[0], &one.dir.segments()[0]).unwrap();
    let damage = damage(Store::open(&one.dir.0, small()));
    assert!(damage.what.contains("another store"), "{damage}");
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_starts_again() {
    // Killed after the log was made, before the state knew of it; or while LMDB made its file.
    let dir = Directory::new();
    drop(Store::open(&dir.0, small()).unwrap());
    std::fs::remove_file(dir.0.join("state/data.mdb")).unwrap();
    drop(Store::open(&dir.0, small()).unwrap());
    let dir = Directory::new();
    std::fs::create_dir_all(dir.0.join("state")).unwrap();
    std::fs::write(dir.0.join("state/data.mdb"), vec![0; 8192]).unwrap();
    std::fs::create_dir_all(dir.0.join("log")).unwrap();
    std::fs::write(dir.0.join("log/00000000000000000002.new"), b"half").unwrap();
    let store = Store::open(&dir.0, small()).unwrap();
    store.propose(put("k", "1", Expect::Absent)).await.unwrap();
}

/// A member that has had a store votes and acknowledges no more without it.
#[tokio::test]
async fn a_store_that_is_gone_is_not_begun_again() {
    let Written { dir, pairs: kept, .. } = written(&[10, 20, 30]).await;
    let store = Store::open(&dir.0, edge_store::Options { begun: true, ..small() }).unwrap();
    assert_eq!(pairs(&store, "", None), kept, "one that is there opens as ever");
    store.close().await;
    for part in ["log", "state", ""] {
        let (path, aside) = (dir.0.join(part), dir.0.with_extension("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let opened = Store::open(&dir.0, edge_store::Options { begun: true, ..small() });
        let Err(OpenError::Missing { path: told }) = &opened else {
            panic!("{part} is gone: {:?}", opened.err().map(|e| e.to_string()))
        };
        assert_eq!(told, &path.components().collect::<std::path::PathBuf>());
        assert!(opened.err().unwrap().to_string().contains("edgectl server remove"));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::rename(&aside, &path).unwrap();
    }
    let store = Store::open(&dir.0, edge_store::Options { begun: true, ..small() }).unwrap();
    assert_eq!(pairs(&store, "", None), kept, "put back, it goes on");
    store.close().await;
}
