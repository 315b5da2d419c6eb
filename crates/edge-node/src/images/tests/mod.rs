//! The store from outside: loading, naming, finding, removing, and what a crash leaves.

pub(super) mod samples;
mod share;

use super::*;
use samples::{Sample, Scratch, Tar, gzip, plain, zstd};
use std::fs;

fn base() -> Vec<u8> {
    Tar::default().dir("etc").file("etc/hostname", b"board\n").file("bin/app", b"#!app").end()
}

fn top(text: &[u8]) -> Vec<u8> {
    Tar::default().file("srv/page", text).file("etc/.wh.hostname", b"").end()
}

fn open(scratch: &Scratch) -> ImageStore {
    ImageStore::open(&scratch.0.join("images"), ImagesConfig::default()).unwrap()
}

async fn load(store: &ImageStore, archive: &[u8]) -> Result<Vec<String>, ImageError> {
    store.load(archive, &Progress::none()).await
}

#[tokio::test]
async fn an_archive_becomes_an_image_in_every_form() {
    let scratch = Scratch::new("forms");
    let store = open(&scratch);
    for form in ["plain", "gzip", "zstd"] {
        let pack = match form {
            "gzip" => gzip,
            "zstd" => zstd,
            _ => plain,
        };
        let image = Sample::new(&[base(), top(form.as_bytes())], pack);
        let name = format!("me/{form}:1");
        for archive in [image.oci(Some(&name)), pack(&image.oci(Some(&name)))] {
            let loaded = load(&store, &archive).await.unwrap();
            assert_eq!(loaded, [format!("docker.io/me/{form}:1")]);
        }
        let found = store.find(&name).unwrap();
        assert_eq!(found.layers.len(), 2);
        assert_eq!(fs::read(found.layers[1].join("srv/page")).unwrap(), form.as_bytes());
        assert_eq!(found.config.entrypoint, ["/bin/app"]);
        assert_eq!(found.config.working_dir, "/srv");
        assert_eq!(found.id, Digest::of(&image.config).to_string());
        let digest = found.digest.clone().unwrap();
        assert_eq!(found.image_id(), format!("docker.io/me/{form}@{digest}"));
    }
    // The base is there once, the tops three times.
    assert_eq!(fs::read_dir(scratch.0.join("images/layers")).unwrap().count(), 4);
    assert_eq!(fs::read_dir(scratch.0.join("images/ingest")).unwrap().count(), 0);
}

#[tokio::test]
async fn docker_archives_load_and_images_are_found_again_after_a_restart() {
    let scratch = Scratch::new("docker");
    let image = Sample::new(&[base(), top(b"x")], plain);
    let id = Digest::of(&image.config).to_string();
    {
        let store = open(&scratch);
        let loaded = load(&store, &image.docker(&["app:1", "app:2"])).await.unwrap();
        assert_eq!(loaded, ["docker.io/library/app:1", "docker.io/library/app:2"]);
        assert!(
            ImageStore::open(&scratch.0.join("images"), ImagesConfig::default())
                .unwrap_err()
                .to_string()
                .contains("another process has it open")
        );
    }
    let store = open(&scratch);
    for name in ["app:1", "docker.io/library/app:2", &id, &id[7..], &id[7..20]] {
        assert_eq!(store.find(name).expect(name).id, id);
    }
    for name in ["app", "app:3", "", "UPPER", &id[7..12]] {
        assert_eq!(store.find(name), None, "{name}");
    }
    let list = store.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].tags, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    assert!(list[0].bytes > 0);
}

#[tokio::test]
async fn an_archive_without_names_gives_ids() {
    let scratch = Scratch::new("nameless");
    let store = open(&scratch);
    let image = Sample::new(&[base()], gzip);
    let loaded = load(&store, &image.oci(None)).await.unwrap();
    assert_eq!(loaded, [Digest::of(&image.config).to_string()]);
    store.tag(&loaded[0], "named:1").unwrap();
    assert_eq!(store.find("named:1").unwrap().id, loaded[0]);
    assert!(store.tag("nothing:1", "x").is_err());
}

#[tokio::test]
async fn removing_takes_only_what_nobody_else_needs() {
    let scratch = Scratch::new("remove");
    let store = open(&scratch);
    let one = Sample::new(&[base(), top(b"1")], plain);
    let two = Sample::new(&[base(), top(b"2")], plain);
    load(&store, &one.oci(Some("one:1"))).await.unwrap();
    load(&store, &two.oci(Some("two:1"))).await.unwrap();
    store.tag("one:1", "one:again").unwrap();
    let layers = || fs::read_dir(scratch.0.join("images/layers")).unwrap().count();
    assert_eq!(layers(), 3);
    store.remove("one:1").unwrap();
    assert!(store.find("one:again").is_some());
    assert_eq!(layers(), 3);
    store.remove("one:again").unwrap();
    assert_eq!(layers(), 2);
    let left = store.find("two:1").unwrap();
    assert_eq!(fs::read(left.layers[0].join("bin/app")).unwrap(), b"#!app");
    store.remove(&left.id).unwrap();
    assert_eq!((layers(), store.list().len()), (0, 0));
    let error = store.remove("two:1").unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }));
    assert_eq!(fs::read_dir(scratch.0.join("images/documents")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_moved_tag_leaves_the_old_image_by_its_id() {
    let scratch = Scratch::new("moved");
    let store = open(&scratch);
    let old = Sample::new(&[top(b"old")], plain);
    let new = Sample::new(&[top(b"new")], plain);
    load(&store, &old.oci(Some("app:1"))).await.unwrap();
    load(&store, &new.oci(Some("app:1"))).await.unwrap();
    assert_eq!(store.find("app:1").unwrap().id, Digest::of(&new.config).to_string());
    assert!(store.find(Digest::of(&old.config).as_str()).is_some());
    assert_eq!(store.list().iter().filter(|image| image.tags.is_empty()).count(), 1);
}

#[tokio::test]
async fn bad_archives_are_refused_in_one_line_and_leave_nothing() {
    let scratch = Scratch::new("bad");
    let store = open(&scratch);
    let image = Sample::new(&[base()], gzip);
    let whole = image.oci(Some("app:1"));
    let lie = Sample::with_config(&[base()], gzip, |config| {
        config["rootfs"]["diff_ids"][0] = Digest::of(b"lie").as_str().into();
    });
    let foreign = Sample::with_config(&[base()], gzip, |config| {
        config["architecture"] = "s390x".into();
    });
    let mut flipped = whole.clone();
    let at = whole.windows(4).position(|w| w == [0x1f, 0x8b, 8, 0]).unwrap() + 30;
    flipped[at] ^= 1;
    let no_blobs = Tar::default().file("index.json", &{
        let digest = Digest::of(b"gone");
        format!(r#"{{"manifests":[{{"digest":"{digest}","size":4}}]}}"#).into_bytes()
    });
    let html = b"<!doctype html><html><body>Log in</body></html>".repeat(20);
    for (archive, word) in [
        (whole[..whole.len() / 1024 * 512 + 100].to_vec(), "cut off"),
        (gzip(&whole)[..500].to_vec(), "malformed"),
        (Vec::new(), "neither index.json"),
        (html, "no tar archive"),
        (flipped, "corrupt"),
        (lie.oci(Some("lie:1")), "corrupt"),
        (foreign.oci(Some("foreign:1")), "no match for platform in manifest"),
        (foreign.docker(&["foreign:1"]), "linux/s390x"),
        (no_blobs.end(), "missing from it"),
        (Tar::default().file("manifest.json", b"<html>").end(), "HTML"),
        (Tar::default().file("manifest.json", b"[]").end(), "no images"),
        (Tar::default().file("../manifest.json", b"[]").end(), "leads out"),
        (image.oci(Some("Not A Name")), "invalid reference format"),
    ] {
        let error = load(&store, &archive).await.expect_err(word).to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert_eq!(error.lines().count(), 1);
        assert_eq!(store.list(), []);
        assert_eq!(fs::read_dir(scratch.0.join("images/ingest")).unwrap().count(), 0, "{word}");
        assert_eq!(fs::read_dir(scratch.0.join("images/layers")).unwrap().count(), 0, "{word}");
    }
    assert_eq!(load(&store, &whole).await.unwrap().len(), 1);
}

#[tokio::test]
async fn whatever_is_not_whole_is_gone_after_a_restart() {
    let scratch = Scratch::new("restart");
    let dir = scratch.0.join("images");
    let image = Sample::new(&[base(), top(b"x")], plain);
    let layers = {
        let store = open(&scratch);
        load(&store, &image.oci(Some("app:1"))).await.unwrap();
        store.find("app:1").unwrap().layers
    };
    fs::create_dir_all(dir.join("ingest/dir-9/tree/deep")).unwrap();
    fs::write(dir.join("ingest/file-8"), b"half").unwrap();
    fs::create_dir_all(dir.join("layers/0123/tree")).unwrap();
    fs::write(dir.join("documents/junk"), b"{}").unwrap();
    let store = open(&scratch);
    assert_eq!(fs::read_dir(dir.join("ingest")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.join("layers")).unwrap().count(), 2);
    assert_eq!(fs::read_dir(dir.join("documents")).unwrap().count(), 2);
    assert!(store.find("app:1").is_some());
    drop(store);
    // A layer that lost its record is no layer, and an image without it is none.
    fs::remove_file(layers[0].parent().unwrap().join("layer.json")).unwrap();
    let store = open(&scratch);
    assert_eq!(store.list(), []);
    assert_eq!(fs::read_dir(dir.join("layers")).unwrap().count(), 0);
    load(&store, &image.oci(Some("app:1"))).await.unwrap();
    drop(store);
    // A document that rotted is not believed.
    let config = dir.join("documents").join(Digest::of(&image.config).hex());
    fs::write(config, b"{}").unwrap();
    assert_eq!(open(&scratch).find("app:1"), None);
    // A damaged index is not thrown away in silence.
    fs::write(dir.join("index.json"), b"{").unwrap();
    let error = ImageStore::open(&dir, ImagesConfig::default()).unwrap_err().to_string();
    assert!(error.contains("index.json is corrupt"), "{error}");
}

#[tokio::test]
async fn the_same_image_many_times_at_once_is_unpacked_once() {
    let scratch = Scratch::new("concurrent");
    let store = open(&scratch);
    let image = Sample::new(&[base(), top(b"x")], gzip);
    let archive = image.oci(Some("app:1"));
    let loads = (0..6).map(|_| load(&store, &archive));
    for result in futures_util::future::join_all(loads).await {
        assert_eq!(result.unwrap(), ["docker.io/library/app:1"]);
    }
    assert_eq!(fs::read_dir(scratch.0.join("images/layers")).unwrap().count(), 2);
    assert!(store.state().held.is_empty());
}

#[tokio::test]
async fn a_full_disk_takes_the_longest_unused_image() {
    use edge_core::image_gc::{Policy, Usage};
    use std::collections::BTreeSet;
    let scratch = Scratch::new("collect");
    let store = open(&scratch);
    for name in ["a:1", "b:1", "c:1"] {
        let image = Sample::new(&[base(), top(name.as_bytes())], plain);
        load(&store, &image.oci(Some(name))).await.unwrap();
    }
    let policy = Policy::default();
    let full = Usage { capacity: 1000, available: 10 };
    let minute = 60_000;
    let in_use = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
    let collect = |names: &[&str], usage: Usage, now: i64| {
        store.collect_at(&in_use(names), &BTreeSet::new(), &policy, usage, now * minute).unwrap()
    };
    assert_eq!(collect(&["a:1", "b:1"], full, 1).removed.len(), 0);
    let roomy = Usage { capacity: 1000, available: 999 };
    assert_eq!(collect(&["a:1"], roomy, 2), Collected::default());
    let gone = collect(&["b:1"], full, 5);
    assert_eq!(gone.removed.len(), 2);
    assert!(gone.bytes > 0 && gone.wanted == 190);
    assert!(store.find("b:1").is_some() && store.find("a:1").is_none());
    assert_eq!(fs::read_dir(scratch.0.join("images/layers")).unwrap().count(), 2);
}
