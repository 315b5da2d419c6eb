//! Bytes that are no MQTT, packets over the bound, and messages that were changed, copied or
//! made up: dropped, counted, and nothing else happens.

use std::time::Duration;

use bytes::Bytes;

use super::boards::{Board, Cluster};
use super::rules::{answer, connack_length, connect};
use super::{Client, Pki, broker, topic, until, wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_and_malformed_packets_end_their_connection() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let (tls, at) = (pki.server("s"), broker.address());
    let skip = connack_length(&tls, at).await;
    let after = async |bytes: &[u8]| -> Vec<u8> {
        let all = [&connect("system:server:s"), bytes].concat();
        answer(&tls, at, &all, usize::MAX).await.split_off(skip)
    };
    // 256 KiB and a byte announced: refused before it comes.
    assert_eq!(after(&[0x30, 0x81, 0x80, 0x10]).await, [0xE0, 1, 0x95]);
    assert_eq!(after(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]).await, [0xE0, 1, 0x81]);
    assert_eq!(after(&[0xF0, 0]).await, [0xE0, 1, 0x81]);
    assert_eq!(after(&[0x82, 2, 0, 0]).await, [0xE0, 1, 0x81]);
    let counters = broker.counters();
    assert_eq!((counters.oversized, counters.malformed), (1, 3));
    // What does not begin with CONNECT, and a CONNECT that is too long.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xC0, 0], &[0x10, 0x80, 0x80, 0x10]] {
        assert!(answer(&tls, at, bytes, usize::MAX).await.is_empty(), "{bytes:?}");
    }
    until("all refused", || broker.counters().refused == 3).await;
    until("all left", || broker.counters().clients == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_neither_stop_nor_stain_the_broker() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let (tls, at) = (pki.server("s"), broker.address());
    let mut reader = Client::server(&pki, "r", at, wish(&[("raft/r", 1)])).up().await;
    let mut state = 0xDEAD_BEEF_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let subscribe = b"\x82\x14\x00\x01\x00\x00\x0eedge/c1/leader\x01\x00\x00";
    let publish = b"\x32\x13\x00\x0dedge/c1/raft/\x00\x01\x00x";
    for round in 0..60 {
        let mut bytes: Vec<u8> = match round % 3 {
            0 => (0..200).map(|_| next() as u8).collect(),
            1 => subscribe.repeat(4),
            _ => publish.repeat(4),
        };
        for _ in 0..3 {
            let at = next() as usize % bytes.len();
            bytes[at] = next() as u8;
        }
        let begin = if round % 7 == 0 { Vec::new() } else { connect("") };
        let all = [&begin[..], &bytes, &[0xE0, 0]].concat();
        let _ = tokio::time::timeout(Duration::from_millis(30), answer(&tls, at, &all, 4096)).await;
    }
    let writer = Client::server(&pki, "w", at, wish(&[])).up().await;
    writer.session.publish(&topic("raft/r"), "still there".into(), 1, false).unwrap();
    assert_eq!(reader.message().await.1, "still there");
    assert!(broker.counters().malformed > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_replayed_and_changed_messages_are_dropped_and_counted() {
    let cluster = Cluster::new();
    let (a, mut b) = (cluster.server("a").await, cluster.server("b").await);
    let at = b.bus.broker_address().unwrap();
    // An eavesdropper with b's own certificate, and with a's to speak with.
    let listen = super::Wishes {
        filters: vec![(topic("raft/b"), 0)],
        id: Some("system:server:b/tap".into()),
        ..super::Wishes::default()
    };
    let mut tap = Client::server(&cluster.pki, "b", at, listen).up().await;
    let speaker = super::Wishes { id: Some("system:server:a/x".into()), ..<_>::default() };
    let speaker = Client::server(&cluster.pki, "a", at, speaker).up().await;
    until("a reaches b", || a.bus.counters().sessions == 1).await;
    a.bus.send("b", "secret".into());
    assert_eq!(b.raft().await, ("a".into(), Bytes::from("secret")));
    let (_, sealed, _) = tap.message().await;
    assert!(!sealed.windows(6).any(|w| w == b"secret"), "sealed, not only authenticated");
    let before = b.bus.counters().drops;
    let to = topic("raft/b");
    let say = |bytes: Bytes| speaker.session.publish(&to, bytes, 1, false).unwrap();
    say(sealed.clone());
    let mut changed = sealed.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    say(changed.into());
    say("no seal".into());
    // The same message on another topic.
    speaker.session.publish(&topic("leader"), sealed.clone(), 1, false).unwrap();
    speaker.session.publish(&topic("beat/a"), sealed.clone(), 1, false).unwrap();
    until("all dropped", || {
        let drops = b.bus.counters().drops;
        drops.replayed - before.replayed == 1
            && drops.forged - before.forged == 1
            && drops.malformed - before.malformed == 3
    })
    .await;
    a.bus.send("b", "after".into());
    assert_eq!(b.raft().await.1, "after");
    // Another cluster's secret, over the same brokers.
    let stranger = cluster.with_secret([9; 32], "c").await;
    until("c reaches b", || stranger.bus.counters().sessions == 2).await;
    stranger.bus.send("b", "from a stranger".into());
    until("forged", || b.bus.counters().drops.forged - before.forged >= 2).await;
    drop::<Board>(stranger);
}
