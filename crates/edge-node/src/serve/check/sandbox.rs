//! A pod's network without a pod. It is there while somebody reads what it says, and no longer than
//! a quarter of an hour.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_api::status::Status;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
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

/// A sandbox that goes away when this does.
struct Sandbox {
    board: Arc<Board>,
    uid: String,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let (board, uid) = (self.board.clone(), std::mem::take(&mut self.uid));
        // When the process ends, the next one's sweep does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = board.net.remove_pod(&uid).await {
                    tracing::warn!("remove the network of a check: {error}");
                }
                board.checks().remove(&uid);
            });
        }
    }
}

/// Makes one; the first line of the answer says where it is.
pub(super) async fn open(board: &Arc<Board>) -> Result<Reply, Status> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Status::internal("the system gives no random numbers"))?;
    let uid = format!("{PREFIX}{:016x}", u64::from_be_bytes(bytes));
    {
        let mut checks = board.checks();
        if checks.len() >= SANDBOXES {
            let text = "this board takes part in several checks already";
            return Err(Status::too_many_requests(text, 5));
        }
        checks.insert(uid.clone());
    }
    let sandbox = Sandbox { board: board.clone(), uid };
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
        let _sandbox = sandbox;
        let end = Instant::now() + LIFE;
        let mut line = Bytes::from(format!("{first}\n"));
        while Instant::now() < end && out.send(line).await.is_ok() {
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = out.closed() => return,
            }
            line = Bytes::from_static(b"\n");
        }
    });
    Ok(reply)
}
