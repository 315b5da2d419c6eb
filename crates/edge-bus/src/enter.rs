//! How a session with a broker is entered: stream, CONNECT, SUBSCRIBE, each answered in time.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, DisconnectReasonCode as Reason, Filter,
    LastWill, Login, Packet, Subscribe, SubscribeReasonCode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::dial::{Stream, Target, dial};
use crate::packet::{Broken, MAX_PACKET, put, take};
use crate::session::{End, Inner, SessionConfig};

/// From the first packet of TCP to the answer to SUBSCRIBE.
const ESTABLISH: Duration = Duration::from_secs(4);

/// The same where another broker can be tried.
const ESTABLISH_OF_MANY: Duration = Duration::from_millis(1500);

/// Publishes at QoS 1 that a broker may have under way towards us.
const RECEIVE_MAXIMUM: u16 = 256;

/// Publishes at QoS 1 under way towards a broker, whatever more it would take.
const WINDOW: u16 = 256;

/// An attempt that hangs this long is begun anew when the broker's board shows itself.
const HANGS: Duration = Duration::from_millis(200);

/// How often a board at a broker further down the list looks whether one further up is back.
const LOOK: Duration = Duration::from_secs(3);

/// What was established.
pub(crate) struct Link {
    pub(crate) reader: ReadHalf<Box<dyn Stream>>,
    pub(crate) writer: WriteHalf<Box<dyn Stream>>,
    pub(crate) buffer: BytesMut,
    pub(crate) keepalive: Duration,
    pub(crate) window: u16,
    /// Publishes that came before the answer to SUBSCRIBE.
    pub(crate) early: Vec<Packet>,
}

/// Why there is no connection, or none any more.
pub(crate) struct Lost {
    pub(crate) why: String,
    pub(crate) end: End,
}

impl From<String> for Lost {
    fn from(why: String) -> Lost {
        Lost { why, end: End::Other }
    }
}

/// One attempt within its time; begun anew when it hangs and the broker's board shows itself.
pub(crate) async fn attempt(
    config: &SessionConfig,
    inner: &Inner,
    target: &Target,
    others: bool,
    number: u32,
) -> Result<Link, Lost> {
    let limit = if others { ESTABLISH_OF_MANY } else { ESTABLISH };
    let shown = async {
        tokio::time::sleep(HANGS).await;
        inner.nudge.notified().await;
    };
    tokio::select! {
        done = timeout(limit, establish(config, target, others, number)) => {
            done.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))
        }
        () = shown => {
            inner.nudge.notify_one();
            Err("the attempt hung".to_owned().into())
        }
    }
}

/// Why a stream ended; the TLS library's words for a crash point at its own manual.
fn lost(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "closed without a good-bye".to_owned(),
        _ => format!("lost: {error}"),
    }
}

/// From an address to a session that stands.
pub(crate) async fn establish(
    config: &SessionConfig,
    target: &Target,
    others: bool,
    number: u32,
) -> Result<Link, Lost> {
    let stream = dial(target, (others, config.eager), &config.tls).await.map_err(|error| {
        let ours = matches!(target, Target::Embedded(_));
        let end = if ours && error.refused() { End::Refused } else { End::Other };
        Lost { why: error.to_string(), end }
    })?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(4096);
    // The codec writes a CONNECT right only into an empty buffer.
    let mut hello = BytesMut::new();
    put(&connect(config, target, number), &mut hello);
    let lost = |e: std::io::Error| lost(&e);
    writer.write_all(&hello).await.map_err(lost)?;
    writer.flush().await.map_err(lost)?;
    let Packet::ConnAck(ack) = next(&mut reader, &mut buffer).await? else {
        return Err("an answer that is no CONNACK".to_owned().into());
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
                        Some(code) => {
                            return Err(format!("a subscription was refused: {code:?}").into());
                        }
                    }
                }
                publish @ Packet::Publish(_) if early.len() < usize::from(RECEIVE_MAXIMUM) => {
                    early.push(publish);
                }
                Packet::Disconnect(bye) => {
                    return Err(format!("ended: {:?}", bye.reason_code).into());
                }
                _ => return Err("an unexpected packet".to_owned().into()),
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

/// The next packet.
pub(crate) async fn next<R: AsyncRead + Unpin>(
    r: &mut R,
    buffer: &mut BytesMut,
) -> Result<Packet, String> {
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
            Err(error) => return Err(lost(&error)),
        }
    }
}

/// Resolves when one of these brokers lets us in again: tried beside the session that there is,
/// under another id, without a will and without subscriptions.
pub(crate) async fn look(mut config: SessionConfig, better: Vec<Target>, number: u32) {
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
