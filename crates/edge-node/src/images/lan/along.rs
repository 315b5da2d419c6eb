//! Reading along with a push to another board: content only. What the images are called comes
//! later, from the cluster: the board that hands them on could say anything.

use super::super::ImageStore;
use super::super::error::ImageError;
use super::super::progress::{Progress, Step};
use super::super::relay::{self, Push, Tee};
use super::{Holder, Lan};
use edge_client::{Call, Client, query};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// A refusal is not read further than this.
const REFUSAL_MAX: usize = 16 * 1024;
/// What dialling and answering may take beyond what the other board waits for its push.
const MARGIN: Duration = Duration::from_secs(3);

/// Where the agent of a Node is.
fn holder(name: &str, node: &Value) -> Option<Holder> {
    let status = &node["status"];
    let mut addresses = status["addresses"].as_array()?.iter();
    let internal = addresses.find(|address| address["type"] == "InternalIP")?;
    let port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64()?;
    Some(Holder {
        node: name.to_owned(),
        address: internal["address"].as_str()?.parse().ok()?,
        port: u16::try_from(port).ok()?,
        digest: String::new(),
    })
}

impl Lan {
    /// Opens a push that another board hands on.
    async fn open_push(
        &self,
        from: &str,
        id: &str,
        begin: Duration,
    ) -> Result<(u64, Response<Incoming>), String> {
        let call = Call::get(format!("/api/v1/nodes/{}", query::escape(from)));
        let node = timeout(super::ANSWER, self.api.call(&call)).await;
        let node = node.map_err(|_| "no server says where it is".to_owned())?;
        let node = node.map_err(|error| error.to_string())?.object;
        let holder = holder(from, &node).ok_or("its Node has no address or no port")?;
        let client: Client = self.dial(&holder, begin + MARGIN)?;
        let mut request = Request::new(edge_client::body::empty());
        *request.uri_mut() =
            format!("/images/push/{id}").parse().map_err(|_| "not a path".to_owned())?;
        let answer = timeout(begin + MARGIN, client.request(request)).await;
        let answer = answer.map_err(|_| "it doesn't answer".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        let length = answer.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok((length.ok_or("it gives no length")?, answer))
    }
}

/// Why a board doesn't give a push.
async fn refusal(answer: Response<Incoming>) -> String {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_MAX).collect();
    let body = timeout(MARGIN, body).await.ok().and_then(Result::ok);
    let told = body.and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok());
    match told.as_ref().and_then(|told| told["message"].as_str()) {
        Some(message) => message.to_owned(),
        None => format!("it answers {status}"),
    }
}

impl ImageStore {
    /// Loads what another board's push brings, without giving names, and hands it on if `push`
    /// says so. Returns the ids of the images, and how many bytes came.
    pub(crate) async fn follow(
        &self,
        from: &str,
        id: &str,
        push: Option<Push>,
        progress: &Progress,
    ) -> Result<(Vec<String>, u64), ImageError> {
        let broken = |detail: String| ImageError::Registry {
            host: format!("board {from}"),
            operation: "read a push along".to_owned(),
            detail,
        };
        let waits = self.relays().waits();
        let lan = self.0.config.lan.as_ref();
        let lan = lan.ok_or_else(|| broken("this board knows no others".to_owned()))?;
        let (length, answer) = lan.open_push(from, id, waits.begin).await.map_err(broken)?;
        progress.tell(Step::Along { board: from.to_owned() });
        let tee = match push {
            Some(push) => push.offer(length).await,
            None => Tee::none(),
        };
        let (pieces, reader) = relay::channel();
        let load = self.load_unnamed(reader, progress);
        let pump = relay::pump(answer.into_body(), tee, pieces, Some(waits.giving), progress);
        let (loaded, bytes) = tokio::join!(load, pump);
        Ok((loaded?, bytes))
    }
}
