//! HTTP/1.1 as far as an example needs it: GET of two paths, one connection a thread, bounded.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Connections at once; one more is told to come back.
const CONNECTIONS: usize = 256;

/// Bytes of a request's head that are read.
const HEAD: u64 = 16 * 1024;

/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stack of a connection's thread: it keeps no more than a line and a page.
const STACK: usize = 64 * 1024;

/// Serves until the process ends.
pub(super) fn run(port: u16) -> io::Result<()> {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    // A kernel without IPv6 still serves.
    let listener =
        TcpListener::bind(everywhere).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    stop_on_signal()?;
    println!("serving on port {port}");
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let count = open.clone();
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            // A client that breaks off harms nobody else.
            let _ = converse(&stream);
            count.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// As process 1 of its container it gets no default action for SIGTERM: it must ask for one.
fn stop_on_signal() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().stack_size(STACK * 4).spawn(move || {
        runtime.block_on(async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            if let Ok(mut terminate) = tokio::signal::unix::signal(kind) {
                terminate.recv().await;
                std::process::exit(0);
            }
        });
    })?;
    Ok(())
}

fn converse(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(HEAD));
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut close = false;
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            close |= line == "connection: close";
            if line.is_empty() {
                break;
            }
        }
        let mut words = request.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        answer(stream, method, path)?;
        if path != "/healthz" {
            println!("{method} {path}");
        }
        if close {
            return Ok(());
        }
        lines.get_mut().set_limit(HEAD);
    }
}

fn answer(mut stream: &TcpStream, method: &str, path: &str) -> io::Result<()> {
    let name = name();
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/healthz") => ("200 OK", "ok\n".to_owned()),
        ("GET" | "HEAD", "/") => ("200 OK", page(&name)),
        ("GET" | "HEAD", _) => ("404 Not Found", "not found\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { body.as_str() };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\nX-Served-By: {name}\r\n\r\n{shown}"
    );
    stream.write_all(text.as_bytes())
}

/// The pod's name: its hostname.
fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn page(name: &str) -> String {
    let version = std::env::var("VERSION").unwrap_or_else(|_| "1".to_owned());
    format!(
        "<!doctype html><title>edged</title><h1>It works</h1>\
         <p>Served by <b>{}</b>, version {}.</p>\n",
        escaped(name),
        escaped(&version)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || converse(&listener.accept().unwrap().0));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serving.join().unwrap().unwrap();
        answer
    }

    #[test]
    fn names_itself_and_refuses_what_it_does_not_know() {
        let end = "\r\nConnection: close\r\n\r\n";
        let page = ask(&format!("GET / HTTP/1.1{end}"));
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains(&format!("X-Served-By: {}", name())), "{page}");
        assert!(ask(&format!("GET /etc HTTP/1.1{end}")).starts_with("HTTP/1.1 404 "));
        assert!(ask(&format!("POST / HTTP/1.1{end}")).starts_with("HTTP/1.1 405 "));
        assert!(ask("").is_empty());
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("<b>&"), "&lt;b&gt;&amp;");
    }
}
