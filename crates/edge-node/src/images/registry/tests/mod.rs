//! Pulls from the pretended registry, well-behaved and not.

pub(in crate::images) mod pretend;

use super::super::tests::samples::{Sample, Scratch, Tar, gzip, plain, zstd};
use super::super::{ImagesConfig, Platform};

use super::*;
use pretend::{Manners, Registry};
use serde_json::json;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

fn layer(text: &str) -> Vec<u8> {
    let noise: Vec<u8> =
        (0..40_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    Tar::default().file("noise", &noise).file("text", text.as_bytes()).end()
}

fn sample(text: &str) -> Sample {
    Sample::new(&[layer("base"), layer(text)], gzip)
}

fn open(scratch: &Scratch, hosts: serde_json::Value) -> ImageStore {
    let timing = Timing {
        connect: Duration::from_secs(5),
        read: Duration::from_millis(500),
        backoff: Duration::from_millis(1),
        attempts: 3,
    };
    let registries = serde_json::from_value(hosts).unwrap();
    let config = ImagesConfig { registries, timing, platform: Platform::host(), lan: None };
    ImageStore::open(&scratch.0.join("images"), config).unwrap()
}

async fn pull(store: &ImageStore, name: &str) -> Result<Image, ImageError> {
    store.pull(name, &[], &Progress::none()).await
}

#[tokio::test]
async fn a_plain_loopback_registry_needs_no_configuration() {
    let scratch = Scratch::new("pull");
    let store = open(&scratch, json!({}));
    let registry = Registry::start(Manners::default()).await;
    registry.push("me/app", "1", &sample("one"));
    let name = registry.name("me/app:1");
    let image = pull(&store, &name).await.unwrap();
    assert_eq!(image.reference, name);
    assert_eq!(std::fs::read(image.layers[1].join("text")).unwrap(), b"one");
    assert_eq!(store.find(&name).unwrap(), image);
    let digest = image.digest.clone().unwrap();
    let pinned = registry.name(&format!("me/app@{digest}"));
    assert_eq!(image.image_id(), pinned);
    assert_eq!(store.find(&pinned).unwrap().id, image.id);
    // Again: one HEAD, nothing else. Pinned: not even that.
    let before = registry.log.lock().unwrap().len();
    pull(&store, &name).await.unwrap();
    pull(&store, &pinned).await.unwrap();
    assert_eq!(registry.log.lock().unwrap().len(), before + 1);
    // The tag moves: only the new layer is fetched.
    let blobs = registry.count("/blobs/");
    registry.push("me/app", "1", &sample("two"));
    let moved = pull(&store, &name).await.unwrap();
    assert_ne!(moved.id, image.id);
    assert_eq!(registry.count("/blobs/"), blobs + 2);
    assert!(store.find(&pinned).is_some());
}

#[tokio::test]
async fn tokens_and_passwords_open_what_they_fit() {
    let scratch = Scratch::new("auth");
    let header = RegistryAuth::basic("", "me", "secret").header();
    let header: &'static str = Box::leak(header.into_boxed_str());
    for (token, password) in [(true, None), (true, Some(header)), (false, Some(header))] {
        let registry = Registry::start(Manners { token, password, ..<_>::default() }).await;
        registry.push("a", "1", &sample("secret"));
        let (name, store) = (registry.name("a:1"), open(&scratch, json!({})));
        let wrong = RegistryAuth::basic(&registry.authority, "me", "wrong");
        let right = RegistryAuth::basic(&registry.authority, "me", "secret");
        let elsewhere = RegistryAuth::basic("other.io", "me", "secret");
        if password.is_some() {
            for auth in [vec![], vec![wrong.clone()], vec![elsewhere]] {
                let error = store.pull(&name, &auth, &Progress::none()).await.unwrap_err();
                assert!(matches!(error, ImageError::Denied { .. }), "{error}");
                assert!(error.to_string().contains("imagePullSecrets"));
            }
        }
        store.pull(&name, &[wrong, right], &Progress::none()).await.unwrap();
        assert!(registry.count("[]") > 0);
        if token {
            assert!(registry.count("service=here") >= 1);
            assert!(registry.count("scope=repository%3Aa%3Apull") >= 1);
        }
    }
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let scratch = Scratch::new("redirect");
    let store = open(&scratch, json!({}));
    let elsewhere = Registry::start(Manners::default()).await;
    let registry = Registry::start(Manners { token: true, ..<_>::default() }).await;
    *registry.manners.redirect.lock().unwrap() = Some(elsewhere.authority.clone());
    let image = sample("moved");
    registry.push("a", "1", &image);
    elsewhere.push("a", "1", &image);
    pull(&store, &registry.name("a:1")).await.unwrap();
    assert_eq!(elsewhere.count("signature=x"), 3);
    assert_eq!(elsewhere.count("Bearer"), 0);
    assert!(registry.count("Bearer") >= 4);
    *elsewhere.manners.redirect.lock().unwrap() = Some(elsewhere.authority.clone());
    store.remove(&registry.name("a:1")).unwrap();
    let error = pull(&store, &registry.name("a:1")).await.unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let scratch = Scratch::new("resume");
    for no_ranges in [false, true] {
        let store = open(&scratch, json!({}));
        let manners = Manners {
            breaks: AtomicU32::new(2),
            break_after: 30_000,
            no_ranges,
            errors: AtomicU32::new(1),
            ..Manners::default()
        };
        let registry = Registry::start(manners).await;
        registry.push("a", "1", &Sample::new(&[layer("resumed")], zstd));
        pull(&store, &registry.name("a:1")).await.unwrap();
        assert_eq!(registry.count("bytes=30000-"), if no_ranges { 2 } else { 1 });
        assert_eq!(registry.count("bytes=60000-"), usize::from(!no_ranges));
        store.remove(&registry.name("a:1")).unwrap();
    }
}

#[tokio::test]
async fn what_does_not_match_its_digest_is_fetched_anew_once_and_then_refused() {
    let scratch = Scratch::new("lies");
    let store = open(&scratch, json!({}));
    for (lies, good) in [(1, true), (9, false)] {
        let manners = Manners { lies: AtomicU32::new(lies), ..<_>::default() };
        let registry = Registry::start(manners).await;
        registry.push("a", "1", &Sample::new(&[layer("truth")], plain));
        let result = pull(&store, &registry.name("a:1")).await;
        assert_eq!(result.is_ok(), good);
        match result {
            Ok(image) => store.remove(&image.id).unwrap(),
            Err(error) => {
                assert_eq!(error.reason(), "ErrImagePull");
                assert!(error.to_string().contains("digest mismatch"), "{error}");
            }
        }
    }
    assert_eq!(store.list(), []);
    assert_eq!(std::fs::read_dir(scratch.0.join("images/ingest")).unwrap().count(), 0);
}

#[tokio::test]
async fn every_refusal_is_one_clear_line() {
    let scratch = Scratch::new("refusals");
    let store = open(&scratch, json!({}));
    let registry = Registry::start(Manners::default()).await;
    let foreign = Sample::with_config(&[layer("x")], gzip, |c| c["architecture"] = "s390x".into());
    registry.push("foreign", "1", &foreign);
    {
        let mut content = registry.content.lock().unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [
            {"digest": Digest::of(b"x"), "size": 1,
                "platform": {"os": "linux", "architecture": "mips"}}]});
        content.insert("index/manifests/1".into(), index.to_string().into_bytes());
        content.insert("huge/manifests/1".into(), vec![b' '; 5 << 20]);
        content.insert("junk/manifests/1".into(), b"\x00\x01".to_vec());
        let lost = sample("lost");
        content.insert("lost/manifests/1".into(), lost.manifest.clone());
    }
    let html = Registry::start(Manners { html: true, ..<_>::default() }).await;
    let stall = Registry::start(Manners { stall: true, ..<_>::default() }).await;
    stall.push("a", "1", &sample("slow"));
    let busy = Manners { errors: AtomicU32::new(100), ..<_>::default() };
    let busy = Registry::start(busy).await;
    for (name, word) in [
        (registry.name("none:1"), "not found"),
        (registry.name("lost:1"), "not found"),
        (registry.name("foreign:1"), "no match for platform in manifest"),
        (registry.name("index:1"), "linux/mips"),
        (registry.name("huge:1"), "over 4194304 bytes"),
        (registry.name("junk:1"), "doesn't parse"),
        (html.name("a:1"), "HTML"),
        (stall.name("a:1"), "no byte came for too long"),
        (busy.name("a:1"), "no: BUSY"),
        ("127.0.0.1:1/a:1".into(), "connect"),
    ] {
        let error = pull(&store, &name).await.expect_err(&name);
        let text = error.to_string();
        assert!(text.contains(word), "{name}: {text}");
        assert_eq!((text.lines().count(), error.reason()), (1, "ErrImagePull"));
    }
    let error = pull(&store, "Not:A:Name").await.unwrap_err();
    assert_eq!(error.reason(), "InvalidImageName");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_when_they_fail() {
    let scratch = Scratch::new("mirrors");
    let (empty, mirror) =
        (Registry::start(<_>::default()).await, Registry::start(<_>::default()).await);
    mirror.push("library/app", "latest", &sample("mirrored"));
    let urls = [format!("http://{}", empty.authority), format!("http://{}/", mirror.authority)];
    let store = open(&scratch, json!({"docker.io": {"mirrors": urls}}));
    let image = pull(&store, "app").await.unwrap();
    assert_eq!(image.reference, "docker.io/library/app:latest");
    assert_eq!(empty.count("GET"), 1);
    assert!(mirror.count("ns=docker%2Eio") > 0);
}

#[tokio::test]
async fn one_image_wanted_by_many_is_fetched_once() {
    let scratch = Scratch::new("many");
    let store = open(&scratch, json!({}));
    let registry = Registry::start(Manners::default()).await;
    registry.push("a", "1", &sample("x"));
    registry.push("b", "1", &sample("y"));
    let names = ["a:1", "b:1", "a:1", "b:1", "a:1"].map(|name| registry.name(name));
    for result in futures_util::future::join_all(names.iter().map(|n| pull(&store, n))).await {
        result.unwrap();
    }
    // Two configurations, two layers of their own, and a base that both share.
    assert!(registry.count("/blobs/") <= 6, "{}", registry.count("/blobs/"));
    assert_eq!(std::fs::read_dir(scratch.0.join("images/layers")).unwrap().count(), 3);
}
