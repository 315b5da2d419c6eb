//! Packets on a byte stream: rumqttc's MQTT 5 codec behind a guard. The guard checks a frame's
//! length and flags before the codec sees it, and does itself what the codec does wrong: the
//! short forms of DISCONNECT, and clients of older protocol versions.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Disconnect, DisconnectReasonCode as Reason, Packet, Publish, PublishProperties,
};

/// Bytes of the largest packet, its header included, in either direction.
pub const MAX_PACKET: usize = 256 * 1024;

/// Why a stream of bytes can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Larger than [`MAX_PACKET`], or than a first packet may be.
    TooLarge,
    /// Not MQTT 5.
    Malformed,
    /// A CONNECT of MQTT 3.
    OldProtocol,
}

/// Takes the next whole packet from the front of `buffer`; `None`: more bytes are needed.
pub(crate) fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Packet>, Broken> {
    let Some((header, length)) = frame(buffer)? else { return Ok(None) };
    let whole = header + length;
    if whole > max {
        return Err(Broken::TooLarge);
    }
    let (kind, flags) = (buffer[0] >> 4, buffer[0] & 0x0F);
    let wanted = match kind {
        3 => flags,
        6 | 8 | 10 => 0b0010,
        _ => 0,
    };
    if kind == 0 || kind == 15 || flags != wanted {
        return Err(Broken::Malformed);
    }
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let mut packet = buffer.split_to(whole);
    match (kind, length) {
        (12 | 13, 1..) => return Err(Broken::Malformed),
        (14, 0) => return Ok(Some(disconnected(Reason::NormalDisconnection))),
        (14, 1) => {
            let reason = Reason::try_from(packet[header]).map_err(|_| Broken::Malformed)?;
            return Ok(Some(disconnected(reason)));
        }
        (1, _) => protocol(&packet[header..])?,
        _ => {}
    }
    Packet::read(&mut packet, None).map(Some).map_err(|_| Broken::Malformed)
}

fn disconnected(reason: Reason) -> Packet {
    Packet::Disconnect(Disconnect::new(reason))
}

/// Lengths of the fixed header and of what follows it.
fn frame(buffer: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let mut length = 0;
    for (n, byte) in buffer.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok(Some((n + 2, length)));
        }
    }
    if buffer.len() > 4 { Err(Broken::Malformed) } else { Ok(None) }
}

/// Looks at the protocol that a CONNECT names.
fn protocol(body: &[u8]) -> Result<(), Broken> {
    if body.starts_with(b"\x00\x06MQIsdp") {
        return Err(Broken::OldProtocol);
    }
    match body.strip_prefix(b"\x00\x04MQTT").map(|rest| rest.get(..2)) {
        Some(Some([5, flags])) if flags & 1 == 0 => Ok(()),
        Some(Some([3 | 4, _])) => Err(Broken::OldProtocol),
        _ => Err(Broken::Malformed),
    }
}

/// A CONNACK as MQTT 3 clients understand it: unacceptable protocol version.
pub(crate) const OLD_PROTOCOL: &[u8] = &[0x20, 2, 0, 1];

/// Appends a packet. Packets made here are valid; what the codec refuses is left out.
pub(crate) fn put(packet: &Packet, buffer: &mut BytesMut) {
    let before = buffer.len();
    if packet.write(buffer, None).is_err() {
        buffer.truncate(before);
    }
}

/// Appends a DISCONNECT. The codec writes those with a reason a byte too long.
pub(crate) fn put_disconnect(reason: Reason, buffer: &mut BytesMut) {
    match reason {
        Reason::NormalDisconnection => buffer.put_slice(&[0xE0, 0]),
        reason => buffer.put_slice(&[0xE0, 1, reason as u8]),
    }
}

/// A message on its way: what all receivers share.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) properties: Option<std::sync::Arc<PublishProperties>>,
}

impl Message {
    /// Bytes that it weighs in a queue.
    pub(crate) fn weight(&self) -> usize {
        self.topic.len() + self.payload.len() + 64
    }

    /// Bytes of its packet at most.
    pub(crate) fn packet_size(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |p| properties_size(p));
        self.topic.len() + self.payload.len() + properties + 16
    }
}

/// Bytes of properties at most, that is without the codec's private arithmetic.
pub(crate) fn properties_size(p: &PublishProperties) -> usize {
    let text = |t: &Option<String>| t.as_ref().map_or(0, |t| t.len() + 3);
    let user: usize = p.user_properties.iter().map(|(k, v)| k.len() + v.len() + 5).sum();
    let correlation = p.correlation_data.as_ref().map_or(0, |c| c.len() + 3);
    user + correlation + text(&p.content_type) + text(&p.response_topic) + 16
}

/// How one receiver gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) qos1: bool,
    pub(crate) retain: bool,
}

/// Appends a PUBLISH; `id` is its packet id at QoS 1.
pub(crate) fn put_publish(message: &Message, manner: Manner, id: u16, buffer: &mut BytesMut) {
    let qos = if manner.qos1 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    if let Some(properties) = &message.properties {
        let publish = Publish {
            dup: false,
            qos,
            retain: manner.retain,
            topic: message.topic.clone(),
            pkid: id,
            payload: message.payload.clone(),
            properties: Some(properties.as_ref().clone()),
        };
        return put(&Packet::Publish(publish), buffer);
    }
    let mut length = 2 + message.topic.len() + usize::from(manner.qos1) * 2 + 1;
    length += message.payload.len();
    buffer.reserve(length + 5);
    buffer.put_u8(0x30 | (qos as u8) << 1 | u8::from(manner.retain));
    let mut left = length;
    loop {
        let byte = (left % 128) as u8;
        left /= 128;
        buffer.put_u8(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            break;
        }
    }
    buffer.put_u16(message.topic.len() as u16);
    buffer.put_slice(&message.topic);
    if manner.qos1 {
        buffer.put_u16(id);
    }
    buffer.put_u8(0);
    buffer.put_slice(&message.payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Packet>, Broken> {
        let mut buffer = BytesMut::from(bytes);
        let mut found = Vec::new();
        while let Some(packet) = take(&mut buffer, MAX_PACKET)? {
            found.push(packet);
        }
        Ok(found)
    }

    #[test]
    fn publishes_come_back_as_they_went() {
        for (qos1, retain, size) in [(false, false, 0), (true, true, 5), (true, false, 200_000)] {
            let message = Message {
                topic: Bytes::from_static(b"a/b"),
                payload: vec![7; size].into(),
                properties: None,
            };
            let mut buffer = BytesMut::new();
            put_publish(&message, Manner { qos1, retain }, 9, &mut buffer);
            let Ok([Packet::Publish(read)]) = all(&buffer)
                .as_deref()
                .map(|p| p.to_vec())
                .map(|v| -> [Packet; 1] { v.try_into().expect("one packet") })
            else {
                panic!("no publish")
            };
            assert_eq!((read.payload.len(), read.retain), (size, retain));
            assert_eq!(read.pkid, if qos1 { 9 } else { 0 });
        }
    }

    #[test]
    fn every_form_of_disconnect_is_read() {
        for bytes in [&[0xE0, 0][..], &[0xE0, 1, 4], &[0xE0, 2, 4, 0]] {
            assert!(matches!(all(bytes).as_deref(), Ok([Packet::Disconnect(_)])), "{bytes:?}");
        }
        let mut buffer = BytesMut::new();
        put_disconnect(Reason::QuotaExceeded, &mut buffer);
        assert_eq!(all(&buffer), Ok(vec![disconnected(Reason::QuotaExceeded)]));
    }

    #[test]
    fn what_is_not_mqtt_is_refused_before_it_is_waited_for() {
        assert_eq!(all(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), Err(Broken::TooLarge));
        assert_eq!(all(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]), Err(Broken::Malformed));
        assert_eq!(all(&[0x00, 0x00]), Err(Broken::Malformed));
        assert_eq!(all(&[0xF0, 0x00]), Err(Broken::Malformed));
        assert_eq!(all(&[0x80, 0x02, 0, 1]), Err(Broken::Malformed));
        assert_eq!(all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"), Err(Broken::OldProtocol));
        assert_eq!(all(b"GET / HTTP/1.1\r\n\r\n"), Err(Broken::Malformed));
        // A property length beyond the packet: the codec calls it "more bytes needed".
        assert_eq!(all(&[0x30, 0x05, 0, 1, b'a', 0x80, 0x80]), Err(Broken::Malformed));
    }

    #[test]
    fn no_bytes_make_the_codec_panic() {
        let mut seeds: Vec<Vec<u8>> = vec![
            b"\x10\x10\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x03abc".to_vec(),
            b"\x30\x0a\x00\x01a\x05\x01\x01\x23\x00\x01x".to_vec(),
            b"\x82\x0a\x00\x01\x00\x00\x04a/#b\x01".to_vec(),
            b"\xa2\x07\x00\x01\x00\x00\x02ab".to_vec(),
            b"\x20\x06\x00\x00\x03\x21\x00\x0a".to_vec(),
            b"\xe0\x02\x04\x00".to_vec(),
            b"\x40\x04\x00\x01\x10\x00".to_vec(),
        ];
        seeds.extend((0..16).map(|kind| vec![kind << 4, 12, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..60_000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..next() % 6 {
                let at = (next() % bytes.len() as u64) as usize;
                match next() % 4 {
                    0 => bytes[at] = next() as u8,
                    1 => bytes[at] ^= 1 << (next() % 8),
                    2 => bytes.insert(at, next() as u8),
                    _ => bytes.truncate(at.max(2)),
                }
            }
            let _ = all(&bytes);
        }
    }
}
