//! A server whose address changed tells the others, so that a DHCP server's whim heals by itself:
//! it still reaches them, and they learn from the log where it is now.

use super::channel::{CallError, Channel};
use super::{Leadership, Place};
use crate::join::{Membership, ServerInfo};
use edge_core::consensus::MemberInfo;
use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;

/// Pause after the others could not be told.
const AGAIN: Duration = Duration::from_secs(2);

/// The path at which the leader is told.
const PATH: &str = "/edged/v1/servers/update";

/// Watches what the cluster believes of this server, and puts it right; ends with the store.
pub(crate) async fn introduce(
    own: MemberInfo,
    leadership: Leadership,
    channel: Arc<Channel>,
    membership: Arc<dyn Membership>,
) {
    let mut news = leadership.news();
    loop {
        let wrong = {
            let standing = news.borrow_and_update();
            standing.members.info(own.id).is_some_and(|known| *known != own)
        };
        if wrong && let Err(why) = tell(&own, &leadership, &channel, &*membership).await {
            tracing::debug!("tell where this server is: {why}");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

async fn tell(
    own: &MemberInfo,
    leadership: &Leadership,
    channel: &Channel,
    membership: &dyn Membership,
) -> Result<(), String> {
    let info = ServerInfo {
        id: own.id.to_string(),
        name: own.name.clone(),
        api: own.api.clone(),
        broker: own.broker.clone(),
        ..ServerInfo::default()
    };
    match leadership.place() {
        Place::Here(_) => membership.update(info).await.map_err(|error| error.to_string()),
        Place::There { address, .. } => {
            let body = serde_json::to_vec(&info).map_err(|error| error.to_string())?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(PATH)
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(body.into()))
                .map_err(|error| error.to_string())?;
            match channel.call(&address, request).await {
                Ok(answer) if answer.status().is_success() => {
                    tracing::info!("the other servers know that this one is at {} now", own.api);
                    Ok(())
                }
                Ok(answer) => Err(format!("{address} answered {}", answer.status())),
                Err(CallError::Unsent(why) | CallError::Unknown(why)) => Err(why),
            }
        }
        Place::Rising | Place::Nowhere => Err(leadership.unled()),
    }
}
