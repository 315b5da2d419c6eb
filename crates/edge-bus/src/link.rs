//! The life of a session's connections, one after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode as Reason, Packet, PingReq, PubAck};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::broker::write;
use crate::dial::Target;
use crate::enter::{Link, Lost, attempt, look, next};
use crate::session::{End, Event, Inner, SessionConfig};

/// A session that held this long was a good one: the next attempt comes at once.
const HELD: Duration = Duration::from_secs(2);

/// One that held this long and ends is tried again without a pause, where that is called eager:
/// an answer of any kind tells what has become of the broker.
const STOOD: Duration = Duration::from_millis(100);

/// A doubted connection must bring something within this time.
const DOUBT: Duration = Duration::from_secs(1);

/// Runs until the session is closed or dropped.
pub(crate) async fn run(
    mut config: SessionConfig,
    inner: Arc<Inner>,
    tag: u64,
    events: mpsc::Sender<(u64, Event)>,
) {
    let mut backoff = Backoff::new(crate::random::number(), config.eager);
    let (mut at, mut failed, mut told) = (0_usize, 0_usize, false);
    loop {
        let targets = config.targets.borrow_and_update().clone();
        if inner.outbox.closed().is_some() || targets.is_empty() {
            inner.ended.send_replace(true);
            if targets.is_empty() && config.targets.changed().await.is_ok() {
                continue;
            }
            return;
        }
        let target = targets[at % targets.len()].clone();
        let number = config.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let others = targets.len() > 1;
        let established = attempt(&config, &inner, &target, others, number).await;
        let lost = match established {
            Ok(link) => {
                (failed, told) = (0, false);
                let begin = tokio::time::Instant::now();
                let better = match config.prefer_first {
                    true => targets[..at % targets.len()].to_vec(),
                    false => Vec::new(),
                };
                let back = look(config.clone(), better, number);
                let held = hold(link, &mut config, &inner, tag, &events, (&target, number), back);
                let lost = held.await;
                if config.prefer_first {
                    // One step back: the step forward below leads to the first.
                    at = usize::MAX;
                }
                if begin.elapsed() >= HELD {
                    backoff.reset();
                }
                if config.eager && begin.elapsed() >= STOOD {
                    inner.nudge.notify_one();
                }
                lost
            }
            Err(lost) => lost,
        };
        let Lost { why, end } = lost;
        inner.counts.disconnects.one();
        if inner.outbox.closed().is_some() {
            inner.ended.send_replace(true);
            return;
        }
        tell(&target, &why, std::mem::replace(&mut told, true), config.prefer_first);
        let down = Event::Down { broker: target.name().to_owned(), why, end };
        if events.send((tag, down)).await.is_err() {
            return;
        }
        (at, failed) = (at.wrapping_add(1), failed + 1);
        // Others are tried at once; only after all of them there is a pause.
        if failed.is_multiple_of(targets.len()) {
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = inner.nudge.notified() => {}
                changed = config.targets.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Says once why there is no session. A broker of the user's own is somebody's to mend; one of ours
/// comes back by itself.
fn tell(target: &Target, why: &str, told: bool, users: bool) {
    match (told, users) {
        (true, _) => tracing::debug!("bus: session with broker {target}: {why}"),
        (false, true) => {
            tracing::warn!("bus: session with broker {target}: {why}; it is tried again");
        }
        (false, false) => tracing::info!("bus: session with broker {target}: {why}"),
    }
}

/// Holds an established link until it ends; returns why it did.
async fn hold(
    link: Link,
    config: &mut SessionConfig,
    inner: &Inner,
    tag: u64,
    events: &mpsc::Sender<(u64, Event)>,
    (target, number): (&Target, u32),
    back: impl Future<Output = ()>,
) -> Lost {
    let Link { mut reader, mut writer, mut buffer, keepalive, window, early } = link;
    let patience = config.patience.min(keepalive * 3 / 2);
    inner.counts.connects.one();
    inner.outbox.restart(window);
    inner.connection.store(number, Ordering::Release);
    inner.up.store(true, Ordering::Release);
    let broker: Arc<str> = target.name().into();
    let up = Event::Up { broker: broker.to_string(), connection: number };
    let broke = AtomicBool::new(false);
    let reading = async {
        if events.send((tag, up)).await.is_err() {
            return "nobody listens".to_owned();
        }
        for packet in early {
            if let Err(why) = received(packet, inner, &broker, tag, events).await {
                return why;
            }
        }
        // A pong comes for every ping, so silence for longer than between them is a dead peer.
        loop {
            let packet = match timeout(patience, next(&mut reader, &mut buffer)).await {
                Ok(Ok(packet)) => packet,
                Ok(Err(why)) => {
                    broke.store(true, Ordering::Relaxed);
                    return why;
                }
                Err(_) => return "silent".to_owned(),
            };
            inner.packets.fetch_add(1, Ordering::Relaxed);
            if let Err(why) = received(packet, inner, &broker, tag, events).await {
                return why;
            }
        }
    };
    let moved = async {
        while config.targets.changed().await.is_ok() {
            if !config.targets.borrow_and_update().contains(target) {
                return;
            }
        }
        std::future::pending().await
    };
    let why = tokio::select! {
        why = reading => why,
        () = write(&mut writer, &inner.outbox, true) => {
            broke.store(inner.outbox.closed().is_none(), Ordering::Relaxed);
            "closed, or it takes nothing".to_owned()
        }
        () = doubted(inner) => "its board has a new process, and it says nothing".to_owned(),
        () = pinging(inner, keepalive.min(patience / 2)) => "closed".to_owned(),
        () = back => "a broker further up the list is back".to_owned(),
        () = moved => "the broker is no longer listed".to_owned(),
    };
    inner.up.store(false, Ordering::Release);
    inner.counts.forgotten.add(inner.outbox.restart(window));
    let broke = broke.into_inner() && matches!(target, Target::Embedded(_));
    Lost { why, end: if broke { End::Broke } else { End::Other } }
}

/// Keeps the connection alive.
async fn pinging(inner: &Inner, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if !inner.outbox.answer(Packet::PingReq(PingReq)) {
            inner.outbox.answers_sent().await;
        }
    }
}

/// Resolves when the connection is doubted and brings nothing.
async fn doubted(inner: &Inner) {
    loop {
        inner.doubt.notified().await;
        let before = inner.packets.load(Ordering::Relaxed);
        inner.outbox.answer(Packet::PingReq(PingReq));
        tokio::time::sleep(DOUBT).await;
        if inner.packets.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

async fn received(
    packet: Packet,
    inner: &Inner,
    broker: &Arc<str>,
    tag: u64,
    events: &mpsc::Sender<(u64, Event)>,
) -> Result<(), String> {
    match packet {
        Packet::Publish(publish) => {
            let (id, qos) = (publish.pkid, publish.qos);
            let (broker, topic) = (broker.clone(), publish.topic);
            // A message must not hold on to the whole buffer that it was read into.
            let payload = match publish.payload.len() {
                0..=1024 => Bytes::copy_from_slice(&publish.payload),
                _ => publish.payload,
            };
            let event = Event::Message { broker, topic, payload, retained: publish.retain };
            if events.send((tag, event)).await.is_err() {
                return Err("nobody listens".into());
            }
            if qos == QoS::AtLeastOnce
                && !inner.outbox.answer(Packet::PubAck(PubAck::new(id, None)))
            {
                inner.outbox.answers_sent().await;
            }
            Ok(())
        }
        Packet::PubAck(ack) => {
            inner.outbox.acknowledged(ack.pkid);
            Ok(())
        }
        Packet::PingResp(_) => Ok(()),
        Packet::Disconnect(bye) if bye.reason_code == Reason::NormalDisconnection => {
            Err("ended by the broker".into())
        }
        Packet::Disconnect(bye) => Err(format!("ended by the broker: {:?}", bye.reason_code)),
        _ => Err("an unexpected packet".into()),
    }
}
