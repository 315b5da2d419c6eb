//! One client at the broker, from its CONNECT to its end. Reading and writing go on side by
//! side: a client that reads slowly is still heard, and one that talks much still gets answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode as Code, DisconnectReasonCode as Reason,
    LastWill, Packet, PingResp,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::access::Identity;
use super::hub::{Hub, Turned, Will};
use super::requests::Client;
use crate::outbox::{Next, Outbox};
use crate::packet::{Broken, MAX_PACKET, Message, OLD_PROTOCOL, put, put_disconnect, take};
use crate::topics::valid_topic;

/// From a connection to its CONNECT, TLS and all.
pub(crate) const HELLO: Duration = Duration::from_secs(5);

/// Bytes of the largest CONNECT.
const MAX_CONNECT: usize = 16 * 1024;

/// A write that makes no progress for this long ends the connection.
const WRITE: Duration = Duration::from_secs(10);

/// For a last word.
const GOODBYE: Duration = Duration::from_secs(1);

/// Publishes at QoS 1 that a client may have under way towards the broker.
const RECEIVE_MAXIMUM: u16 = 1024;

/// Publishes at QoS 1 under way towards a client, whatever more it would take.
const WINDOW: u16 = 256;

/// Seconds of the longest keepalive; also for clients that want none.
const KEEPALIVE: u16 = 600;

/// How a connection ended.
enum End {
    /// The client said good-bye.
    Clean,
    /// It said so, and wants its will published.
    WithWill,
    /// The client is to be told this.
    Told(Reason),
    /// There is nobody to tell.
    Lost,
}

/// Serves one client, which has until `hello` for its CONNECT, until it ends.
pub(crate) async fn serve<S>(stream: S, identity: Identity, hub: Arc<Hub>, hello: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(4096);
    let greeting = greet(&mut reader, &mut writer, &mut buffer, &identity, &hub);
    let greeting = timeout_at(hello, greeting);
    let Ok(Some((number, outbox, keepalive))) = greeting.await else { return };
    let write = write(&mut writer, &outbox, false);
    tokio::pin!(write);
    let client = Client { number, identity, hub: hub.clone(), outbox: outbox.clone() };
    let end = tokio::select! {
        end = read(&mut reader, &mut buffer, &client, keepalive) => end,
        () = &mut write => End::Lost,
    };
    match end {
        End::Told(reason) => outbox.close(reason),
        _ => outbox.close(Reason::NormalDisconnection),
    }
    hub.leave(number, matches!(end, End::Clean));
    if !matches!(end, End::Lost) {
        let _ = timeout(GOODBYE, write).await;
    }
}

/// Reads the CONNECT and answers it.
async fn greet<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut R,
    writer: &mut W,
    buffer: &mut BytesMut,
    identity: &Identity,
    hub: &Hub,
) -> Option<(u64, Arc<Outbox>, Duration)> {
    let packet = loop {
        match take(buffer, MAX_CONNECT) {
            Ok(Some(packet)) => break packet,
            Ok(None) => {}
            Err(broken) => {
                hub.counts.refused.one();
                match broken {
                    Broken::TooLarge => hub.counts.oversized.one(),
                    Broken::Malformed => hub.counts.malformed.one(),
                    Broken::OldProtocol => {
                        let _ = writer.write_all(OLD_PROTOCOL).await;
                        let _ = writer.shutdown().await;
                    }
                }
                return None;
            }
        }
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let Packet::Connect(connect, will, _) = packet else {
        hub.counts.refused.one();
        hub.counts.malformed.one();
        return None;
    };
    let (ack, entered) = admit(&connect, will, identity, hub);
    let mut answer = BytesMut::new();
    put(&Packet::ConnAck(ack), &mut answer);
    if entered.is_none() {
        hub.counts.refused.one();
    }
    let written = writer.write_all(&answer).await.and(writer.flush().await);
    let (number, outbox) = entered?;
    if written.is_err() {
        hub.leave(number, false);
        return None;
    }
    let keepalive = if connect.keep_alive == 0 { KEEPALIVE } else { connect.keep_alive };
    Some((number, outbox, Duration::from_millis(u64::from(keepalive.min(KEEPALIVE)) * 1500)))
}

fn admit(
    connect: &Connect,
    will: Option<LastWill>,
    identity: &Identity,
    hub: &Hub,
) -> (ConnAck, Option<(u64, Arc<Outbox>)>) {
    let refused = |code| (ConnAck { session_present: false, code, properties: None }, None);
    let asked = connect.properties.as_ref();
    if asked.is_some_and(|p| p.authentication_method.is_some()) {
        return refused(Code::BadAuthenticationMethod);
    }
    let largest = match asked.and_then(|p| p.max_packet_size) {
        Some(0) => return refused(Code::ProtocolError),
        Some(size) => (size as usize).min(MAX_PACKET),
        None => MAX_PACKET,
    };
    let window = match asked.and_then(|p| p.receive_maximum) {
        Some(0) => return refused(Code::ProtocolError),
        Some(window) => window.min(WINDOW),
        None => WINDOW,
    };
    let will = match will.map(|will| testament(will, identity, hub)).transpose() {
        Ok(will) => will,
        Err(code) => return refused(code),
    };
    match hub.enter(identity, &connect.client_id, (window, largest), will) {
        Ok(Some((number, id, outbox))) => {
            let code = Code::Success;
            let properties = Some(offer(connect, id));
            (ConnAck { session_present: false, code, properties }, Some((number, outbox)))
        }
        Ok(None) => refused(Code::ClientIdentifierNotValid),
        Err(Turned::Busy) => refused(Code::ServerBusy),
        Err(Turned::Quota) => refused(Code::QuotaExceeded),
    }
}

/// Checks a will as if it were published now: it will be, with nobody there to hear of errors.
fn testament(will: LastWill, identity: &Identity, hub: &Hub) -> Result<Will, Code> {
    let topic = std::str::from_utf8(&will.topic).ok().filter(|t| valid_topic(t));
    let topic = topic.ok_or(Code::TopicNameInvalid)?.to_owned();
    let kept = will.retain && !hub.access.may_retain(identity);
    if kept || !hub.access.may_publish(identity, &topic) {
        hub.counts.denied.one();
        return Err(Code::NotAuthorized);
    }
    let qos1 = match will.qos {
        QoS::AtMostOnce => false,
        QoS::AtLeastOnce => true,
        QoS::ExactlyOnce => return Err(Code::QoSNotSupported),
    };
    let message = Message {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        payload: Bytes::copy_from_slice(&will.message),
        properties: None,
    };
    Ok(Will { topic, message, qos1, retain: will.retain })
}

/// What this broker does and does not, as a CONNACK says it.
fn offer(connect: &Connect, id: String) -> ConnAckProperties {
    let asked = connect.properties.as_ref();
    let expiry = asked.and_then(|p| p.session_expiry_interval).filter(|s| *s > 0).map(|_| 0);
    let keepalive = connect.keep_alive == 0 || connect.keep_alive > KEEPALIVE;
    ConnAckProperties {
        session_expiry_interval: expiry,
        receive_max: Some(RECEIVE_MAXIMUM),
        max_qos: Some(1),
        retain_available: None,
        max_packet_size: Some(MAX_PACKET as u32),
        assigned_client_identifier: connect.client_id.is_empty().then_some(id),
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(0),
        server_keep_alive: keepalive.then_some(KEEPALIVE),
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
    client: &Client,
    patience: Duration,
) -> End {
    loop {
        loop {
            let packet = match take(buffer, MAX_PACKET) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(Broken::TooLarge) => {
                    client.hub.counts.oversized.one();
                    return End::Told(Reason::PacketTooLarge);
                }
                Err(_) => {
                    client.hub.counts.malformed.one();
                    return End::Told(Reason::MalformedPacket);
                }
            };
            let outcome = match packet {
                Packet::Publish(publish) => client.publish(publish).await,
                Packet::PubAck(ack) => {
                    client.outbox.acknowledged(ack.pkid);
                    Ok(())
                }
                Packet::Subscribe(subscribe) => client.subscribe(subscribe).await,
                Packet::Unsubscribe(unsubscribe) => client.unsubscribe(unsubscribe).await,
                Packet::PingReq(_) => client.answer(Packet::PingResp(PingResp)).await,
                Packet::Disconnect(bye) => {
                    return match bye.reason_code {
                        Reason::NormalDisconnection => End::Clean,
                        _ => End::WithWill,
                    };
                }
                _ => Err(Reason::ProtocolError),
            };
            if let Err(reason) = outcome {
                if matches!(reason, Reason::ProtocolError | Reason::MalformedPacket) {
                    client.hub.counts.malformed.one();
                }
                return End::Told(reason);
            }
        }
        buffer.reserve(4096);
        match timeout(patience, reader.read_buf(buffer)).await {
            Ok(Ok(0) | Err(_)) => return End::Lost,
            Ok(Ok(_)) => {}
            Err(_) => return End::Told(Reason::KeepAliveTimeout),
        }
        if let Some(reason) = client.outbox.closed() {
            return End::Told(reason);
        }
    }
}

/// Writes what the queue holds until it is closed or the peer takes nothing for too long. The
/// last word is a DISCONNECT, from a broker only if it has a reason to give.
pub(crate) async fn write<W: AsyncWrite + Unpin>(writer: &mut W, outbox: &Outbox, client: bool) {
    let mut batch = BytesMut::new();
    loop {
        match outbox.next(&mut batch) {
            Next::Write => {
                let whole = async {
                    writer.write_all(&batch).await?;
                    writer.flush().await
                };
                if !matches!(timeout(WRITE, whole).await, Ok(Ok(()))) {
                    return;
                }
                batch.clear();
                if batch.capacity() > 16 * 1024 {
                    batch = BytesMut::new();
                }
            }
            Next::Wait => outbox.ready().await,
            Next::Close(reason) => {
                if client || reason != Reason::NormalDisconnection {
                    put_disconnect(reason, &mut batch);
                }
                let _ = writer.write_all(&batch).await;
                let _ = writer.shutdown().await;
                return;
            }
        }
    }
}
