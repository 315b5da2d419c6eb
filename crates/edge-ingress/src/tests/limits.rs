//! What is too much: heads, connections that say nothing or little, requests that are no requests.

use super::super::limits::{HALF_OPEN, HEAD_BYTES, Waits};
use super::*;

#[tokio::test]
async fn heads_have_a_size() {
    let web = Endpoint::named("web").await;
    let proxy = proxy(table(&[("", "/", &[web.address])], json!({}))).await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES));
    assert_eq!(code(&talk(proxy.http(), long.as_bytes()).await), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(code(&talk(proxy.http(), many.as_bytes()).await), 431);
    let uri = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(HEAD_BYTES));
    assert!(matches!(code(&talk(proxy.http(), uri.as_bytes()).await), 414 | 431));
    assert_eq!(web.count(), 0);
    assert_eq!(code(&get(proxy.http(), "a", "/").await), 200);
    proxy.stop().await;
}

/// Connections that say nothing, or only the beginning of a request, keep nobody out: there are
/// never more of them than their room, and who has something to say is answered.
#[tokio::test]
async fn connections_that_only_sit_there_keep_nobody_out() {
    let web = Endpoint::named("web").await;
    let proxy = proxy(table(&[("", "/", &[web.address])], json!({}))).await;
    let mut held = Vec::new();
    for n in 0..HALF_OPEN.all + 200 {
        let secure = n % 3 == 0;
        let address = if secure { proxy.https() } else { proxy.http() };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begin: &[u8] = match n % 4 {
            0 => b"",
            _ if secure => b"\x16\x03\x01\x02\x00\x01",
            1 => b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
            2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _ => b"P",
        };
        // Somebody may be pushed out while he is still speaking.
        let _ = stream.write_all(begin).await;
        held.push(stream);
        if n % 100 == 0 {
            assert_eq!(code(&get(proxy.http(), "a", "/").await), 200, "after {n}");
        }
    }
    assert_eq!(code(&get(proxy.http(), "a", "/").await), 200);
    let (waiting, inside) = proxy.connections();
    assert!(waiting <= HALF_OPEN.all && inside <= 1, "{waiting} and {inside}");
    drop(held);
    proxy.stop().await;
}

/// Silence has an end on both sides.
#[tokio::test]
async fn silence_has_an_end() {
    let mute = Endpoint::raw(|mut stream| async move {
        let mut some = [0; 1024];
        while let Ok(1..) = stream.read(&mut some).await {}
    })
    .await;
    let half = Endpoint::raw(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
        let part = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
        let _ = stream.write_all(part).await;
        while let Ok(1..) = stream.read(&mut some).await {}
    })
    .await;
    let lines: &[Line<'_>] = &[("", "/mute", &[mute.address]), ("", "/half", &[half.address])];
    let short = json!({"metadata": {"annotations": {"edged.io/backend-timeout": "1"}}});
    let second = Duration::from_secs(1);
    let waits = Waits { first_byte: second, head: second, head_crowded: second };
    let proxy = Proxy::open(Ports { http: 0, https: 0 }, waits).await.unwrap();
    proxy.route(table(lines, short));
    let (plain, secure) = (proxy.http(), proxy.https());
    // A connection of HTTP/2 that has asked once and stays.
    let mut stays = http2::speak(TcpStream::connect(plain).await.unwrap()).await;
    let once = Request::get("http://a/none").body(Full::default()).unwrap();
    assert_eq!(stays.send_request(once).await.unwrap().status(), 404);
    let answers = tokio::join!(
        get(plain, "a", "/mute"),
        get(plain, "a", "/half"),
        talk(plain, b"POST /mute HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"),
        talk(plain, b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "),
        talk(plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        talk(plain, b""),
        talk(secure, b""),
    );
    assert_eq!(code(&answers.0), 504, "{}", answers.0);
    assert!(answers.1.ends_with("only this"), "{}", answers.1);
    assert!(matches!(code(&answers.2), 502 | 504), "{}", answers.2);
    assert!(matches!(code(&answers.3), 0 | 408), "{}", answers.3);
    assert_eq!((answers.5.as_str(), answers.6.as_str()), ("", ""));
    let gone = async {
        while proxy.connections() != (0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, gone).await.expect("all of them are gone");
    assert!(stays.is_closed());
    proxy.stop().await;
}
