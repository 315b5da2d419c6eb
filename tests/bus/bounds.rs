//! Nothing grows without end: a reader that does not read loses messages or its connection, not
//! the broker's memory and not other readers' messages.

use std::time::Duration;

use bytes::Bytes;
use edge_bus::session::Refused;
use tokio::io::AsyncWriteExt;

use super::rules::connect;
use super::{Client, Pki, broker, topic, until, wish};

/// A client that subscribes and then never reads.
async fn deaf(pki: &Pki, name: &str, at: std::net::SocketAddr, qos: u8) -> impl Sized + use<> {
    let tls = pki.server(name);
    let tcp = tokio::net::TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(8192).unwrap();
    let tcp = tcp.connect(at).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls.client.clone());
    let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap();
    let filter = topic(&format!("raft/{name}"));
    let head = [0x82, filter.len() as u8 + 6, 0, 9, 0, 0, filter.len() as u8];
    let subscribe = [&head[..], filter.as_bytes(), &[qos]].concat();
    let all = [connect(&format!("system:server:{name}")), subscribe].concat();
    stream.write_all(&all).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn flood(writer: &Client, to: &str, qos: u8, messages: usize) {
    let payload = Bytes::from(vec![7; 64 * 1024]);
    for _ in 0..messages {
        while writer.session.publish(&topic(to), payload.clone(), qos, false) == Err(Refused::Full)
        {
            writer.session.room().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_loses_messages_alone() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let at = broker.address();
    let _deaf = deaf(&pki, "deaf", at, 0).await;
    until("it subscribed", || broker.counters().clients == 1).await;
    let mut good = Client::server(&pki, "good", at, wish(&[("raft/good", 0)])).up().await;
    let writer = Client::server(&pki, "w", at, wish(&[])).up().await;
    flood(&writer, "raft/deaf", 0, 400).await;
    until("some dropped", || broker.counters().dropped > 50).await;
    writer.session.publish(&topic("raft/good"), "still served".into(), 0, false).unwrap();
    assert_eq!(good.message().await.1, "still served");
    assert_eq!(broker.counters().slow, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_at_qos_1_that_does_not_read_is_disconnected() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let at = broker.address();
    let _deaf = deaf(&pki, "deaf", at, 1).await;
    until("it subscribed", || broker.counters().clients == 1).await;
    let writer = Client::server(&pki, "w", at, wish(&[])).up().await;
    flood(&writer, "raft/deaf", 1, 300).await;
    until("counted as slow", || broker.counters().slow == 1).await;
    until("the writer is served", || writer.session.waiting() == 0).await;
    assert_eq!(broker.counters().dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_never_waits_for_anything() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let writer = Client::server(&pki, "w", broker.address(), wish(&[])).up().await;
    let begin = std::time::Instant::now();
    let payload = Bytes::from(vec![7; 100 * 1024]);
    let refused = (0..2000)
        .filter(|_| writer.session.publish(&topic("raft/x"), payload.clone(), 0, false).is_err());
    assert!(refused.count() > 500, "a queue of 8 MiB can't take 200 MB at once");
    assert!(begin.elapsed() < Duration::from_secs(2));
    let large = Bytes::from(vec![7; edge_bus::MAX_PACKET]);
    let refused = writer.session.publish(&topic("raft/x"), large, 0, false);
    assert_eq!(refused, Err(Refused::Full), "a packet over the bound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_ended_after_its_keepalive() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let tls = pki.server("s");
    let mut hello = connect("system:server:s");
    hello[11] = 1;
    let begin = std::time::Instant::now();
    let answer = super::rules::answer(&tls, broker.address(), &hello, usize::MAX).await;
    assert_eq!(answer[answer.len() - 3..], [0xE0, 1, 0x8D]);
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(1400) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_certificate_has_so_many_sessions_and_no_more() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let mut kept = Vec::new();
    for n in 0..16 {
        let id = Some(format!("system:server:s/{n}"));
        let wishes = super::Wishes { id, ..<_>::default() };
        kept.push(Client::server(&pki, "s", broker.address(), wishes).up().await);
    }
    let wishes = super::Wishes { id: Some("system:server:s/x".into()), ..<_>::default() };
    let mut more = Client::server(&pki, "s", broker.address(), wishes);
    assert!(more.down().await.contains("QuotaExceeded"));
    let other = Client::server(&pki, "t", broker.address(), wish(&[])).up().await;
    drop((kept, other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_only_sit_there_keep_nobody_out() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let at = broker.address();
    let begin = std::time::Instant::now();
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(tokio::net::TcpStream::connect(at).await.unwrap());
    }
    let _good = Client::server(&pki, "good", at, wish(&[])).up().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "it has not waited for the others' end");
    until("the oldest made room", || broker.counters().half_open >= 40).await;
    // Those that could stay are not borne with for long either.
    let mut last = held.pop().unwrap();
    let mut byte = [0; 1];
    let ended = tokio::io::AsyncReadExt::read(&mut last, &mut byte);
    let ended = tokio::time::timeout(Duration::from_secs(8), ended).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    assert_eq!(broker.counters().clients, 1, "who is known stays");
}
