//! What carries the election and the log between servers: messages through whatever the board is
//! wired to, and whole states, which are too large for messages, over HTTPS.

use super::channel::Channel;
use bytes::{Buf, Bytes};
use edge_core::consensus::{Index, MemberId, Members};
use edge_store::Peers;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Where a server hands out its state.
pub(crate) const SNAPSHOT: &str = "/edged/v1/snapshot";
/// How long a state may take to begin, and to go on.
const STALL: Duration = Duration::from_secs(10);

/// Carries messages to other servers; may lose, repeat and reorder them.
pub trait Courier: Send + Sync {
    /// Sends a message to the server of this name. Never blocks.
    fn send(&self, to: &str, message: Bytes);

    /// What is wrong with it, if it carries nothing at all.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// What it counted, in the Prometheus text format.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// The other servers as the store sees them.
pub(crate) struct Links {
    courier: Arc<dyn Courier>,
    channel: Arc<Channel>,
    runtime: Handle,
    /// Replaced whenever the membership changes.
    members: Mutex<Members>,
}

impl Links {
    /// Ways to the servers that `members` names.
    pub(crate) fn new(courier: Arc<dyn Courier>, channel: Arc<Channel>, members: Members) -> Links {
        Links { courier, channel, runtime: Handle::current(), members: Mutex::new(members) }
    }

    /// Takes in a changed membership.
    pub(crate) fn know(&self, members: Members) {
        self.channel.keep_only(&members);
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// The server of this name.
    pub(crate) fn id(&self, name: &str) -> Option<MemberId> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.by_name(name).map(|info| info.id)
    }

    fn find(&self, id: MemberId) -> Option<(String, String)> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let info = members.info(id)?;
        Some((info.name.clone(), info.api.trim_start_matches("https://").to_owned()))
    }
}

impl Peers for Links {
    fn send(&self, to: MemberId, message: Bytes) {
        if let Some((name, _)) = self.find(to) {
            self.courier.send(&name, message);
        }
    }

    fn fetch(&self, from: MemberId, at: Index) -> Result<Box<dyn Read + Send>, String> {
        let Some((name, address)) = self.find(from) else {
            return Err(format!("the server {from:016x} is not known here"));
        };
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::GET;
        *request.uri_mut() =
            format!("{SNAPSHOT}?index={at}").parse().map_err(|_| "no path".to_owned())?;
        // Times are kept by the runtime, so that nothing that waits may be made outside of it.
        let call =
            async { tokio::time::timeout(STALL, self.channel.call(&address, request)).await };
        let response = self
            .runtime
            .block_on(call)
            .map_err(|_| format!("the server {name:?} did not answer"))?
            .map_err(|error| format!("ask the server {name:?}: {error:?}"))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server {name:?} answered {}", response.status()));
        }
        let runtime = self.runtime.clone();
        Ok(Box::new(Streamed { runtime, body: response.into_body(), piece: Bytes::new() }))
    }
}

/// An answer's body, read by a thread that may block.
struct Streamed {
    runtime: Handle,
    body: Incoming,
    piece: Bytes,
}

impl Read for Streamed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let body = &mut self.body;
            let next =
                self.runtime.block_on(async { tokio::time::timeout(STALL, body.frame()).await });
            match next {
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(None) => return Ok(0),
                Ok(Some(Err(error))) => return Err(io::Error::other(error)),
                Ok(Some(Ok(frame))) => self.piece = frame.into_data().unwrap_or_default(),
            }
        }
        let count = out.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}
