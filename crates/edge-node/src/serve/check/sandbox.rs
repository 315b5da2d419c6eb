//! A pod's network without a pod. It is there while somebody reads what it says, and no longer than
//! a quarter of an hour.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_api::status::Status;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{PORT, PREFIX, answering};
use crate::agent::Board;
use crate::serve::reply::{self, Reply};

/// Sandboxes on a board at once.
const SANDBOXES: usize = 4;
/// However long the caller stays.
const LIFE: Duration = Duration::from_secs(900);
/// So often the caller hears that it is still there, and so soon it is noticed that nobody listens.
const BEAT: Duration = Duration::from_secs(2);

/// Whoever wants a sandbox gone waits no longer than this.
const GOING: Duration = Duration::from_secs(5);
/// Letters of the name that a caller may give to its sandbox.
const NAME: usize = 16;

/// A sandbox that goes away when this does.
struct Sandbox {
    board: Arc<Board>,
    uid: String,
    /// Turns true when it is to end. Who waits for its end waits for this to go.
    end: watch::Receiver<bool>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let (board, uid) = (self.board.clone(), std::mem::take(&mut self.uid));
        let end = self.end.clone();
        // When the process ends, the next one's sweep does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = board.net.remove_pod(&uid).await {
                    tracing::warn!("remove the network of a check: {error}");
                }
                board.checks().remove(&uid);
                drop(end);
            });
        }
    }
}

/// The uid of a caller's sandbox by the name that it gave.
fn named(run: &str) -> Result<String, Status> {
    let right = (1..=NAME).contains(&run.len()) && run.bytes().all(|b| b.is_ascii_hexdigit());
    if right { Ok(format!("{PREFIX}{run}")) } else { Err(Status::bad_request("run: no name")) }
}

fn drawn() -> Result<String, Status> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Status::internal("the system gives no random numbers"))?;
    Ok(format!("{PREFIX}{:016x}", u64::from_be_bytes(bytes)))
}

/// Ends the sandbox of that name, and answers when it is gone.
pub(super) async fn close(board: &Arc<Board>, run: Option<&str>) -> Result<Reply, Status> {
    let uid = named(run.unwrap_or_default())?;
    let end = board.checks().get(&uid).cloned();
    if let Some(end) = end {
        end.send_replace(true);
        // Whatever is left then is said where it failed.
        let _ = tokio::time::timeout(GOING, end.closed()).await;
    }
    Ok(reply::json(200, &json!({})))
}

/// Makes one; the first line of the answer says where it is.
pub(super) async fn open(board: &Arc<Board>, run: Option<&str>) -> Result<Reply, Status> {
    let uid = run.map_or_else(drawn, named)?;
    let (tell, end) = watch::channel(false);
    {
        let mut checks = board.checks();
        if checks.len() >= SANDBOXES {
            let text = "this board takes part in several checks already";
            return Err(Status::too_many_requests(text, 5));
        }
        if checks.contains_key(&uid) {
            return Err(Status::bad_request("run: this check has its sandbox here already"));
        }
        checks.insert(uid.clone(), tell);
    }
    let sandbox = Sandbox { board: board.clone(), uid, end };
    let network = board.net.create_pod(&sandbox.uid, "net-check", false).await;
    let network = network.map_err(Status::internal)?;
    let address = network.ip.ok_or_else(|| Status::internal("a sandbox without an address"))?;
    let answering = answering::start(network.namespaces.net.clone(), board.name.clone())
        .await
        .map_err(|error| Status::internal(format!("answer in a sandbox: {error}")))?;
    let (out, reply) = reply::stream("application/json-lines");
    let first = json!({ "uid": sandbox.uid, "address": address, "port": PORT });
    tokio::spawn(async move {
        let _answering = answering;
        let sandbox = sandbox;
        let mut ended = sandbox.end.clone();
        let end = Instant::now() + LIFE;
        let mut line = Bytes::from(format!("{first}\n"));
        while Instant::now() < end && out.send(line).await.is_ok() {
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = out.closed() => return,
                _ = ended.wait_for(|end| *end) => return,
            }
            line = Bytes::from_static(b"\n");
        }
    });
    Ok(reply)
}
