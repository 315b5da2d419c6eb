//! A disk that is really full: one clear line, nothing left behind, and what was there still works.

use crate::tools::{Room, run, skipped};
use edge_node::images::build::{Content, Item, archive};
use edge_node::images::{ImageConfig, ImageError, ImageStore, ImagesConfig, Progress};

fn image(name: &str, files: usize, size: usize) -> Vec<u8> {
    let item = |number: usize| Item {
        path: format!("/dir/file{number}"),
        content: Content::Bytes(vec![b'x'; size]),
    };
    let mut out = Vec::new();
    let items: Vec<Item> = (0..files).map(item).collect();
    archive(name, &items, &ImageConfig::default(), &mut out).unwrap();
    out
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    if skipped("a_full_disk_is_told_and_survived", &["mount"]) {
        return;
    }
    let room = Room::new("full");
    let disk = room.text("disk");
    std::fs::create_dir_all(&disk).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=12m", "none", &disk]);
    let store = ImageStore::open(&room.path("disk/store"), ImagesConfig::default()).unwrap();
    let load = async |bytes: &[u8]| store.load(bytes, &Progress::none()).await;
    load(&image("small:1", 10, 1000)).await.unwrap();
    for (name, files, size) in [
        // Does not fit even as an archive; fits as one but not unpacked beside it; and many small
        // files, whose blocks nobody can count beforehand.
        ("archive:1", 1, 20 << 20),
        ("layer:1", 1, 7 << 20),
        ("blocks:1", 3000, 100),
    ] {
        let error = load(&image(name, files, size)).await.unwrap_err();
        assert!(matches!(error, ImageError::Full { .. }), "{name}: {error}");
        assert_eq!((error.reason(), error.to_string().lines().count()), ("ErrImagePull", 1));
        assert_eq!(std::fs::read_dir(room.path("disk/store/ingest")).unwrap().count(), 0);
        assert_eq!(store.list().len(), 1);
    }
    load(&image("after:1", 10, 2000)).await.unwrap();
    drop(store);
    let store = ImageStore::open(&room.path("disk/store"), ImagesConfig::default()).unwrap();
    assert_eq!(store.list().len(), 2);
}
