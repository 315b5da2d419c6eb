//! SPDY as a client of Kubernetes 1.20 speaks it.

use super::*;
use serde_json::json;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// A SYN_STREAM whose block zlib made.
fn syn(id: u32, block: &str) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend([0; 6]);
    payload.extend(hex(block));
    control(SYN_STREAM, &payload)
}

const ERROR: &str = "78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff";
const STDOUT: &str = "c22a054ccc29f9a52500000000ffff";

#[test]
fn version_four_is_spoken() {
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    assert!(asked(&headers));
    assert!(handshake(&headers).is_err());
    headers.append(VERSION_HEADER, HeaderValue::from_static("v4.channel.k8s.io"));
    headers.append(VERSION_HEADER, HeaderValue::from_static("channel.k8s.io"));
    assert_eq!(handshake(&headers).unwrap().headers()[VERSION_HEADER], V4);
}

#[tokio::test]
async fn output_and_status_reach_their_streams() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (told, _news) = mpsc::channel(4);
    let (tell, orders) = mpsc::channel(4);
    let asked = Asked { stdin: false, stdout: true, stderr: false, tty: false };
    let carried = tokio::spawn(carry(server, asked, told, orders));
    let (mut read, mut write) = tokio::io::split(client);
    tell.send(ToClient::Stdout(Bytes::from_static(b"out"))).await.unwrap();
    tell.send(ToClient::Status(json!({}))).await.unwrap();
    drop(tell);
    write.write_all(&syn(1, ERROR)).await.unwrap();
    write.write_all(&syn(3, STDOUT)).await.unwrap();
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    while frames.len() < 6 {
        match take_frame(&mut buffer).unwrap() {
            Some(frame) => frames.push(frame),
            None => assert!(read.read_buf(&mut buffer).await.unwrap() > 0),
        }
    }
    assert!(matches!(&frames[0], Frame::Control { kind: SYN_REPLY, .. }));
    let flow = |stream, fin, payload: &'static [u8]| Frame::Data {
        stream,
        fin,
        payload: Bytes::from_static(payload),
    };
    let want =
        [flow(3, false, b"out"), flow(1, false, b"{}"), flow(3, true, b""), flow(1, true, b"")];
    assert_eq!(frames[2..], want);
    drop((read, write));
    carried.await.unwrap();
}
