//! Connections to endpoints, which nobody drives but whoever has a request on them.

use tokio::sync::Semaphore;

use super::super::limits::Waits;
use super::*;

/// Reads one request without a body; false when the connection ended.
async fn heard(stream: &mut TcpStream) -> bool {
    let (mut head, mut some) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut some).await {
            Ok(count @ 1..) => head.extend_from_slice(&some[..count]),
            _ => return false,
        }
    }
    true
}

/// An endpoint may close a connection that rests: the next request is sent over another.
#[tokio::test]
async fn a_connection_that_was_closed_while_it_rested_is_not_asked() {
    let closed = Arc::new(Semaphore::new(0));
    let told = closed.clone();
    let once = Endpoint::raw(move |mut stream| {
        let told = told.clone();
        async move {
            if heard(&mut stream).await {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce";
                stream.write_all(answer).await.unwrap();
            }
            drop(stream);
            told.add_permits(1);
        }
    })
    .await;
    let proxy = proxy(table(&[("a", "/", &[once.address])], json!({}))).await;
    let at = proxy.http();
    for n in 1..=20 {
        assert!(get(at, "a", "/").await.ends_with("once"), "request {n}");
        timeout(SOON, closed.acquire()).await.unwrap().unwrap().forget();
        // What the system has to say meanwhile is heard by then.
        assert_eq!(code(&get(at, "nowhere", "/").await), 404);
        assert_eq!(once.count(), n);
    }
    proxy.stop().await;
}

/// Who answers before it has heard all, hears all the same, even by a client that takes nothing
/// of the answer before it has said all.
#[tokio::test]
async fn an_answer_before_the_requests_end_does_not_stop_the_request() {
    const MUCH: usize = 16 << 20;
    let early = Endpoint::raw(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let (mut from, mut to) = stream.split();
        let answer = async {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
            to.write_all(head.as_bytes()).await.unwrap();
            to.write_all(&vec![b'a'; MUCH]).await.unwrap();
        };
        let listen = async {
            let mut body = vec![0; MUCH];
            from.read_exact(&mut body).await.unwrap();
        };
        tokio::join!(answer, listen);
    })
    .await;
    let proxy = proxy(table(&[("", "/", &[early.address])], json!({}))).await;
    let mut stream = TcpStream::connect(proxy.http()).await.unwrap();
    let exchange = async {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {MUCH}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'q'; MUCH]).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(SOON, exchange).await.expect("both ways move");
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > MUCH);
    proxy.stop().await;
}

/// A connection whose answer has passed is not silent for as long as its request goes on.
#[tokio::test]
async fn a_request_that_goes_on_after_its_answer_may_pause() {
    let (tell, heard_all) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let early = Endpoint::raw(move |mut stream| {
        let tell = tell.lock().unwrap().take();
        async move {
            heard(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            let mut body = [0; 10];
            stream.read_exact(&mut body).await.unwrap();
            let _ = tell.unwrap().send(body);
        }
    })
    .await;
    let head = Duration::from_millis(700);
    let waits = Waits { first_byte: head, head, head_crowded: head };
    let proxy = Proxy::open(Ports { http: 0, https: 0 }, waits).await.unwrap();
    proxy.route(table(&[("", "/", &[early.address])], json!({})));
    let mut stream = TcpStream::connect(proxy.http()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        answer.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    stream.write_all(b"first").await.unwrap();
    tokio::time::sleep(3 * head).await;
    stream.write_all(b"after").await.unwrap();
    assert_eq!(&timeout(SOON, heard_all).await.unwrap().unwrap(), b"firstafter");
    proxy.stop().await;
}

/// A client that reads nothing stops its answer, and nobody else's.
#[tokio::test]
async fn a_long_answer_comes_as_fast_as_it_is_taken() {
    const MUCH: usize = 32 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let long = Endpoint::raw(move |mut stream| {
        let count = count.clone();
        async move {
            heard(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while count.load(Ordering::SeqCst) < MUCH {
                let Ok(more) = stream.write(&[b'x'; 1 << 16]).await else { return };
                count.fetch_add(more, Ordering::SeqCst);
            }
        }
    })
    .await;
    let web = Endpoint::named("web").await;
    let lines: &[Line<'_>] = &[("", "/long", &[long.address]), ("", "/web", &[web.address])];
    let proxy = proxy(table(lines, json!({}))).await;
    let mut stream = TcpStream::connect(proxy.http()).await.unwrap();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Nothing moves any more: what the sockets on the way hold is all that was sent.
    let (mut before, mut same) = (0, 0);
    while same < 20 {
        assert_eq!(code(&get(proxy.http(), "a", "/web").await), 200);
        let now = sent.load(Ordering::SeqCst);
        same = if now == before && now > 0 { same + 1 } else { 0 };
        before = now;
    }
    assert!(before < MUCH, "{before} bytes were sent to nobody");
    let (mut have, mut some) = (0, vec![0; 1 << 16]);
    while have < MUCH {
        have += timeout(SOON, stream.read(&mut some)).await.unwrap().unwrap();
    }
    proxy.stop().await;
}

/// What an endpoint has said in full, and the client has not taken so far, is no silence: it waits
/// for longer than a connection may be silent.
#[tokio::test]
async fn a_slow_client_gets_all_of_its_answer() {
    let sized = Endpoint::serve(|request| async move {
        let size = request.uri().path().trim_start_matches('/').parse().unwrap();
        Response::new(Full::from(vec![b'x'; size]))
    })
    .await;
    let short = Duration::from_millis(200);
    let waits = Waits { first_byte: SOON, head: short, head_crowded: short };
    let proxy = Proxy::open(Ports { http: 0, https: 0 }, waits).await.unwrap();
    proxy.route(table(&[("", "/", &[sized.address])], json!({})));
    let mut held = Vec::new();
    // Whatever the sockets on the way hold: the last of some of these waits in the proxy.
    for size in (1..32_usize).map(|n| n << 18) {
        let mut stream = TcpStream::connect(proxy.http()).await.unwrap();
        let ask = format!("GET /{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        held.push((size, stream));
    }
    tokio::time::sleep(short * 5).await;
    for (size, mut stream) in held {
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.len() > size, "{} of {size}", answer.len());
    }
    proxy.stop().await;
}
