//! What can go wrong on the way to an answer. Each variant prints as one line that names the
//! operation, what it was done to, and the cause.

use edge_api::status::Status;
use std::fmt;

/// Why a request got no usable answer.
#[derive(Debug)]
pub enum Error {
    /// The server answered with a Kubernetes `Status` that is a failure.
    Status(Box<Status>),
    /// No connection: refused, unreachable, unknown host, or too slow.
    Connect {
        /// The server, as written in the configuration.
        server: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A connection, but no trust: bad certificate, wrong name, handshake refused.
    Tls {
        /// The server, as written in the configuration.
        server: String,
        /// What the TLS library said.
        source: std::io::Error,
    },
    /// The connection broke or the peer does not speak HTTP or WebSocket as it should.
    Protocol {
        /// What was being done.
        operation: String,
        /// What happened.
        message: String,
    },
    /// The answer is not what the API promises.
    Decode {
        /// What was being done.
        operation: String,
        /// What was wrong with the bytes.
        message: String,
    },
    /// The server took too long.
    Timeout {
        /// What was being done.
        operation: String,
        /// After how many seconds it was given up.
        seconds: u64,
    },
}

impl Error {
    /// The `Status` that the server answered with, if that is what this is.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP code of the server's refusal; 0 when the server did not answer.
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Whether the object exists already or was changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// Whether the asked revision is older than the server's history.
    pub fn is_gone(&self) -> bool {
        self.code() == 410
    }

    /// Whether no server could be talked to at all, so that nothing can have been done.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Connect { .. } | Error::Tls { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Status(status) => write!(f, "{}", status.message),
            Error::Connect { server, source } => write!(f, "connect to {server}: {source}"),
            Error::Tls { server, source } => {
                write!(f, "TLS handshake with {server}: {}", flatten(source))
            }
            Error::Protocol { operation, message } => write!(f, "{operation}: {message}"),
            Error::Decode { operation, message } => {
                write!(f, "{operation}: cannot read the answer: {message}")
            }
            Error::Timeout { operation, seconds } => {
                write!(f, "{operation}: no answer within {seconds} s")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect { source, .. } | Error::Tls { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Libraries name pages about themselves, which help nobody at a board.
fn without_links(line: String) -> String {
    match line.split_once(": https://docs.rs/") {
        Some((before, _)) => before.to_owned(),
        None => line,
    }
}

/// One line from an error and its causes, without repeating what the outer one says already.
pub(crate) fn flatten(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = inner.source();
    }
    without_links(line)
}
