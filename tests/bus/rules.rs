//! Who may do what, by certificate; and how clients that may not come in are told so.

use super::{Client, PATIENCE, Pki, broker, embedded, topic, until, wish};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A plain TLS stream with a certificate.
async fn stream(
    tls: &edge_bus::TlsPair,
    address: std::net::SocketAddr,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls.client.clone());
    connector.connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap()
}

/// What the broker answers to bytes, until it closes or has said `most` bytes.
pub(crate) async fn answer(
    tls: &edge_bus::TlsPair,
    address: std::net::SocketAddr,
    bytes: &[u8],
    most: usize,
) -> Vec<u8> {
    let mut stream = stream(tls, address).await;
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut all = Vec::new();
    let read = async {
        let mut buffer = [0; 1024];
        while all.len() < most {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => all.extend_from_slice(&buffer[..n]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer or an end");
    all
}

/// A CONNECT of MQTT 5 with this id and flags.
pub(crate) fn connect(id: &str) -> Vec<u8> {
    let mut packet = vec![0x10, 13 + id.len() as u8];
    packet.extend_from_slice(b"\x00\x04MQTT\x05\x02\x00\x05\x00\x00");
    packet.push(id.len() as u8);
    packet.extend_from_slice(id.as_bytes());
    packet
}

/// The bytes that a CONNACK of this broker has for `id`: read, so that tests see what follows.
pub(crate) async fn connack_length(tls: &edge_bus::TlsPair, at: std::net::SocketAddr) -> usize {
    let answer = answer(tls, at, &[connect(""), vec![0xE0, 0]].concat(), usize::MAX).await;
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
    // Without the assigned id and its property header.
    let id = answer.windows(7).position(|w| w == b"system:").expect("an assigned id");
    let length = u16::from_be_bytes([answer[id - 2], answer[id - 1]]) as usize;
    answer.len() - length - 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_closed_to_those_who_may_not() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let server = Client::server(&pki, "s", broker.address(), wish(&[("beat/+", 0)]));
    let mut server = server.up().await;
    let id = "system:node:n";
    let target = || embedded(broker.address());
    let agent = Client::start(pki.agent("n"), id, target(), wish(&[("leader", 0)])).up().await;
    agent.session.publish(&topic("beat/other"), "forged".into(), 0, false).unwrap();
    agent.session.publish(&topic("leader"), "forged".into(), 1, true).unwrap();
    agent.session.publish(&topic("raft/s"), "forged".into(), 0, false).unwrap();
    agent.session.publish("edge/c2/beat/n", "forged".into(), 0, false).unwrap();
    agent.session.publish(&topic("beat/n"), "kept".into(), 0, true).unwrap();
    agent.session.publish(&topic("beat/n"), "own".into(), 0, false).unwrap();
    assert_eq!(server.message().await.1, "own");
    assert_eq!((broker.counters().denied, broker.counters().retained), (5, 0));
    agent.session.close().await;
    for filter in ["beat/+", "raft/s", "gone/+/+", "raft/n"] {
        let mut nosy = Client::start(pki.agent("n"), id, target(), wish(&[(filter, 0)]));
        let why = nosy.down().await;
        assert!(why.contains("NotAuthorized"), "{filter}: {why}");
        nosy.session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_decide_who_comes_in() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let target = || embedded(broker.address());
    // Another's id.
    let mut thief = Client::start(pki.agent("n"), "system:server:s", target(), wish(&[]));
    let why = thief.down().await;
    assert!(why.contains("ClientIdentifierNotValid"), "{why}");
    // A name of a server with the organization of nodes, and a name of neither.
    for (name, organization) in [("system:server:x", "system:nodes"), ("admin", "system:masters")] {
        let mut odd = Client::start(pki.pair(name, organization), name, target(), wish(&[]));
        odd.down().await;
    }
    // Another cluster's authority, at either end.
    let other = Pki::new();
    let mut foreign = Client::server(&other, "s", broker.address(), wish(&[]));
    let why = foreign.down().await;
    assert!(why.starts_with("TLS: "), "{why}");
    let stolen = other.server("s");
    let here = pki.server("s");
    let mixed = edge_bus::TlsPair { client: here.client.clone(), server: stolen.server.clone() };
    let mixed = edge_bus::broker::Broker::start(
        super::CLUSTER,
        "127.0.0.1:0".parse().unwrap(),
        super::fixed(mixed.into()),
    );
    let mixed = mixed.await.unwrap();
    let mut fooled = Client::server(&pki, "s", mixed.address(), wish(&[]));
    assert!(fooled.down().await.starts_with("TLS: "));
    assert!(broker.counters().refused >= 4);
    assert_eq!(broker.counters().clients, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_get_the_answers_that_mqtt_prescribes() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let (tls, at) = (pki.server("s"), broker.address());
    // MQTT 3.1.1: unacceptable protocol version, in its own words.
    let old = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x05\x00\x01a";
    assert_eq!(answer(&tls, at, old, usize::MAX).await, [0x20, 2, 0, 1]);
    let skip = connack_length(&tls, at).await;
    let hello = connect("system:server:s");
    let end = [0xE0, 0];
    let after = async |packets: &[u8]| -> Vec<u8> {
        let all = [&hello, packets, &end[..]].concat();
        answer(&tls, at, &all, usize::MAX).await.split_off(skip)
    };
    // Shared subscription, bad filter, foreign filter, QoS 2 granted as 1.
    let subscribe = |filter: &str, options: u8| {
        let length = filter.len() as u8;
        let head = [0x82, length + 6, 0, 9, 0, 0, length];
        [&head[..], filter.as_bytes(), &[options]].concat()
    };
    assert_eq!(after(&subscribe("$share/g/a", 0)).await, [0x90, 4, 0, 9, 0, 158]);
    assert_eq!(after(&subscribe("a/#/b", 0)).await, [0x90, 4, 0, 9, 0, 143]);
    assert_eq!(after(&subscribe("#", 0)).await, [0x90, 4, 0, 9, 0, 135]);
    assert_eq!(after(&subscribe("edge/c1/leader", 2)).await, [0x90, 4, 0, 9, 0, 1]);
    // A ping; an unsubscription of what was not subscribed.
    assert_eq!(after(&[0xC0, 0]).await, [0xD0, 0]);
    assert_eq!(after(&[0xA2, 6, 0, 7, 0, 0, 1, b'a']).await, [0xB0, 4, 0, 7, 0, 17]);
    // Publishing at QoS 1: nobody there, and not allowed.
    let publish = |topic: &str, flags: u8| {
        let id: &[u8] = if flags & 6 > 0 { &[0, 5] } else { &[] };
        let head = [0x30 | flags, (topic.len() + 4 + id.len()) as u8, 0, topic.len() as u8];
        [&head[..], topic.as_bytes(), id, &[0], b"x"].concat()
    };
    assert_eq!(after(&publish("edge/c1/raft/z", 2)).await, [0x40, 4, 0, 5, 16, 0]);
    assert_eq!(after(&publish("edge/c1/beat/z", 2)).await, [0x40, 4, 0, 5, 135, 0]);
    // Ends: QoS 2, a wildcard in a topic, a second CONNECT, a topic alias.
    assert_eq!(after(&publish("edge/c1/raft/z", 4)).await, [0xE0, 1, 0x9B]);
    assert_eq!(after(&publish("edge/c1/raft/+", 0)).await, [0xE0, 1, 0x90]);
    assert_eq!(after(&hello).await, [0xE0, 1, 0x82]);
    assert_eq!(after(b"\x30\x07\x00\x01a\x03\x23\x00\x01").await, [0xE0, 1, 0x94]);
    until("all left", || broker.counters().clients == 0).await;
}
