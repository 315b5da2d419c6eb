//! Where requests go, what they carry, and what happens when an endpoint fails or leaves.

use super::*;

#[tokio::test]
async fn hosts_paths_and_what_endpoints_learn_of_the_client() {
    let (web, api) = (Endpoint::named("web").await, Endpoint::named("api").await);
    let lines: &[Line<'_>] = &[
        ("a.org", "/", &[web.address]),
        ("a.org", "/api", &[api.address]),
        ("*.w.org", "/", &[api.address]),
        ("empty.org", "/", &[]),
    ];
    let proxy = proxy(table(lines, json!({}))).await;
    let at = proxy.http();
    for (host, path, want) in [
        ("a.org", "/x?y=1", "web GET /x?y=1\n"),
        ("A.org:81", "/", "web GET /\n"),
        ("a.org", "/api/v1", "api GET /api/v1\n"),
        ("a.org", "/apiary", "web GET /apiary\n"),
        ("x.w.org", "/", "api GET /\n"),
        ("a.org", "http://x.w.org/abs", "api GET /abs\n"),
    ] {
        let answer = get(at, host, path).await;
        assert!(answer.contains(want), "{host}{path}: {answer}");
    }
    assert_eq!(code(&get(at, "b.org", "/").await), 404);
    let answer = get(at, "empty.org", "/").await;
    assert!(code(&answer) == 503 && answer.contains("retry-after"), "{answer}");
    let lies = b"POST / HTTP/1.1\r\nHost: a.org\r\nX-Forwarded-For: 1.1.1.1\r\n\
                 X-Real-IP: 1.1.1.1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Kept: 1\r\n\
                 Content-Length: 5\r\n\r\nhello";
    let answer = talk(at, lies).await;
    for line in [
        "web POST /\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-real-ip: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: a.org\n",
        "host: a.org\n",
        "x-kept: 1\n",
        "content-length: 5\n",
        "body 5\n",
    ] {
        assert!(answer.contains(line), "{line:?} in {answer}");
    }
    assert!(!answer.contains("1.1.1.1") && !answer.contains("x-hop"), "{answer}");
    proxy.stop().await;
    assert!(TcpStream::connect(at).await.is_err(), "its port is closed");
}

#[tokio::test]
async fn connections_are_kept_on_both_sides_and_bodies_stream() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let (endpoint, listener) = Endpoint::listen().await;
    let count = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let service = service_fn(|request: Request<Incoming>| async {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body.len().to_string())))
            });
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    let proxy = proxy(table(&[("", "/", &[endpoint.address])], json!({}))).await;
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let hands = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let (mut sender, connection) = hands;
    tokio::spawn(connection);
    for size in [0, 10, 3 << 20, 1] {
        let body = Full::new(Bytes::from(vec![7; size]));
        let request = Request::post("/").header("host", "a").body(body).unwrap();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, size.to_string());
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1, "one connection to the endpoint was enough");
    assert_eq!(proxy.connections(), (0, 1));
    proxy.stop().await;
}

#[tokio::test]
async fn only_what_was_not_sent_goes_elsewhere() {
    let good = Endpoint::named("good").await;
    // Nobody listens there any more.
    let closed = { Endpoint::listen().await.0.address };
    let lines: &[Line<'_>] = &[("", "/", &[good.address, closed])];
    let first = proxy(table(lines, json!({}))).await;
    for _ in 0..20 {
        assert_eq!(code(&get(first.http(), "a", "/").await), 200);
    }
    assert_eq!(good.count(), 20);
    first.stop().await;
    // This one takes a request and hangs up: whether it did anything is unknown.
    let rude = Endpoint::raw(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
    })
    .await;
    let other = Endpoint::raw(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
    })
    .await;
    let lines: &[Line<'_>] = &[("", "/", &[rude.address, other.address])];
    let second = proxy(table(lines, json!({}))).await;
    assert_eq!(code(&get(second.http(), "a", "/").await), 502);
    assert_eq!(rude.count() + other.count(), 1, "it was sent once");
    let lines: &[Line<'_>] = &[("", "/", &[closed])];
    second.route(table(lines, json!({})));
    assert_eq!(code(&get(second.http(), "a", "/").await), 502);
    second.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_dies_within_its_answer_is_no_end() {
    let dying = Endpoint::raw(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
        let part = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
        let _ = stream.write_all(part).await;
    })
    .await;
    let chunked = Endpoint::raw(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
        let part = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n";
        let _ = stream.write_all(part).await;
    })
    .await;
    let lines: &[Line<'_>] =
        &[("", "/length", &[dying.address]), ("", "/chunks", &[chunked.address])];
    let proxy = proxy(table(lines, json!({}))).await;
    for path in ["/length", "/chunks"] {
        let answer = get(proxy.http(), "a", path).await;
        assert!(answer.contains("only this"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "no end of chunks: {answer}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_leaves_ends_what_it_does_and_gets_nothing_more() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let wait = gate.clone();
    let slow = Endpoint::serve(move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Response::new(Full::from("slow"))
        }
    })
    .await;
    let next = Endpoint::named("next").await;
    let proxy = proxy(table(&[("", "/", &[slow.address])], json!({}))).await;
    let at = proxy.http();
    let running = tokio::spawn(async move { get(at, "a", "/").await });
    timeout(SOON, async {
        while slow.count() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    proxy.route(table(&[("", "/", &[next.address])], json!({})));
    for _ in 0..10 {
        assert!(get(at, "a", "/").await.contains("next GET"));
    }
    gate.add_permits(1);
    assert!(running.await.unwrap().ends_with("slow"));
    assert_eq!((slow.count(), next.count()), (1, 10));
    proxy.stop().await;
}

#[tokio::test]
async fn endpoints_take_turns_and_the_busy_one_rests() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (wait, other) = (gate.clone(), Endpoint::named("other").await);
    let stuck = Endpoint::serve(move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Response::new(Full::from("stuck"))
        }
    })
    .await;
    let third = Endpoint::named("third").await;
    let lines: &[Line<'_>] = &[("", "/", &[stuck.address, other.address, third.address])];
    let proxy = proxy(table(lines, json!({}))).await;
    let at = proxy.http();
    let mut held = Vec::new();
    while stuck.count() == 0 {
        held.push(tokio::spawn(async move { get(at, "a", "/").await }));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = (other.count(), third.count());
    for _ in 0..30 {
        assert_eq!(code(&get(at, "a", "/").await), 200);
    }
    assert_eq!(stuck.count(), 1, "it is busy");
    assert_eq!((other.count() - before.0, third.count() - before.1), (15, 15));
    gate.add_permits(1);
    for task in held {
        assert_eq!(code(&task.await.unwrap()), 200);
    }
    proxy.stop().await;
}

#[tokio::test]
async fn websockets_are_carried_both_ways() {
    let endpoint = Endpoint::raw(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"));
        assert!(head.contains("sec-websocket-key: k"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut some = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut some).await {
            stream.write_all(&some[..count]).await.unwrap();
        }
    })
    .await;
    let proxy = proxy(table(&[("", "/", &[endpoint.address])], json!({}))).await;
    let mut stream = TcpStream::connect(proxy.http()).await.unwrap();
    let ask = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"first") {
        heard.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(heard).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: a"), "{head}");
    for word in ["ping", "pong and more"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut echo = vec![0; word.len()];
        timeout(SOON, stream.read_exact(&mut echo)).await.unwrap().unwrap();
        assert_eq!(echo, word.as_bytes());
    }
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    proxy.stop().await;
}
