//! The life of a session's connections, one after another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode as Reason, Filter,
    LastWill, Login, Packet, PingReq, PubAck, Subscribe, SubscribeReasonCode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::broker::write;
use crate::dial::{Stream, Target, dial};
use crate::packet::{Broken, MAX_PACKET, put, take};
use crate::session::{Event, Inner, SessionConfig};

/// From the first packet of TCP to the answer to SUBSCRIBE.
const ESTABLISH: Duration = Duration::from_secs(4);

/// The same where another broker can be tried.
const ESTABLISH_OF_MANY: Duration = Duration::from_millis(1500);

/// Publishes at QoS 1 that a broker may have under way towards us.
const RECEIVE_MAXIMUM: u16 = 256;

/// Publishes at QoS 1 under way towards a broker, whatever more it would take.
const WINDOW: u16 = 256;

/// A session that held this long was a good one: the next attempt comes at once.
const HELD: Duration = Duration::from_secs(2);

/// How often a board at a broker further down the list looks whether one further up is back.
const LOOK: Duration = Duration::from_secs(3);

/// What was established.
struct Link {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    keepalive: Duration,
    window: u16,
    /// Publishes that came before the answer to SUBSCRIBE.
    early: Vec<Packet>,
}

/// Runs until the session is closed or dropped.
pub(crate) async fn run(
    mut config: SessionConfig,
    inner: Arc<Inner>,
    tag: u64,
    events: mpsc::Sender<(u64, Event)>,
) {
    let mut backoff = Backoff::new(crate::random::number());
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
        let limit = if others { ESTABLISH_OF_MANY } else { ESTABLISH };
        let established = timeout(limit, establish(&config, &target, others, number)).await;
        let established =
            established.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
        let why = match established {
            Ok(link) => {
                (failed, told) = (0, false);
                let begin = tokio::time::Instant::now();
                let better = match config.prefer_first {
                    true => targets[..at % targets.len()].to_vec(),
                    false => Vec::new(),
                };
                let back = look(config.clone(), better, number);
                let held = hold(link, &mut config, &inner, tag, &events, (&target, number), back);
                let why = held.await;
                if config.prefer_first {
                    // One step back: the step forward below leads to the first.
                    at = usize::MAX;
                }
                if begin.elapsed() >= HELD {
                    backoff.reset();
                }
                why
            }
            Err(why) => why,
        };
        inner.counts.disconnects.one();
        if inner.outbox.closed().is_some() {
            inner.ended.send_replace(true);
            return;
        }
        tell(&target, &why, std::mem::replace(&mut told, true), config.prefer_first);
        let down = Event::Down { broker: target.name().to_owned(), why };
        if events.send((tag, down)).await.is_err() {
            return;
        }
        (at, failed) = (at.wrapping_add(1), failed + 1);
        // Others are tried at once; only after all of them there is a pause.
        if failed.is_multiple_of(targets.len()) {
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                changed = config.targets.changed() => if changed.is_err() { return },
            }
        }
    }
}

async fn establish(
    config: &SessionConfig,
    target: &Target,
    others: bool,
    number: u32,
) -> Result<Link, String> {
    let stream = dial(target, others, &config.tls).await.map_err(|e| e.to_string())?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(4096);
    // The codec writes a CONNECT right only into an empty buffer.
    let mut hello = BytesMut::new();
    put(&connect(config, target, number), &mut hello);
    let lost = |e: std::io::Error| format!("lost: {e}");
    writer.write_all(&hello).await.map_err(lost)?;
    writer.flush().await.map_err(lost)?;
    let Packet::ConnAck(ack) = next(&mut reader, &mut buffer).await? else {
        return Err("an answer that is no CONNACK".into());
    };
    let (keepalive, window) = accepted(&ack, config.keepalive)?;
    let mut early = Vec::new();
    if !config.filters.is_empty() {
        let filters = config.filters.iter().map(|(path, qos)| {
            let qos = if *qos > 0 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            Filter::new(path.clone(), qos)
        });
        let mut subscribe = Subscribe::new_many(filters, None);
        subscribe.pkid = 1;
        let mut bytes = BytesMut::new();
        put(&Packet::Subscribe(subscribe), &mut bytes);
        writer.write_all(&bytes).await.map_err(lost)?;
        writer.flush().await.map_err(lost)?;
        loop {
            match next(&mut reader, &mut buffer).await? {
                Packet::SubAck(ack) => {
                    let granted =
                        |c: &SubscribeReasonCode| matches!(c, SubscribeReasonCode::Success(_));
                    match ack.return_codes.iter().find(|c| !granted(c)) {
                        None => break,
                        Some(code) => return Err(format!("a subscription was refused: {code:?}")),
                    }
                }
                publish @ Packet::Publish(_) if early.len() < usize::from(RECEIVE_MAXIMUM) => {
                    early.push(publish);
                }
                Packet::Disconnect(bye) => return Err(format!("ended: {:?}", bye.reason_code)),
                _ => return Err("an unexpected packet".into()),
            }
        }
    }
    Ok(Link { reader, writer, buffer, keepalive, window, early })
}

fn connect(config: &SessionConfig, target: &Target, number: u32) -> Packet {
    let will = config.will.as_ref().map(|make| {
        let will = make(target, number);
        LastWill::new(will.topic, will.payload.to_vec(), QoS::AtMostOnce, false, None)
    });
    let login = match target {
        Target::External(broker) if broker.user.is_some() || broker.password.is_some() => {
            let (user, password) = (broker.user.clone(), broker.password.clone());
            Some(Login::new(user.unwrap_or_default(), password.unwrap_or_default()))
        }
        _ => None,
    };
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(0);
    properties.receive_maximum = Some(RECEIVE_MAXIMUM);
    properties.max_packet_size = Some(MAX_PACKET as u32);
    let connect = Connect {
        keep_alive: config.keepalive.as_secs().clamp(1, 3600) as u16,
        client_id: config.client_id.clone(),
        clean_start: true,
        properties: Some(properties),
    };
    Packet::Connect(connect, will, login)
}

/// What a CONNACK grants: keepalive and window.
fn accepted(ack: &ConnAck, keepalive: Duration) -> Result<(Duration, u16), String> {
    if ack.code != ConnectReturnCode::Success {
        return Err(format!("refused: {:?}", ack.code));
    }
    let granted = ack.properties.as_ref();
    let keepalive = granted
        .and_then(|p| p.server_keep_alive)
        .filter(|s| *s > 0)
        .map_or(keepalive, |s| keepalive.min(Duration::from_secs(s.into())));
    let window = granted.and_then(|p| p.receive_max).unwrap_or(u16::MAX).clamp(1, WINDOW);
    Ok((keepalive, window))
}

async fn next<R: AsyncRead + Unpin>(r: &mut R, buffer: &mut BytesMut) -> Result<Packet, String> {
    loop {
        match take(buffer, MAX_PACKET) {
            Ok(Some(packet)) => return Ok(packet),
            Ok(None) => {}
            Err(Broken::TooLarge) => return Err("a packet over 256 KiB".into()),
            Err(_) => return Err("bytes that are not MQTT 5".into()),
        }
        buffer.reserve(4096);
        match r.read_buf(buffer).await {
            Ok(0) => return Err("closed by the broker".into()),
            Ok(_) => {}
            Err(error) => return Err(format!("lost: {error}")),
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

/// Resolves when one of these brokers lets us in again: tried beside the session that there is,
/// under another id, without a will and without subscriptions.
async fn look(mut config: SessionConfig, better: Vec<Target>, number: u32) {
    (config.will, config.filters) = (None, Vec::new());
    config.client_id.push_str("/look");
    loop {
        if better.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep(LOOK).await;
        for target in &better {
            let attempt = establish(&config, target, true, number);
            if let Ok(Ok(mut link)) = timeout(ESTABLISH_OF_MANY, attempt).await {
                let mut bye = BytesMut::new();
                crate::packet::put_disconnect(Reason::NormalDisconnection, &mut bye);
                let _ = link.writer.write_all(&bye).await;
                return;
            }
        }
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
) -> String {
    let Link { mut reader, mut writer, mut buffer, keepalive, window, early } = link;
    let patience = config.patience.min(keepalive * 3 / 2);
    inner.counts.connects.one();
    inner.outbox.restart(window);
    inner.connection.store(number, Ordering::Release);
    inner.up.store(true, Ordering::Release);
    let broker: Arc<str> = target.name().into();
    let up = Event::Up { broker: broker.to_string(), connection: number };
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
                Ok(Err(why)) => return why,
                Err(_) => return "silent".to_owned(),
            };
            if let Err(why) = received(packet, inner, &broker, tag, events).await {
                return why;
            }
        }
    };
    let pinging = async {
        loop {
            tokio::time::sleep(keepalive.min(patience / 2)).await;
            if !inner.outbox.answer(Packet::PingReq(PingReq)) {
                inner.outbox.answers_sent().await;
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
        () = write(&mut writer, &inner.outbox, true) => "closed, or it takes nothing".to_owned(),
        () = pinging => "closed".to_owned(),
        () = back => "a broker further up the list is back".to_owned(),
        () = moved => "the broker is no longer listed".to_owned(),
    };
    inner.up.store(false, Ordering::Release);
    inner.counts.forgotten.add(inner.outbox.restart(window));
    why
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
