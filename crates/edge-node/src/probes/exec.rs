//! Probes by command: a container is well when the command ends with 0.

use std::time::Duration;

use edge_api::k8s::api::core::v1::ExecAction;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::{Outcome, Target};
use crate::runtime::{ExecSpec, RuntimeError};

/// Output kept of a command, for the event.
const OUTPUT: usize = 10 << 10;

/// Reads a stream to its end and keeps its beginning.
async fn gather(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(mut stream) = stream else { return out };
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT.saturating_sub(out.len()).min(n);
        out.extend_from_slice(&buffer[..room]);
    }
    out
}

pub(super) async fn ask(target: &Target<'_>, action: &ExecAction, limit: Duration) -> Outcome {
    let args = action.command.clone().unwrap_or_default();
    let spec = ExecSpec { args, stdout: true, stderr: true, ..ExecSpec::default() };
    let work = async {
        let mut session = target.runtime.exec(target.id, &spec).await?;
        let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
        let (out, err, code) = tokio::join!(gather(stdout), gather(stderr), session.wait());
        Ok::<_, RuntimeError>((code, [out, err].concat()))
    };
    match timeout(limit, work).await {
        Err(_) => {
            let command = spec.args.join(" ");
            Outcome::Failure(format!("command \"{command}\" timed out after {}s", limit.as_secs()))
        }
        Ok(Ok((0, _))) => Outcome::Success,
        Ok(Ok((_, output))) => Outcome::Failure(String::from_utf8_lossy(&output).into_owned()),
        Ok(Err(RuntimeError::Exec { message, .. })) => Outcome::Failure(message),
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
    }
}
