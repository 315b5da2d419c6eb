//! A server whose board runs no pods has the leader take away the Node that it had when it did,
//! and note its key in the Node's place. Where that is so already, nothing is written.

use super::channel::{CallError, Channel};
use super::{Leadership, Place};
use crate::api::Api;
use crate::join::{is_nodeless, without_node};
use crate::pki::KeyHash;
use http::{Method, Request};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;

/// Pause after it could not be done: while nobody leads, or somebody else writes.
const AGAIN: Duration = Duration::from_secs(2);

/// The path at which the leader is told.
const PATH: &str = "/edged/v1/servers/nodeless";

/// Tells the leader until it is so; ends then.
pub(crate) async fn nodeless(api: Api, name: String, key: KeyHash, channel: Arc<Channel>) {
    let leadership = api.inner.leadership.clone();
    while let Err(why) = settle(&api, &name, &key, (&leadership, &channel)).await {
        tracing::debug!("say that this server runs no pods: {why}");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn settle(
    api: &Api,
    name: &str,
    key: &KeyHash,
    (leadership, channel): (&Leadership, &Channel),
) -> Result<(), String> {
    if !leadership.led().await {
        return Err(leadership.unled());
    }
    leadership.barrier(api).await.map_err(|status| status.message)?;
    // Before the log has come here, there is nothing to go by.
    let member = leadership.standing().members.contains(leadership.standing().me);
    if member && is_nodeless(api, name, key).map_err(|status| status.message)? {
        return Ok(());
    }
    match leadership.place() {
        Place::Here(term) => {
            let done = without_node(&api.at(term), name, key, |_| false).await;
            done.map_err(|status| status.message)
        }
        Place::There { address, .. } => {
            let request = Request::builder().method(Method::POST).uri(PATH).body(Full::default());
            let request = request.map_err(|error| error.to_string())?;
            match channel.call(&address, request).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(format!("{address} answered {}", answer.status())),
                Err(CallError::Unsent(why) | CallError::Unknown(why)) => Err(why),
            }
        }
        Place::Rising | Place::Nowhere => Err(leadership.unled()),
    }
}
