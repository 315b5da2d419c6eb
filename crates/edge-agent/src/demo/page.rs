//! Fetches the example's page as any client on the board would, one connection each time, so
//! that every fetch is a new choice of the Service.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for one answer.
const WAIT: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const MOST: u64 = 64 * 1024;

/// The header in which the example server names the pod that answers.
const SERVED_BY: &str = "x-served-by:";

/// Fetches `/` from `target` and returns the name of the replica that answered.
///
/// # Errors
/// When the connection fails, or what answers is not the example's server.
pub(super) async fn fetch(target: SocketAddr) -> io::Result<String> {
    timeout(WAIT, ask(target)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn ask(target: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(target).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).await?;
    served_by(&answer).ok_or_else(|| {
        let first = answer.lines().next().unwrap_or_default();
        io::Error::other(format!("{target} answered {first:?} and names no replica"))
    })
}

fn served_by(answer: &str) -> Option<String> {
    let mut lines = answer.lines();
    if !lines.next()?.contains(" 200 ") {
        return None;
    }
    let line = lines.find(|l| l.to_lowercase().starts_with(SERVED_BY))?;
    Some(line[SERVED_BY.len()..].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_replica_of_a_good_answer_only() {
        let good = "HTTP/1.1 200 OK\r\nX-Served-By: web-1\r\n\r\nhello";
        assert_eq!(served_by(good).as_deref(), Some("web-1"));
        assert_eq!(served_by("HTTP/1.1 404 Not Found\r\nX-Served-By: web-1\r\n\r\n"), None);
        assert_eq!(served_by(""), None);
    }
}
