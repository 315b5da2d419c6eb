//! A command in a container, joined to a client's streams. How the streams travel (WebSocket, SPDY)
//! is not known here.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::runtime::{ExecSession, Stream};

/// Pieces on the way to or from a client.
pub(super) const PIECES: usize = 16;
/// Bytes read from a command at once.
const BLOCK: usize = 16 << 10;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromClient {
    /// Input.
    Stdin(Bytes),
    /// The end of input.
    StdinEnd,
    /// Width and height of its terminal.
    Resize(u16, u16),
}

impl FromClient {
    /// Reads `{"Width":80,"Height":24}`.
    pub(super) fn resize(data: &[u8]) -> Option<FromClient> {
        let size: Value = serde_json::from_slice(data).ok()?;
        let side = |key: &str| u16::try_from(size[key].as_u64()?).ok();
        Some(FromClient::Resize(side("Width")?, side("Height")?))
    }
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToClient {
    /// Output.
    Stdout(Bytes),
    /// Error output.
    Stderr(Bytes),
    /// How it ended; the last thing said.
    Status(Value),
}

/// How a command ended, as the remote command protocol (version 4) has it.
pub(super) fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

/// Why a command could not be run.
pub(super) fn failure(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("error executing command in container: {message}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": message }] },
        "code": 500,
    })
}

async fn pump(stream: Option<Stream>, out: mpsc::Sender<ToClient>, wrap: fn(Bytes) -> ToClient) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; BLOCK];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let piece = Bytes::copy_from_slice(&buffer[..count]);
        if out.send(wrap(piece)).await.is_err() {
            return;
        }
    }
}

/// Runs until the command ends, or the client goes away, which ends the command.
pub(super) async fn run(
    mut session: ExecSession,
    mut told: mpsc::Receiver<FromClient>,
    out: mpsc::Sender<ToClient>,
) {
    let mut stdin = session.stdin.take();
    let outputs = tokio::spawn({
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let out = out.clone();
        async move {
            tokio::join!(
                pump(stdout, out.clone(), ToClient::Stdout),
                pump(stderr, out, ToClient::Stderr)
            );
        }
    });
    let mut outputs = outputs;
    let mut drained = false;
    let mut listening = true;
    loop {
        tokio::select! {
            news = told.recv(), if listening => match news {
                Some(FromClient::Stdin(data)) => {
                    if let Some(stream) = stdin.as_mut()
                        && stream.write_all(&data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some(FromClient::StdinEnd) => stdin = None,
                Some(FromClient::Resize(width, height)) => {
                    let _ = session.resize(width, height);
                }
                None => listening = false,
            },
            () = out.closed() => break,
            _ = &mut outputs, if !drained => {
                drained = true;
                break;
            }
        }
    }
    if !drained {
        outputs.abort();
        return; // Dropping the session kills the command.
    }
    let code = tokio::select! {
        code = session.wait() => code,
        () = out.closed() => return,
    };
    let _ = out.send(ToClient::Status(exit_status(code))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(exit_status(0)["status"], "Success");
        assert_eq!(exit_status(3)["details"]["causes"][0]["message"], "3");
        assert_eq!(
            FromClient::resize(b"{\"Width\":1,\"Height\":2}"),
            Some(FromClient::Resize(1, 2))
        );
        assert_eq!(FromClient::resize(b"{\"Width\":-1,\"Height\":2}"), None);
    }
}
