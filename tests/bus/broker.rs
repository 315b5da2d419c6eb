//! What the broker promises its clients: nothing lost to a reader that reads, retained messages,
//! wills, takeover.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_bus::session::{Refused, Testament};

use super::{Client, Pki, broker, topic, until, wish};

/// Messages of the large runs.
const MANY: u32 = 100_000;

async fn none_is_lost(qos: u8) {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let reader = Client::server(&pki, "r", broker.address(), wish(&[("raft/r", qos)]));
    let mut reader = reader.up().await;
    let writer = Client::server(&pki, "w", broker.address(), wish(&[])).up().await;
    let to = topic("raft/r");
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        for n in 0..MANY {
            let payload = Bytes::copy_from_slice(&n.to_be_bytes());
            while let Err(refused) = writer.session.publish(&to, payload.clone(), qos, false) {
                assert_eq!(refused, Refused::Full);
                writer.session.room().await;
            }
            if n % 512 == 0 {
                writer.session.room().await;
            }
        }
        writer
    });
    for n in 0..MANY {
        let (_, payload, _) = reader.message().await;
        assert_eq!(payload[..], n.to_be_bytes(), "lost, repeated or out of order");
    }
    eprintln!("{MANY} at QoS {qos}: {:?}", begin.elapsed());
    let writer = sending.await.unwrap();
    until("all acknowledged", || writer.session.waiting() == 0).await;
    let counters = broker.counters();
    assert_eq!((counters.dropped, counters.slow), (0, 0));
    assert_eq!((counters.received, counters.delivered), (MANY.into(), MANY.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_at_qos_0_none_lost() {
    none_is_lost(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_at_qos_1_none_lost() {
    none_is_lost(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_hundred_retained_are_delivered_and_cleared() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let writer = Client::server(&pki, "w", broker.address(), wish(&[])).up().await;
    for n in 0..1500 {
        let payload = Bytes::from(format!("payload {n}"));
        writer.session.publish(&topic(&format!("gone/w/{n}")), payload, 1, true).unwrap();
    }
    until("all kept", || broker.counters().retained == 1500).await;
    let all = |name| Client::server(&pki, name, broker.address(), wish(&[("gone/+/+", 0)])).up();
    let mut reader = all("r").await;
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..1500 {
        let (topic, payload, retained) = reader.message().await;
        assert!(retained);
        seen.insert(topic, payload);
    }
    assert_eq!(seen.len(), 1500);
    assert_eq!(seen[&topic("gone/w/77")], "payload 77");
    // A live one comes without the flag, an empty one clears and is passed on.
    writer.session.publish(&topic("gone/w/7"), "new".into(), 1, true).unwrap();
    writer.session.publish(&topic("gone/w/8"), Bytes::new(), 1, true).unwrap();
    assert_eq!(reader.message().await, (topic("gone/w/7"), "new".into(), false));
    assert_eq!(reader.message().await, (topic("gone/w/8"), Bytes::new(), false));
    until("one cleared", || broker.counters().retained == 1499).await;
    for n in 0..1500 {
        let to = topic(&format!("gone/w/{n}"));
        writer.session.publish(&to, Bytes::new(), 1, true).unwrap();
    }
    until("all cleared", || broker.counters().retained == 0).await;
    let mut late = all("late").await;
    writer.session.publish(&topic("gone/w/x"), "only this".into(), 1, false).unwrap();
    assert_eq!(late.message().await.1, "only this");
}

fn with_will(name: &'static str) -> super::Wishes {
    let make = move |_: &edge_bus::Target, number: u32| Testament {
        topic: topic(&format!("gone/{name}/b")),
        payload: format!("{name} {number}").into(),
    };
    super::Wishes { will: Some(Arc::new(make)), ..super::Wishes::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wills_come_after_a_crash_and_not_after_a_good_bye() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let watcher = Client::server(&pki, "w", broker.address(), wish(&[("gone/+/+", 0)]));
    let mut watcher = watcher.up().await;
    let polite = Client::server(&pki, "polite", broker.address(), with_will("polite")).up().await;
    polite.session.close().await;
    let crashing = Client::server(&pki, "crash", broker.address(), with_will("crash")).up().await;
    let begin = Instant::now();
    drop(crashing);
    assert_eq!(watcher.message().await.1, "crash 1");
    eprintln!("will after {:?}", begin.elapsed());
    assert_eq!(broker.counters().wills, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_session_of_the_same_id_takes_over() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let watcher = Client::server(&pki, "w", broker.address(), wish(&[("gone/+/+", 0)]));
    let mut watcher = watcher.up().await;
    let mut first = Client::server(&pki, "s", broker.address(), with_will("s")).up().await;
    let second = Client::server(&pki, "s", broker.address(), with_will("s"));
    let why = first.down().await;
    assert!(why.contains("SessionTakenOver"), "{why}");
    first.session.close().await;
    assert_eq!(watcher.message().await.1, "s 1");
    let _second = second.up().await;
    until("two clients", || broker.counters().clients == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_takes_no_delayed_acknowledgement() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let a = Client::server(&pki, "a", broker.address(), wish(&[("raft/a", 0)]));
    let b = Client::server(&pki, "b", broker.address(), wish(&[("raft/b", 0)]));
    let (mut a, mut b) = (a.up().await, b.up().await);
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        a.session.publish(&topic("raft/b"), "ping".into(), 0, false).unwrap();
        b.message().await;
        b.session.publish(&topic("raft/a"), "pong".into(), 0, false).unwrap();
        a.message().await;
        times.push(begin.elapsed() / 2);
    }
    times.sort();
    eprintln!("one way: median {:?}, p99 {:?}", times[100], times[198]);
    assert!(times[100] < Duration::from_millis(20), "Nagle and delayed acks cost 40 ms");
}
