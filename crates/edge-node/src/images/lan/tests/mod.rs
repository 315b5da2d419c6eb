//! Boards that take images from each other, well-behaved and not.

mod village;

use crate::images::registry::tests::pretend::{Manners, Registry};
use crate::images::tests::samples::{Sample, Tar, gzip, plain};
use crate::images::{Digest, ImageError, Progress, RegistryAuth};
use edge_core::image_source::Want;
use futures_util::future::join_all;
use std::sync::{Arc, Mutex};
use village::{Board, Manner, Village};

fn noise(seed: u32) -> Vec<u8> {
    let numbers = (0..200_000u32).map(|n| n.wrapping_add(seed).wrapping_mul(2_654_435_761));
    let bytes: Vec<u8> = numbers.flat_map(|n| (n ^ (n >> 15)).to_le_bytes()).collect();
    Tar::default().dir("bin").file("bin/app", &bytes).file("name", &seed.to_le_bytes()).end()
}

async fn take(board: &Board, name: &str) -> Result<Vec<String>, ImageError> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let steps = told.clone();
    let progress = Progress::new(move |step| steps.lock().unwrap().push(step.to_string()));
    let pulled = board.store.obtain(name, &[], false, &progress).await;
    pulled.map(|_| told.lock().unwrap().clone())
}

/// Pushes a sample to one board of a village.
async fn push(village: &Village, board: &Board, name: &str, image: &Sample) {
    board.load(&image.oci(Some(name))).await;
    let full = format!("docker.io/library/{name}");
    village.server.pushed.lock().unwrap().insert(full, Digest::of(&image.manifest));
}

#[tokio::test]
async fn five_boards_at_once_take_a_pushed_image_from_each_other() {
    let village = Village::start().await;
    let first = village.board("first", Manner::Honest).await;
    let image = Sample::new(&[noise(1), noise(2)], plain);
    push(&village, &first, "app:1", &image).await;
    let mut boards = Vec::new();
    for n in 0..5 {
        boards.push(village.board(&format!("b{n}"), Manner::Honest).await);
    }
    for taken in join_all(boards.iter().map(|board| take(board, "app:1"))).await {
        taken.unwrap();
    }
    let size = (noise(1).len() + noise(2).len()) as u64;
    let documents = 4096;
    for board in boards.iter().chain([&first]) {
        assert_eq!(board.store.find("app:1").unwrap().id, Digest::of(&image.config).to_string());
    }
    let given: u64 = boards.iter().chain([&first]).map(Board::given).sum();
    assert!(given >= 5 * size && given <= 5 * size + 25 * documents, "{given}");
    let digest = boards[0].store.find("app:1").unwrap().digest.unwrap();
    assert_eq!(boards[0].store.find(&format!("app@{digest}")).unwrap().digest, Some(digest));
}

#[tokio::test]
async fn only_missing_layers_travel_and_a_moved_name_is_followed() {
    let village = Village::start().await;
    let (a, b) =
        (village.board("a", Manner::Honest).await, village.board("b", Manner::Honest).await);
    push(&village, &a, "app:1", &Sample::new(&[noise(1), noise(2)], gzip)).await;
    take(&b, "app:1").await.unwrap();
    let before = a.given();
    let second = Sample::new(&[noise(1), noise(3)], gzip);
    push(&village, &a, "app:1", &second).await;
    // A fresh look is taken by a policy of Always.
    b.store.obtain("app:1", &[], true, &Progress::none()).await.unwrap();
    assert_eq!(b.store.find("app:1").unwrap().id, Digest::of(&second.config).to_string());
    let travelled = a.given() - before;
    assert!(travelled < noise(3).len() as u64 + 8192, "{travelled}");
}

#[tokio::test]
async fn a_lying_board_is_found_out_and_another_is_used() {
    let village = Village::start().await;
    let image = Sample::new(&[noise(7)], plain);
    let liar = village.board("a-liar", Manner::Lies).await;
    push(&village, &liar, "app:1", &image).await;
    let victim = village.board("victim", Manner::Honest).await;
    // Alone, the liar makes the pull fail, and nothing is left of it.
    let error = take(&victim, "app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    assert!(victim.store.find("app:1").is_none() && victim.store.holds().is_empty());
    let honest = village.board("honest", Manner::Honest).await;
    honest.load(&image.oci(Some("app:1"))).await;
    take(&victim, "app:1").await.unwrap();
    assert!(honest.given() >= noise(7).len() as u64);
}

#[tokio::test]
async fn a_board_that_stalls_or_breaks_off_is_left_and_the_rest_comes_from_another() {
    for manner in [Manner::Stalls, Manner::Breaks] {
        let village = Village::start().await;
        let image = Sample::new(&[noise(9)], plain);
        let bad = village.board("a-bad", manner).await;
        push(&village, &bad, "app:1", &image).await;
        let good = village.board("good", Manner::Honest).await;
        let taker = village.board("taker", Manner::Honest).await;
        good.load(&image.oci(Some("app:1"))).await;
        // The good one has much to do, so the bad one is asked first.
        let other = Digest::of(&image.config).to_string();
        for busy in ["x", "y", "z"] {
            let refused = ["a-bad", "x", "y", "z"].map(|node| (node.to_owned(), other.clone()));
            let mut table = village.server.table.lock().unwrap();
            let want = Want {
                node: busy.to_owned(),
                digests: vec![other.clone()],
                refused: refused.into(),
                uplink: false,
            };
            table.want(&want, |_| true, 0, 0);
        }
        let steps = take(&taker, "app:1").await.unwrap();
        assert!(steps.iter().any(|step| step.contains("again: board a-bad")), "{steps:?}");
        // It went on where the bad one had stopped; what a broken connection held is lost.
        let (given, all) = (good.given(), noise(9).len() as u64);
        let most = if manner == Manner::Stalls { all * 2 / 3 } else { all };
        assert!(given > 0 && given <= most + 8192, "{manner:?} {given} of {all}");
    }
}

#[tokio::test]
async fn an_image_of_a_registry_crosses_the_uplink_once() {
    let village = Village::start().await;
    let registry = Registry::start(Manners::default()).await;
    let image = Sample::new(&[noise(11), noise(12)], gzip);
    registry.push("me/app", "1", &image);
    let name = registry.name("me/app:1");
    let mut boards = Vec::new();
    for n in 0..5 {
        boards.push(village.board(&format!("r{n}"), Manner::Honest).await);
    }
    let pull = async |board: &Board| {
        board.store.obtain(&name, &[], false, &Progress::none()).await.unwrap();
        board.tell().await;
    };
    join_all(boards.iter().map(pull)).await;
    for layer in &image.layers {
        assert_eq!(registry.count(&format!("blobs/{}", Digest::of(layer))), 1);
    }
    // A board that comes later needs no registry at all, unless its pod wants a fresh look.
    let before = registry.log.lock().unwrap().len();
    let later = village.board("later", Manner::Honest).await;
    pull(&later).await;
    assert_eq!(registry.log.lock().unwrap().len(), before);
    let fresh = village.board("fresh", Manner::Honest).await;
    fresh.store.obtain(&name, &[], true, &Progress::none()).await.unwrap();
    assert_eq!(registry.log.lock().unwrap()[before..].len(), 1);
    assert!(registry.log.lock().unwrap()[before].starts_with("HEAD"));
}

#[tokio::test]
async fn a_private_image_still_takes_the_secret() {
    let village = Village::start().await;
    let password = Some("Basic bWU6c2VjcmV0");
    let registry = Registry::start(Manners { password, ..Manners::default() }).await;
    let image = Sample::new(&[noise(21)], gzip);
    registry.push("me/app", "1", &image);
    let name = registry.name("me/app:1");
    let auth = RegistryAuth::from_docker_config_json(
        format!(r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.authority).as_bytes(),
    )
    .unwrap();
    let one = village.board("one", Manner::Honest).await;
    one.store.obtain(&name, &auth, false, &Progress::none()).await.unwrap();
    one.tell().await;
    assert!(one.store.names().is_empty() && one.store.told(&name).is_none());
    let two = village.board("two", Manner::Honest).await;
    let digest = one.store.find(&name).unwrap().digest.unwrap();
    for reference in [name.clone(), registry.name(&format!("me/app@{digest}"))] {
        let denied = two.store.obtain(&reference, &[], false, &Progress::none()).await;
        assert!(matches!(denied, Err(ImageError::Denied { .. })), "{reference}");
    }
    // With it, the registry confirms, and the layers come from the board that has them.
    two.store.obtain(&name, &auth, false, &Progress::none()).await.unwrap();
    assert_eq!(registry.count(&format!("blobs/{}", Digest::of(&image.layers[0]))), 1);
}

#[tokio::test]
async fn what_nobody_has_fails_in_one_line() {
    let village = Village::start().await;
    let board = village.board("alone", Manner::Honest).await;
    let digest = Digest::of(b"gone");
    let name = "docker.io/library/gone:1".to_owned();
    village.server.pushed.lock().unwrap().insert(name, digest.clone());
    let error = take(&board, "gone:1").await.unwrap_err().to_string();
    assert!(error.contains(digest.as_str()) && error.lines().count() == 1, "{error}");
}
