//! The example image's program: a static web server in a hundred lines of the standard library. It
//! is a hidden mode of `edged` itself, so that the demo needs neither a network nor a compiler to
//! have an image: the one file that is surely there goes into it.

use nix::sys::signal::{SigSet, Signal};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What `GET /` answers; `{hostname}` and `{version}` are filled in.
const PAGE: &str = include_str!("../../../../images/webserver/page.html");
const DEFAULT_PORT: u16 = 8080;
const WORKERS: usize = 4;
const STACK: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
const HEAD_MAX: u64 = 8 * 1024;

/// Serves until SIGTERM or SIGINT; the exit status.
///
/// Settings are environment variables, as usual in containers: `PORT` and `VERSION`.
pub fn main() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("webserver: {error}");
            1
        }
    }
}

fn serve() -> Result<(), String> {
    // As the first process of a container it would ignore the signals that it doesn't wait for.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block().map_err(|e| format!("block signals: {e}"))?;
    let port = match std::env::var("PORT") {
        Err(_) => DEFAULT_PORT,
        Ok(text) => text.parse().map_err(|_| format!("PORT={text} is no port number"))?,
    };
    let listener =
        TcpListener::bind(("0.0.0.0", port)).map_err(|e| format!("listen on port {port}: {e}"))?;
    println!("serving on port {port}");
    for _ in 0..WORKERS {
        let listener = listener.try_clone().map_err(|e| format!("share the listener: {e}"))?;
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || work(&listener))
            .map_err(|e| format!("start a worker: {e}"))?;
    }
    let signal = ends.wait().map_err(|e| format!("wait for a signal: {e}"))?;
    println!("{signal}: good-bye");
    Ok(())
}

fn work(listener: &TcpListener) {
    let hostname = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let version = std::env::var("VERSION").unwrap_or_else(|_| "1".into());
    loop {
        // A visitor who hangs up early is no reason to stop.
        if let Ok((stream, from)) = listener.accept()
            && let Ok(Some(line)) = answer(&stream, &hostname, &version)
        {
            println!("{} {line}", from.ip());
        }
    }
}

/// Answers one request; the line for the log, if it deserves one.
fn answer(stream: &TcpStream, hostname: &str, version: &str) -> io::Result<Option<String>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(HEAD_MAX)).lines();
    let Some(request) = lines.next().transpose()? else { return Ok(None) };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let page =
        || PAGE.replace("{hostname}", &escape(hostname)).replace("{version}", &escape(version));
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/") => ("200 OK", "text/html", page()),
        ("GET" | "HEAD", "/hostname") => ("200 OK", "text/plain", format!("{hostname}\n")),
        ("GET" | "HEAD", "/version") => ("200 OK", "text/plain", format!("{version}\n")),
        ("GET" | "HEAD", "/healthz") => ("200 OK", "text/plain", "ok\n".into()),
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "no such page\n".into()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET and HEAD\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {}\r\n\
         x-served-by: {hostname}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()?;
    Ok((path != "/healthz").then(|| format!("{method} {path} {status}")))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let request = request.to_string();
        let visitor = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let (stream, _) = listener.accept().unwrap();
        drop(answer(&stream, "web-<1>", "2"));
        drop(stream);
        visitor.join().unwrap()
    }

    #[test]
    fn pages_health_and_errors() {
        let page = ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("Hello from web-&lt;1&gt;") && page.contains("Version 2"));
        assert!(page.contains("x-served-by: web-<1>\r\n"));
        assert!(ask("GET /healthz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
        assert!(ask("HEAD /healthz HTTP/1.0\r\n\r\n").ends_with("close\r\n\r\n"));
        assert!(ask("GET /no?x=1 HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert_eq!(ask(""), "");
    }
}
