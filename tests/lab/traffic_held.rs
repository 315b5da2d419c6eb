//! Clients that keep their connection to an Ingress: over HTTP/1.1, one request behind the other,
//! and over HTTP/2, many at once; at a steady rate, until all is done.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::traffic_places::Place;
use super::traffic_rolling::{PATIENCE, Seen};

/// Connections of HTTP/1.1 that are kept.
const KEPT: usize = 8;
const HEADER: &str = "x-served-by";

/// Waits until it is time for the next request; none when all is done.
fn turn(next: &AtomicU32, begin: Instant, rate: u32, done: &AtomicBool) -> Option<Duration> {
    let at = next.fetch_add(1, Ordering::Relaxed) * (1_000_000 / rate);
    let at = begin + Duration::from_micros(at.into());
    (!done.load(Ordering::Acquire)).then(|| at.saturating_duration_since(Instant::now()))
}

fn note(seen: &Mutex<Seen>, begin: Instant, sent: Instant, outcome: Result<String, String>) {
    let mut seen = seen.lock().expect("what was seen");
    seen.slowest = seen.slowest.max(sent.elapsed());
    match outcome {
        Ok(server) => *seen.servers.entry(server).or_default() += 1,
        Err(why) => seen.failed.push((sent - begin, why)),
    }
}

/// One request on a connection that stays; the pod that answered.
fn ask(stream: &mut BufReader<TcpStream>, host: &str) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes()).map_err(text)?;
    let (mut length, mut server, mut first) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).map_err(text)? == 0 {
            return Err("the connection was closed".to_owned());
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            _ if line.is_empty() => break,
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some((HEADER, value)) => server = value.to_owned(),
            _ if first.is_empty() => first = line,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(text)?;
    let right = first.starts_with("http/1.1 200") && body == b"ok\n" && !server.is_empty();
    right.then_some(server).ok_or(format!("{first:?}: {:?}", String::from_utf8_lossy(&body)))
}

/// Asks on some connections that are made once, and again only after a failure.
pub(super) fn by_http1(
    place: &Place,
    to: SocketAddr,
    host: &str,
    rate: u32,
    done: &AtomicBool,
) -> Seen {
    let (next, begin, seen) = (AtomicU32::new(0), Instant::now(), Mutex::default());
    let dial = || {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(BufReader::new(stream))
    };
    std::thread::scope(|scope| {
        for _ in 0..KEPT {
            scope.spawn(|| {
                place.enter();
                let mut held: Option<BufReader<TcpStream>> = None;
                while let Some(wait) = turn(&next, begin, rate, done) {
                    std::thread::sleep(wait);
                    let sent = Instant::now();
                    let outcome = match held.take().map_or_else(&dial, Ok) {
                        Err(why) => Err(why),
                        Ok(mut stream) => {
                            let outcome = ask(&mut stream, host);
                            held = outcome.is_ok().then_some(stream);
                            outcome
                        }
                    };
                    note(&seen, begin, sent, outcome);
                }
            });
        }
    });
    seen.into_inner().expect("what was seen")
}

async fn once(mut to: SendRequest<Empty<Bytes>>, host: String) -> Result<String, String> {
    let request = Request::get(format!("http://{host}/healthz")).body(Empty::new());
    let answer = to.send_request(request.expect("a request")).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let server = head.headers.get(HEADER).and_then(|value| value.to_str().ok());
    let right = head.status == 200 && body == "ok\n";
    server.filter(|_| right).map(str::to_owned).ok_or(format!("{} {body:?}", head.status))
}

/// Asks on one connection of HTTP/2, each request beside those that are under way.
pub(super) fn by_http2(
    place: &Place,
    to: SocketAddr,
    host: &str,
    rate: u32,
    done: &AtomicBool,
) -> Seen {
    let (next, begin, seen) = (AtomicU32::new(0), Instant::now(), Arc::new(Mutex::default()));
    let told = seen.clone();
    let work = async move {
        let stream = tokio::net::TcpStream::connect(to).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut under_way = tokio::task::JoinSet::new();
        while let Some(wait) = turn(&next, begin, rate, done) {
            tokio::time::sleep(wait).await;
            let (sender, host, seen) = (sender.clone(), host.to_owned(), told.clone());
            under_way.spawn(async move {
                let sent = Instant::now();
                let outcome = tokio::time::timeout(PATIENCE, once(sender, host)).await;
                let outcome = outcome.unwrap_or_else(|_| Err("no answer".to_owned()));
                note(&seen, begin, sent, outcome);
            });
        }
        while under_way.join_next().await.is_some() {}
    };
    place.enter();
    super::load::runtime().block_on(work);
    std::mem::take(&mut *seen.lock().expect("what was seen"))
}
