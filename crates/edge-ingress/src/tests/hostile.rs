//! Requests that want to be two, that are none, or that chance made.

use super::*;

/// Chance by a seed (the constants are Knuth's).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused() {
    let web = Endpoint::named("web").await;
    let proxy = proxy(table(&[("", "/", &[web.address])], json!({}))).await;
    let bad: &[&str] = &[
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
        "hello\r\n\r\n",
    ];
    for text in bad {
        let text = match text.contains("Connection: close") {
            true => (*text).to_owned(),
            // Those that are refused by us would keep the connection.
            false => text.replacen("\r\n", "\r\nConnection: close\r\n", 1),
        };
        let answer = talk(proxy.http(), text.as_bytes()).await;
        assert!(matches!(code(&answer), 400 | 405 | 505 | 0), "{text:?}: {answer}");
    }
    assert_eq!(web.count(), 0, "none of them got through");
    // Both lengths: read by its chunks, sent on with one length, and then the connection ends.
    let both = "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = talk(proxy.http(), both.as_bytes()).await;
    assert!(answer.contains("POST /one") && !answer.contains("/two"), "{answer}");
    assert!(!answer.contains("content-length: 4"), "{answer}");
    assert_eq!(web.count(), 1);
    let broken = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello";
    let answer = talk(proxy.http(), broken.as_bytes()).await;
    assert!(matches!(code(&answer), 400 | 502 | 200 | 0), "{answer}");
    assert_eq!(code(&get(proxy.http(), "a", "/").await), 200);
    proxy.stop().await;
}

/// Whatever chance makes of a request, the proxy answers it or hangs up, and answers the next.
#[tokio::test]
async fn chance_breaks_nothing() {
    const ROUNDS: usize = 400;
    let web = Endpoint::named("web").await;
    let proxy = proxy(table(&[("", "/", &[web.address])], json!({}))).await;
    let good: &[&str] = &[
        "GET /a?b=c HTTP/1.1\r\nHost: a.org\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\
         Connection: close\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01abcde",
        "\x16\x03\x01\0\x05\x01\0\0\x01\x03",
    ];
    let words: &[&[u8]] =
        &[b"\r\n", b"\0", b": ", b"\xff", b"chunked", b"99999999999999999999", b"HTTP/1.1", b" "];
    let mut chance = Chance(20_261_121);
    for round in 0..ROUNDS {
        let mut bytes = good[chance.below(good.len())].as_bytes().to_vec();
        for _ in 0..=chance.below(4) {
            let at = chance.below(bytes.len());
            match chance.below(4) {
                0 => bytes[at] = chance.below(256) as u8,
                1 => drop(bytes.drain(at..(at + chance.below(9)).min(bytes.len()))),
                2 => bytes.truncate(at),
                _ => {
                    let word = words[chance.below(words.len())];
                    bytes.splice(at..at, word.iter().copied());
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        let secure = chance.below(5) == 0;
        let address = if secure { proxy.https() } else { proxy.http() };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut heard = Vec::new();
        let ended = timeout(SOON, stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "round {round}: no end of {bytes:?}");
        if round % 50 == 0 {
            assert_eq!(code(&get(proxy.http(), "a", "/").await), 200, "round {round}");
        }
    }
    assert_eq!(code(&get(proxy.http(), "a", "/").await), 200);
    proxy.stop().await;
}
