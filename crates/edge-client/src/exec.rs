//! Kubernetes' remote command protocol over a WebSocket: the first byte of each message names a
//! stream. Version 5 can close standard input; version 4 cannot.

use crate::error::Error;
use crate::http_client::Client;
use crate::query::{Query, object_path};
use crate::websocket::{Message, Reader, Writer};
use bytes::{Buf, Bytes};
use edge_api::Object;
use serde_json::json;

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What to run and what to connect to it.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The container; the server picks when there is only one.
    pub container: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Connect our input.
    pub stdin: bool,
    /// Give it a terminal; error output then comes with the rest.
    pub tty: bool,
}

/// What the command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Standard output.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The command has ended with this code.
    Exit(i32),
    /// The command could not be run.
    Failed(String),
}

/// A running command: what it says.
pub struct ExecOutput {
    reader: Reader,
    done: bool,
}

/// A running command: what it is told.
#[derive(Clone)]
pub struct ExecInput {
    writer: Writer,
    can_close: bool,
}

impl Client {
    /// Runs a command in a container of a pod.
    pub async fn exec(
        &self,
        ns: &str,
        pod: &str,
        options: &ExecOptions,
    ) -> Result<(ExecInput, ExecOutput), Error> {
        let mut query = Query::new();
        for word in &options.command {
            query.add("command", word);
        }
        query.add_some("container", options.container.as_deref());
        query.add("stdin", if options.stdin { "true" } else { "false" });
        query.add("stdout", "true");
        query.add("stderr", if options.tty { "false" } else { "true" });
        query.add("tty", if options.tty { "true" } else { "false" });
        let path = object_path("", "v1", "pods", ns, pod, Some("exec"));
        let socket = self.upgrade(&query.on(&path), &PROTOCOLS).await?;
        let can_close = socket.protocol() == PROTOCOLS[0];
        let (reader, writer) = socket.split();
        Ok((ExecInput { writer, can_close }, ExecOutput { reader, done: false }))
    }
}

impl ExecInput {
    /// Sends input.
    pub async fn write(&self, data: &[u8]) -> Result<(), Error> {
        self.writer.send(&[STDIN], data).await
    }

    /// Ends the input; does nothing with a server that knows no way to say so.
    pub async fn end(&self) -> Result<(), Error> {
        if self.can_close { self.writer.send(&[CLOSE, STDIN], &[]).await } else { Ok(()) }
    }

    /// Tells the size of the terminal.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        let size = json!({"Width": width, "Height": height}).to_string();
        self.writer.send(&[RESIZE], size.as_bytes()).await
    }

    /// Ends the connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.writer.close().await
    }
}

impl ExecOutput {
    /// The next piece; `None` after [`ExecEvent::Exit`] or [`ExecEvent::Failed`]. May be dropped
    /// and called again.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, Error> {
        if self.done {
            return Ok(None);
        }
        loop {
            let mut data = match self.reader.next().await? {
                Some(Message::Data(data)) => data,
                end => {
                    self.done = true;
                    let why = match end {
                        Some(Message::Close(_, reason)) if !reason.is_empty() => reason,
                        _ => "the connection ended before the command did".to_string(),
                    };
                    return Ok(Some(ExecEvent::Failed(why)));
                }
            };
            if data.len() < 2 {
                continue;
            }
            match data.get_u8() {
                STDOUT => return Ok(Some(ExecEvent::Stdout(data))),
                STDERR => return Ok(Some(ExecEvent::Stderr(data))),
                STATUS => {
                    self.done = true;
                    return Ok(Some(ending(&data)));
                }
                _ => {}
            }
        }
    }
}

/// What the `Status` at the end of a command means.
fn ending(data: &[u8]) -> ExecEvent {
    let status: Object = serde_json::from_slice(data).unwrap_or(Object::Null);
    if status["status"] == "Success" {
        return ExecEvent::Exit(0);
    }
    if status["reason"] == "NonZeroExitCode" {
        let causes = status["details"]["causes"].as_array();
        let code = causes
            .into_iter()
            .flatten()
            .find(|cause| cause["reason"] == "ExitCode")
            .and_then(|cause| cause["message"].as_str()?.parse().ok());
        if let Some(code) = code {
            return ExecEvent::Exit(code);
        }
    }
    let text = String::from_utf8_lossy(data);
    ExecEvent::Failed(status["message"].as_str().unwrap_or(&text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        assert_eq!(ending(br#"{"status":"Success"}"#), ExecEvent::Exit(0));
        let three = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"exit code 3",
            "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(ending(three), ExecEvent::Exit(3));
        let lost = br#"{"status":"Failure","reason":"InternalError","message":"no such file"}"#;
        assert_eq!(ending(lost), ExecEvent::Failed("no such file".to_string()));
        assert_eq!(ending(b"oh no"), ExecEvent::Failed("oh no".to_string()));
    }
}
