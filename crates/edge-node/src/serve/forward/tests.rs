//! Sessions with a program that listens on this machine in place of a pod's.

use super::dial::Dial;
use super::*;
use bytes::{Bytes, BytesMut};
use edge_client::spdy::{self, Frame, RST_STREAM, SYN_REPLY};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;

fn here() -> Dial {
    Dial { uid: "u".to_owned(), namespace: None }
}

/// A port on which each connection gets its own words back, in capitals, once they have ended.
async fn shouter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
            });
        }
    });
    port
}

/// A port where nobody listens.
async fn nobody() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// A client of the protocol.
struct Client {
    stream: DuplexStream,
    buffer: BytesMut,
    first: bool,
}

impl Client {
    fn new() -> Client {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(session::carry(far, here()));
        Client { stream: near, buffer: BytesMut::new(), first: true }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn open(&mut self, id: u32, kind: &str, port: &str, request: &str) {
        let headers = [("port", port), ("requestid", request), ("streamtype", kind)];
        let frame = spdy::open(id, std::mem::take(&mut self.first), &headers);
        self.send(&frame).await;
    }

    /// The next frame that is no agreement.
    async fn next(&mut self) -> Frame {
        loop {
            match spdy::take_frame(&mut self.buffer).unwrap() {
                Some(Frame::Control { kind: SYN_REPLY, .. }) => {}
                Some(frame) => return frame,
                None => assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0),
            }
        }
    }
}

fn flow(stream: u32, fin: bool, payload: &'static str) -> Frame {
    Frame::Data { stream, fin, payload: Bytes::from_static(payload.as_bytes()) }
}

#[tokio::test]
async fn connections_are_pairs_and_end_half_by_half() {
    let port = shouter().await.to_string();
    let mut client = Client::new();
    // Two at once, the second's streams the other way around.
    client.open(1, "error", &port, "0").await;
    client.open(3, "data", &port, "0").await;
    client.open(5, "data", &port, "1").await;
    client.send(&spdy::data(5, true, b"early")).await;
    client.open(7, "error", &port, "1").await;
    assert_eq!(client.next().await, flow(5, false, "EARLY"));
    assert_eq!(client.next().await, flow(5, true, ""));
    assert_eq!(client.next().await, flow(7, true, ""));
    client.send(&spdy::data(3, false, b"la")).await;
    client.send(&spdy::data(3, true, b"te")).await;
    assert_eq!(client.next().await, flow(3, false, "LATE"));
    // Old clients number no pairs.
    client.open(9, "error", &port, "").await;
    client.open(11, "data", &port, "").await;
    client.send(&spdy::data(11, true, b"old")).await;
    assert_eq!(client.next().await, flow(3, true, ""));
    assert_eq!(client.next().await, flow(1, true, ""));
    assert_eq!(client.next().await, flow(11, false, "OLD"));
}

#[tokio::test]
async fn a_port_without_a_listener_is_told_as_kubelets_do() {
    let port = nobody().await.to_string();
    let mut client = Client::new();
    client.open(1, "error", &port, "0").await;
    client.open(3, "data", &port, "0").await;
    let Frame::Data { stream: 1, fin: true, payload } = client.next().await else {
        panic!("an error comes first");
    };
    let text = String::from_utf8(payload.to_vec()).unwrap();
    let begin = format!(
        "error forwarding port {port} to pod u, uid : failed to connect to \
                         localhost:{port} inside namespace \"host\", IPv4: dial tcp4 \
                         127.0.0.1:{port}: connect: connection refused IPv6 dial tcp6"
    );
    assert!(text.starts_with(&begin), "{text}");
    assert_eq!(client.next().await, flow(3, true, ""));
    // The session goes on.
    let port = shouter().await.to_string();
    client.open(5, "error", &port, "1").await;
    client.open(7, "data", &port, "1").await;
    client.send(&spdy::data(7, true, b"x")).await;
    assert_eq!(client.next().await, flow(7, false, "X"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let mut client = Client::new();
    for (id, kind, port) in [(1, "data", ""), (3, "data", "0"), (5, "data", "x"), (7, "no", "1")] {
        client.open(id, kind, port, "0").await;
        let Frame::Control { kind: RST_STREAM, payload, .. } = client.next().await else {
            panic!("{kind} {port:?} is refused");
        };
        assert_eq!(payload[..4], u32::to_be_bytes(id));
    }
}

#[tokio::test]
async fn a_reset_on_one_side_is_one_on_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut client = Client::new();
    client.open(1, "error", &port, "0").await;
    client.open(3, "data", &port, "0").await;
    let (mut pod, _) = listener.accept().await.unwrap();
    client.send(&spdy::reset(3, spdy::CANCEL)).await;
    let broken = pod.read(&mut [0]).await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    client.open(5, "error", &port, "1").await;
    client.open(7, "data", &port, "1").await;
    let (mut pod, _) = listener.accept().await.unwrap();
    pod.write_all(b"x").await.unwrap();
    assert_eq!(client.next().await, flow(7, false, "x"));
    pod.set_zero_linger().unwrap();
    drop(pod);
    let Frame::Control { kind: RST_STREAM, payload, .. } = client.next().await else {
        panic!("the client is told");
    };
    assert_eq!(payload[..4], 7u32.to_be_bytes());
}

#[test]
fn a_querys_ports() {
    let of = |text: &str| ports(&Query::parse(Some(text))).map_err(|status| status.message);
    assert_eq!(of("ports=80&ports=81"), Ok(vec![80, 81]));
    assert_eq!(of("port=80,81"), Ok(vec![80, 81]));
    assert_eq!(of(""), Err("query parameter \"port\" is required".to_owned()));
    assert_eq!(of("port=0"), Err("port \"0\" must be > 0".to_owned()));
    assert!(of("port=x").unwrap_err().starts_with("unable to parse \"x\" as a port"));
}
