//! Programs that are brought to a board: good ones, and all the others.

use std::path::PathBuf;

use bytes::Bytes;
use edge_api::release::{HEAD_BYTES, mark};
use edge_core::upgrade::Life;
use http_body_util::Full;

use super::*;

/// What `minisign -G -W` made, and what it signed with it.
const KEY: &str = "RWSezrqtCvZEzAZGfE/HWhiFHRbVt8GKqytAC2NHUnRyxjHmGkWcLwpN";
const SIGNED: &[u8] = b"hello boards\n";
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RUSezrqtCvZEzKbuzQ/BAoy8C9FnVjW9b5ds4MHG/qAx6ubCv8L67rxGyJVEwtHTlJW/m57nq/dRjiwJxJSuVK0OBpb\
    QMhLfkww=\n\
    trusted comment: edged 0.2.0 arm64\n\
    bjPuuvmeGiDjcBARdX9GRmBpczwrWv70nlTuf124Wx4wqubtqUJaN9KazzU6gfUKs1WSwAhhfYJhfCvYSzUADg==\n";

/// The least that passes for a program of this version.
fn program(version: &str) -> Vec<u8> {
    let mut file = std::fs::read("/proc/self/exe").unwrap()[..HEAD_BYTES].to_vec();
    // No tables, so that nothing of it is missing.
    file[32..48].fill(0);
    file[54..64].fill(0);
    file.extend(mark(version));
    file
}

fn offer(file: &[u8]) -> Offer {
    let digest = ring::digest::digest(&ring::digest::SHA256, file);
    let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Offer { bytes: file.len() as u64, sha256, signature: None, unsigned: true, downgrade: false }
}

struct Bench {
    upgrades: Arc<Upgrades>,
    again: watch::Receiver<bool>,
    dir: PathBuf,
}

impl Bench {
    fn new(name: &str, keys: &[&str]) -> Bench {
        let dir = std::env::temp_dir().join(format!("edged-up-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let version = Version::parse("0.1.0").unwrap();
        let own = Own { version, place: Target::Base, began: 0, pid: 0 };
        let keys = keys.iter().map(|key| PublicKey::parse(key).unwrap()).collect();
        let settings = Settings { home: Home::of(&dir), own, base: None, keys };
        let (upgrades, again) = Upgrades::new(settings);
        Bench { upgrades, again, dir }
    }

    async fn bring(&self, offer: &Offer, file: &[u8]) -> Result<Slot, String> {
        let body = Full::new(Bytes::copy_from_slice(file));
        let taken = self.upgrades.receive(offer, body).await;
        taken.map(|(slot, _)| slot).map_err(|error| error.to_string())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test]
async fn a_program_gets_a_slot_and_its_trial() {
    let mut bench = Bench::new("good", &[]);
    let file = program("0.2.0");
    assert_eq!(bench.bring(&offer(&file), &file).await, Ok(Slot::A));
    let home = Home::of(&bench.dir);
    assert_eq!(std::fs::read(home.program(Slot::A)).unwrap(), file);
    let state = home.read();
    assert_eq!(state.a.as_ref().unwrap().version.to_string(), "0.2.0");
    assert!(!bench.dir.join("upgrade/arriving").exists());
    // Brought again before its trial, it takes the same place.
    assert_eq!(bench.bring(&offer(&file), &file).await, Ok(Slot::A));
    assert!(bench.upgrades.begin(Slot::B, 60).unwrap_err().to_string().contains("slot b"));
    bench.upgrades.begin(Slot::A, 60).unwrap();
    bench.again.wait_for(|again| *again).await.unwrap();
    let line = bench.bring(&offer(&file), &file).await.unwrap_err();
    assert!(line.contains("on trial"), "{line}");
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let bench = Bench::new("bad", &[]);
    let file = program("0.2.0");
    let good = offer(&file);
    let mut other = file.clone();
    other[18] ^= 0xb7;
    let mut cut = file.clone();
    // It says that its sections are beyond its end.
    cut[40..48].copy_from_slice(&(1u64 << 20).to_le_bytes());
    let cases: &[(Offer, &[u8], &str)] = &[
        (good.clone(), &file[..file.len() - 1], "send it again"),
        (Offer { sha256: "00".into(), ..good.clone() }, &file, "not what was sent"),
        (Offer { bytes: 1 << 40, ..good.clone() }, &file, "edged at most 256"),
        (Offer { unsigned: false, ..good.clone() }, &file, "no upgrade-keys"),
        (offer(b"#!/bin/sh\n"), b"#!/bin/sh\n", "no program"),
        (offer(&other), &other, "machine"),
        (offer(&cut), &cut, "cut off"),
        (offer(&file[..HEAD_BYTES]), &file[..HEAD_BYTES], "is not edged"),
        (offer(&program("0.1.0")), &program("0.1.0"), "runs here already"),
        (offer(&program("0.3.0")), &program("0.3.0"), "too far ahead"),
        (offer(&program("0.0.9")), &program("0.0.9"), "say --allow-downgrade"),
    ];
    for (offer, file, word) in cases {
        let line = bench.bring(offer, file).await.unwrap_err();
        assert!(line.contains(word) && !line.contains('\n'), "{line}");
        let left: Vec<_> = std::fs::read_dir(bench.dir.join("upgrade"))
            .map_or(vec![], |all| all.map(|entry| entry.unwrap().file_name()).collect());
        assert!(left.is_empty(), "{word}: {left:?}");
    }
}

/// A body that says something, and then nothing more.
struct Endless(Option<Bytes>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(piece) => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(piece)))),
            None => std::task::Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing() {
    let bench = Bench::new("gone", &[]);
    let file = program("0.2.0");
    let offer = offer(&file);
    let arriving = bench.dir.join("upgrade/arriving");
    {
        let body = Endless(Some(Bytes::copy_from_slice(&file[..100])));
        let mut receiving = std::pin::pin!(bench.upgrades.receive(&offer, body));
        std::future::poll_fn(|cx| {
            assert!(receiving.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        assert_eq!(std::fs::read(&arriving).unwrap(), file[..100]);
        // The request ends here, as its connection does.
    }
    assert!(!arriving.exists());
    assert_eq!(bench.bring(&offer, &file).await, Ok(Slot::A), "and keeps nobody out");
}

#[tokio::test]
async fn what_was_meant_to_be_older_is_taken() {
    let bench = Bench::new("older", &[]);
    let file = program("0.0.9");
    let older = Offer { downgrade: true, ..offer(&file) };
    let arch = architecture();
    let version = Version::parse("0.0.9").unwrap();
    let line = bench.upgrades.check(&offer(&file), &version, arch).unwrap_err().to_string();
    assert!(line.contains("0.0.9 is older than 0.1.0"), "{line}");
    bench.upgrades.check(&older, &version, arch).unwrap();
    assert_eq!(bench.bring(&older, &file).await, Ok(Slot::A));
}

/// A board with room for one program, on which half of another lies since a power cut.
#[tokio::test]
async fn what_was_left_takes_no_room_from_what_comes() {
    let mut bench = Bench::new("left", &[]);
    let file = program("0.2.0");
    let offer = offer(&file);
    fn free(dir: &std::path::Path) -> Option<u64> {
        let left = std::fs::metadata(dir.join("arriving")).map_or(0, |file| file.len());
        let room = program("0.2.0").len() as u64 + (16 << 20);
        Some(room - left)
    }
    Arc::get_mut(&mut bench.upgrades).unwrap().free = free;
    let arriving = bench.dir.join("upgrade/arriving");
    let leave = || {
        std::fs::create_dir_all(arriving.parent().unwrap()).unwrap();
        std::fs::write(&arriving, &file[..file.len() / 2]).unwrap();
    };
    leave();
    let version = Version::parse("0.2.0").unwrap();
    bench.upgrades.check(&offer, &version, architecture()).unwrap();
    leave();
    let _other = bench.upgrades.busy.lock().await;
    let line = bench.upgrades.check(&offer, &version, architecture()).unwrap_err().to_string();
    assert!(line.contains("free") && arriving.exists(), "what arrives right now stays: {line}");
    drop(_other);
    assert_eq!(bench.bring(&offer, &file).await, Ok(Slot::A));
}

#[tokio::test]
async fn what_rots_is_noticed() {
    let bench = Bench::new("rot", &[]);
    let file = program("0.2.0");
    assert_eq!(bench.bring(&offer(&file), &file).await, Ok(Slot::A));
    let home = Home::of(&bench.dir);
    let put = home.read().a.unwrap();
    assert_eq!(home.expect_whole(Slot::A, &put), Ok(()));
    let mut rotten = file.clone();
    *rotten.last_mut().unwrap() ^= 1;
    let path = home.program(Slot::A);
    let said = |file: Option<&[u8]>| {
        match file {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        home.expect_whole(Slot::A, &put).unwrap_err()
    };
    assert!(said(Some(&rotten)).contains("its digest is another"));
    assert!(said(Some(&file[1..])).contains("bytes of"));
    assert!(said(None).contains("can't be read"));
}

#[tokio::test]
async fn signatures_are_asked_for_where_keys_are_known() {
    let bench = Bench::new("signed", &[KEY]);
    let file = program("0.2.0");
    let plain = offer(&file);
    let line = bench.bring(&plain, &file).await.unwrap_err();
    assert!(line.contains("bring its .minisig"), "whoever vouches for it: {line}");
    let wrong = Offer { signature: Some(SIGNATURE.into()), ..plain };
    let line = bench.bring(&wrong, &file).await.unwrap_err();
    assert!(line.contains("not made for this file"), "{line}");
    // What it was made for passes that, and fails as it is no program.
    let right = Offer { signature: Some(SIGNATURE.into()), ..offer(SIGNED) };
    let line = bench.bring(&right, SIGNED).await.unwrap_err();
    assert!(line.contains("no program"), "{line}");
}

#[test]
fn minisigns_own_signature_counts() {
    let keys = [PublicKey::parse(KEY).unwrap()];
    let mut hash = edge_core::upgrade::Blake2b::default();
    hash.update(SIGNED);
    let hash = hash.finish();
    let signature = edge_core::upgrade::Signature::parse(SIGNATURE).unwrap();
    assert_eq!(signature.verify(&keys, &hash, receive::ed25519), Ok(()));
    let other = SIGNATURE.replace("0.2.0", "0.3.0");
    let other = edge_core::upgrade::Signature::parse(&other).unwrap();
    let line = other.verify(&keys, &hash, receive::ed25519).unwrap_err().to_string();
    assert!(line.contains("comment"), "{line}");
}

/// What is typed beside a service that runs is told from a start of the service.
#[test]
fn a_process_that_runs_is_known_until_it_ends() {
    let own = life();
    assert!(own.began > 0 && !runs_beside(&own), "the calling one is not beside itself");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let began = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
    let other = Life { began: began.parse().unwrap(), pid: child.id(), ..own };
    assert!(runs_beside(&other));
    assert!(
        !runs_beside(&Life { began: other.began + 1, ..other.clone() }),
        "its number is reused"
    );
    assert!(!runs_beside(&Life { boot: "another".into(), ..other.clone() }));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!runs_beside(&other));
}
