//! `kill -9` at any moment of loading, replacing and removing images: what is there afterwards is
//! whole, what is not whole is gone, and the next load works.

use crate::tools::Room;
use edge_node::images::build::{Content, Item, archive};
use edge_node::images::{ImageConfig, ImageStore, ImagesConfig, Progress};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROOM: &str = "EDGE_IMAGES_CRASH_ROOM";
const IMAGES: usize = 3;
const FILES: usize = 300;
const ROUNDS: u64 = 25;

fn text(image: usize, file: usize) -> Vec<u8> {
    format!("image {image} file {file} ").repeat(1 + file % 60).into_bytes()
}

fn name(image: usize) -> String {
    format!("crash/image{image}:1")
}

fn make(image: usize, path: &Path) {
    let item = |file: usize| Item {
        path: format!("/dir{}/file{file}", file % 7),
        content: Content::Bytes(text(image, file)),
    };
    let items: Vec<Item> = (0..FILES).map(item).collect();
    let mut out = std::fs::File::create(path).unwrap();
    archive(&name(image), &items, &ImageConfig::default(), &mut out).unwrap();
}

async fn load(store: &ImageStore, room: &Path, image: usize) {
    let file = tokio::fs::File::open(room.join(format!("{image}.tar"))).await.unwrap();
    store.load(file, &Progress::none()).await.unwrap();
}

/// The victim: run by the test below in a process of its own, and nothing otherwise.
#[tokio::test]
async fn victim() {
    let Some(room) = std::env::var_os(ROOM).map(std::path::PathBuf::from) else { return };
    let store = ImageStore::open(&room.join("store"), ImagesConfig::default()).unwrap();
    std::fs::write(room.join("ready"), b"").unwrap();
    for round in 0.. {
        for image in 0..IMAGES {
            load(&store, &room, image).await;
        }
        store.tag(&name(0), "crash/other:1").unwrap();
        store.remove(&name(round % IMAGES)).unwrap();
        drop(store.remove("crash/other:1"));
    }
}

/// Opens the store and checks all of it; how many images were there.
fn check(room: &Path) -> usize {
    let store = ImageStore::open(&room.join("store"), ImagesConfig::default()).unwrap();
    let count = |dir: &str| std::fs::read_dir(room.join("store").join(dir)).unwrap().count();
    let list = store.list();
    assert_eq!((count("ingest"), count("layers")), (0, list.len()));
    assert_eq!(count("documents"), 2 * list.len());
    for image in (0..IMAGES).filter(|image| store.find(&name(*image)).is_some()) {
        let layer = &store.find(&name(image)).unwrap().layers[0];
        for file in 0..FILES {
            let path = layer.join(format!("dir{}/file{file}", file % 7));
            assert_eq!(std::fs::read(&path).unwrap(), text(image, file), "{}", path.display());
        }
    }
    list.len()
}

#[tokio::test]
async fn nothing_half_written_is_ever_used() {
    let room = Room::new("crash");
    for image in 0..IMAGES {
        make(image, &room.path(&format!("{image}.tar")));
    }
    let mut seen = [false; IMAGES + 1];
    for round in 0..ROUNDS {
        let _ = std::fs::remove_file(room.path("ready"));
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["crash::victim", "--exact", "--test-threads=1"])
            .env(ROOM, room.path(""))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !room.path("ready").exists() {
            assert!(
                started.elapsed() < Duration::from_secs(30) && victim.try_wait().unwrap().is_none()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        // Spread over everything that it does, differently on each run.
        let chance = u64::from(std::process::id()).wrapping_mul(round + 1) % 97;
        std::thread::sleep(Duration::from_millis(round * 13 + chance));
        victim.kill().unwrap();
        victim.wait().unwrap();
        seen[check(&room.path(""))] = true;
    }
    let store = ImageStore::open(&room.path("store"), ImagesConfig::default()).unwrap();
    for image in 0..IMAGES {
        load(&store, &room.path(""), image).await;
    }
    drop(store);
    assert_eq!(check(&room.path("")), IMAGES);
    assert!(seen.iter().filter(|seen| **seen).count() > 1, "the kills all hit the same moment");
}
