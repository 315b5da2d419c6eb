//! HTTP/2 towards clients and endpoints, and what gRPC needs of it.

use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;

/// A gRPC endpoint: echoes the body, with its status behind it.
async fn grpc() -> Endpoint {
    let (endpoint, listener) = Endpoint::listen().await;
    let requests = endpoint.requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let requests = requests.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                requests.fetch_add(1, Ordering::SeqCst);
                async move {
                    let te = request.headers().get("te").cloned();
                    let host = request.uri().host().map(str::to_owned);
                    assert_eq!(host.as_deref(), Some("rpc.org"));
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "7".parse().unwrap());
                    trailers.insert("x-te", te.unwrap_or("none".parse().unwrap()));
                    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
                    let stream = futures_util::stream::iter(frames);
                    Ok::<_, Infallible>(Response::new(StreamBody::new(
                        stream.map(|frame: Result<_, Infallible>| frame),
                    )))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    endpoint
}

use futures_util::StreamExt as _;

pub(super) async fn speak<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let hands = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(hands.1);
    hands.0
}

fn call(uri: &str) -> Request<Full<Bytes>> {
    Request::post(uri).header("te", "trailers").body(Full::from("question")).unwrap()
}

#[tokio::test]
async fn grpc_with_and_without_tls() {
    let (rpc, web) = (grpc().await, Endpoint::named("web").await);
    let lines: &[Line<'_>] =
        &[("rpc.org", "/grpc", &[rpc.address]), ("rpc.org", "/", &[web.address])];
    let proxy = proxy(table(lines, json!({}))).await;
    let secure = tls::connect(proxy.https(), "rpc.org", &["h2", "http/1.1"]).await;
    assert_eq!(secure.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let plain = TcpStream::connect(proxy.http()).await.unwrap();
    for mut sender in [speak(secure).await, speak(plain).await] {
        let calls = (0..20).map(|_| sender.send_request(call("http://rpc.org/grpc/Do")));
        for answer in futures_util::future::join_all(calls).await {
            let answer = answer.unwrap();
            assert_eq!(answer.version(), http::Version::HTTP_2);
            let body = answer.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap();
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-te"]),
                (&"7".parse().unwrap(), &"trailers".parse().unwrap())
            );
            assert_eq!(body.to_bytes(), "question");
        }
        // The same connection reaches an endpoint that speaks HTTP/1.1.
        let answer = sender.send_request(call("http://rpc.org/web")).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        for line in ["web POST /web\n", "host: rpc.org\n", "body 8\n"] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let two = Request::get("http://rpc.org/").header("host", "other.org");
        let answer = sender.send_request(two.body(Full::default()).unwrap()).await;
        assert!(answer.is_err() || answer.unwrap().status() == 400);
    }
    assert_eq!((rpc.count(), web.count()), (40, 2));
    proxy.stop().await;
}
