//! How a command fails, and how that is told: in the words that `kubectl` users know.

use edge_api::status::{Reason, Status};
use edge_client::{ConfigError, Error};
use std::fmt;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server refused, or could not be reached; with what was being done, if that helps.
    Api(Error, Option<String>),
    /// What was typed makes no sense, or something on this side is wrong.
    Text(String),
    /// Reading or writing on this side failed.
    Io(String, std::io::Error),
    /// Several things failed, each for its own reason.
    Many(Vec<Fault>),
    /// All has been said; end with this code.
    Exit(i32),
}

impl Fault {
    /// A plain `error: …`.
    pub(crate) fn text(message: impl Into<String>) -> Fault {
        Fault::Text(message.into())
    }

    /// The failure of reading or writing something.
    pub(crate) fn io(operation: impl Into<String>, source: std::io::Error) -> Fault {
        Fault::Io(operation.into(), source)
    }

    /// Says what was being done when the server refused.
    pub(crate) fn when(error: Error, doing: impl Into<String>) -> Fault {
        Fault::Api(error, Some(doing.into()))
    }

    /// One fault from several: none is success.
    pub(crate) fn all(mut faults: Vec<Fault>) -> Result<(), Fault> {
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults.remove(0)),
            _ => Err(Fault::Many(faults)),
        }
    }

    /// The exit code that goes with it.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Fault::Exit(code) => *code,
            _ => 1,
        }
    }

    /// Whether the reader of our output has gone away, which is its right.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Fault::Io(_, source) if source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Whether the server says that the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Fault::Api(error, _) if error.is_not_found())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Api(error, None)
    }
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Fault {
        Fault::Text(error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Api(error, doing) => f.write_str(&api(error, doing.as_deref())),
            Fault::Text(message) => write!(f, "error: {message}"),
            Fault::Io(operation, source) => write!(f, "error: {operation}: {source}"),
            Fault::Many(faults) => {
                let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Fault::Exit(_) => Ok(()),
        }
    }
}

fn api(error: &Error, doing: Option<&str>) -> String {
    match error {
        Error::Status(status) => refusal(status, doing),
        Error::Connect { server, source } => {
            let host = server.split("://").last().unwrap_or(server);
            match source.kind() {
                std::io::ErrorKind::ConnectionRefused => format!(
                    "The connection to the server {host} was refused - did you specify the \
                     right host or port?"
                ),
                _ => format!("Unable to connect to the server: {error}"),
            }
        }
        Error::Tls { .. } => format!("Unable to connect to the server: {error}"),
        _ => format!("error: {}{error}", doing.map(|d| format!("{d}: ")).unwrap_or_default()),
    }
}

/// A `Status` as `kubectl` prints it.
fn refusal(status: &Status, doing: Option<&str>) -> String {
    let doing = doing.map(|doing| format!("{doing}: ")).unwrap_or_default();
    let details = status.details.as_deref();
    match (status.reason, details) {
        (Reason::Unauthorized, _) => {
            let why = Some(status.message.as_str()).filter(|words| !words.is_empty());
            format!(
                "error: You must be logged in to the server ({})",
                why.unwrap_or("Unauthorized")
            )
        }
        (Reason::Invalid, Some(details)) if !details.kind.is_empty() => {
            let what = format!("{doing}The {} {:?} is invalid", details.kind, details.name);
            match details.causes.as_slice() {
                [] => format!("{what}: {}", status.message),
                [only] => format!("{what}: {}: {}", only.field, only.message),
                several => {
                    let lines: Vec<String> =
                        several.iter().map(|c| format!("* {}: {}", c.field, c.message)).collect();
                    format!("{what}: \n{}", lines.join("\n"))
                }
            }
        }
        (Reason::Unknown, _) => format!("Error from server: {doing}{}", status.message),
        (reason, _) => {
            format!("Error from server ({}): {doing}{}", reason.as_str(), status.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(status: serde_json::Value, doing: Option<&str>) -> String {
        let status = Status::from_json(&status).unwrap();
        Fault::Api(Error::Status(Box::new(status)), doing.map(str::to_string)).to_string()
    }

    #[test]
    fn refusals_read_like_kubectls() {
        let missing = json!({"kind": "Status", "reason": "NotFound", "code": 404,
                             "message": "pods \"x\" not found"});
        assert_eq!(
            said(missing.clone(), None),
            "Error from server (NotFound): pods \"x\" not found"
        );
        assert_eq!(
            said(missing, Some("error when creating \"a.yaml\"")),
            "Error from server (NotFound): error when creating \"a.yaml\": pods \"x\" not found"
        );
        let invalid = |causes| {
            json!({"kind": "Status", "reason": "Invalid", "code": 422, "message": "m",
                   "details": {"kind": "Pod", "name": "x", "causes": causes}})
        };
        let one = json!({"field": "spec.x", "message": "Required value"});
        assert_eq!(
            said(invalid(json!([one])), None),
            "The Pod \"x\" is invalid: spec.x: Required value"
        );
        assert_eq!(
            said(invalid(json!([one, one])), None),
            "The Pod \"x\" is invalid: \n* spec.x: Required value\n* spec.x: Required value"
        );
    }

    #[test]
    fn an_absent_server_is_named() {
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Error::Connect { server: "https://10.0.0.1:6443".to_string(), source };
        assert_eq!(
            Fault::from(error).to_string(),
            "The connection to the server 10.0.0.1:6443 was refused - did you specify the right \
             host or port?"
        );
    }
}
