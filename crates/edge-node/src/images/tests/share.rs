//! What a board gives to others: every layer comes out byte for byte as it went in.

use super::*;
use crate::images::disk::Blob;
use crate::images::share::Seen;
use tar::EntryType;

async fn all(store: &ImageStore, digest: &Digest, from: u64) -> Option<Vec<u8>> {
    let shared = store.share(digest)?;
    let mut pieces = store.read(shared, from).unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        bytes.extend_from_slice(&piece);
    }
    Some(bytes)
}

/// Layers that a plain packing of the tree would not give back.
fn strange() -> Vec<Vec<u8>> {
    let noise: Vec<u8> =
        (0..60_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(120));
    let whole = Tar::default()
        .dir("etc")
        .dir("usr/")
        .file("etc/passwd", b"root:x:0:0\n")
        .symlink("bin", "usr")
        .file("bin/tool", &noise)
        .link("usr/again", "bin/tool")
        .file(&long, b"long")
        .file("etc/.wh.gone", b"")
        .file(".wh..wh.plnk/99.1", b"left out, but part of the stream")
        .device(EntryType::Block, "dev/sda", 8, 0)
        .pax(b"mtime", b"1700000000.123456789")
        .file("empty", b"")
        .raw(EntryType::XGlobalHeader, b"global", b"18 comment=nothing\n", b"")
        .end();
    let mut padded = base();
    padded.extend_from_slice(&[0; 9000]);
    let twice = Tar::default().file("a/same", b"first").file("a/same", b"second").end();
    let replaced = Tar::default().file("d/x", &noise).file("d", b"now a file").end();
    let sparse = Tar::default()
        .pax(b"GNU.sparse.major", b"1")
        .pax(b"comment", b"x")
        .file("plain", b"x")
        .end();
    let headless = Tar::default().file("z", b"z").0;
    vec![whole, padded, twice, replaced, sparse, headless, Tar::default().end()]
}

#[tokio::test]
async fn layers_come_out_as_they_went_in() {
    let scratch = Scratch::new("share");
    let store = open(&scratch);
    for pack in [plain as fn(&[u8]) -> Vec<u8>, gzip, zstd] {
        for layer in strange() {
            let image = Sample::new(&[base(), layer.clone()], pack);
            load(&store, &image.oci(Some("me/strange:1"))).await.unwrap();
            let diff = Digest::of(&layer);
            assert_eq!(all(&store, &diff, 0).await.unwrap(), layer);
            for from in [1, 511, 512, 513, layer.len() as u64 / 2, layer.len() as u64 - 1] {
                let rest = &layer[usize::try_from(from).unwrap()..];
                assert_eq!(all(&store, &diff, from).await.unwrap(), rest, "from {from}");
            }
            for document in [&image.config, &image.manifest] {
                assert_eq!(all(&store, &Digest::of(document), 0).await.unwrap(), *document);
            }
            assert_eq!(store.told("me/strange:1"), Some(Digest::of(&image.manifest)));
            assert_eq!(
                all(&store, &Digest::of(&pack(&layer)), 0).await.is_some(),
                pack(&layer) == layer
            );
            store.remove("me/strange:1").unwrap();
            assert_eq!(all(&store, &diff, 0).await, None);
        }
    }
    assert!(store.holds().is_empty());
}

#[tokio::test]
async fn the_way_back_survives_a_restart_and_costs_little() {
    let scratch = Scratch::new("recipe");
    let mut tar = Tar::default();
    for n in 0..500 {
        tar = tar.file(&format!("usr/share/doc/package-{n}/copyright"), b"text of some length\n");
    }
    let layer = tar.end();
    let image = Sample::new(std::slice::from_ref(&layer), gzip);
    drop(load(&open(&scratch), &image.oci(Some("me/docs:1"))).await.unwrap());
    let store = open(&scratch);
    assert_eq!(all(&store, &Digest::of(&layer), 0).await.unwrap(), layer);
    let dir = fs::read_dir(scratch.0.join("images/layers")).unwrap().next().unwrap().unwrap();
    let recipe = fs::metadata(dir.path().join("recipe")).unwrap().len();
    // 500 headers and as many paddings in less than 40 bytes an entry.
    assert!(recipe < 20_000, "{recipe}");
    assert!(!dir.path().join("blob").exists());
}

#[tokio::test]
async fn what_arrives_is_given_on_but_for_its_end() {
    let scratch = Scratch::new("arriving");
    let store = open(&scratch);
    let content: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let (digest, length) = (Digest::of(&content), content.len() as u64);
    let file: Blob = Arc::new(store.0.ingest.file());
    fs::write(file.path(), &content[..100_000]).unwrap();
    let seen = store.arriving(&digest, &file, length);
    seen.send_replace(Seen { written: 100_000, whole: false });
    let mut pieces = store.read(store.share(&digest).unwrap(), 0).unwrap();
    let mut got = Vec::new();
    while got.len() < 100_000 {
        got.extend_from_slice(&pieces.recv().await.unwrap());
    }
    fs::write(file.path(), &content).unwrap();
    seen.send_replace(Seen { written: length, whole: false });
    while got.len() < content.len() - 64 * 1024 {
        got.extend_from_slice(&pieces.recv().await.unwrap());
    }
    assert!(pieces.try_recv().is_err());
    seen.send_replace(Seen { written: length, whole: true });
    while let Some(piece) = pieces.recv().await {
        got.extend_from_slice(&piece);
    }
    assert_eq!(got, content);
    // One that turns out wrong never ends well.
    let seen = store.arriving(&digest, &file, length);
    seen.send_replace(Seen { written: length, whole: false });
    let mut pieces = store.read(store.share(&digest).unwrap(), 0).unwrap();
    drop(seen);
    let mut got = 0;
    while let Some(piece) = pieces.recv().await {
        got += piece.len();
    }
    assert_eq!(got, content.len() - 64 * 1024);
    drop(file);
    assert!(store.share(&digest).is_none());
}
