//! A new program for this board: brought as a request's body, and put on trial. The API server
//! lets only those through who may do everything, and asks here too for the program of a server
//! that has no agent.

use std::sync::Arc;

use edge_api::release::Version;
use edge_api::status::{Reason, Status};
use edge_core::upgrade::{DEADLINE_S, Slot};
use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::query::Query;
use super::reply::{self, Reply};
use crate::agent::Board;
use crate::upgrade::{Offer, UpgradeError, Upgrades};

/// Answers what is asked under `/upgrade`.
pub(super) async fn serve(
    board: &Board,
    what: &[&str],
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Status> {
    let upgrades = board.upgrades.as_ref().ok_or_else(Status::no_such_path)?;
    let (code, said) = answer(upgrades, &what.join("/"), query, request).await?;
    Ok(reply::json(code, &said))
}

impl Upgrades {
    /// Answers what is asked of the program, by whatever way it came: `what` is the end of the
    /// path, from `check` to nothing at all.
    ///
    /// # Errors
    /// The refusal.
    pub async fn answer(
        self: &Arc<Upgrades>,
        what: &str,
        request: Request<Incoming>,
    ) -> Result<(u16, Value), Status> {
        let query = Query::parse(request.uri().query());
        answer(self, what, &query, request).await
    }
}

async fn answer(
    upgrades: &Arc<Upgrades>,
    what: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<(u16, Value), Status> {
    match (request.method(), what) {
        (&Method::GET, "") => Ok((200, upgrades.describe())),
        (&Method::POST, "check") => check(upgrades, query),
        (&Method::POST, "file") => file(upgrades, query, request).await,
        (&Method::POST, "begin") => begin(upgrades, query),
        (_, "" | "check" | "file" | "begin") => Err(Status::method_not_allowed()),
        _ => Err(Status::no_such_path()),
    }
}

fn asked<'a>(query: &'a Query, name: &str) -> Result<&'a str, Status> {
    query.get(name).ok_or_else(|| Status::bad_request(format!("say ?{name}=…")))
}

fn offer(query: &Query) -> Result<Offer, Status> {
    let bytes = query.number("bytes").map_err(Status::bad_request)?;
    Ok(Offer {
        bytes: bytes.ok_or_else(|| Status::bad_request("say ?bytes=…"))?,
        sha256: asked(query, "sha256")?.to_owned(),
        signature: query.get("signature").map(str::to_owned),
        unsigned: query.flag("unsigned", "unsigned"),
        downgrade: query.flag("downgrade", "downgrade"),
    })
}

/// Whether a program of which this is said would be taken.
fn check(upgrades: &Upgrades, query: &Query) -> Result<(u16, Value), Status> {
    let version = Version::parse(asked(query, "version")?);
    let version = version.ok_or_else(|| Status::bad_request("version: not one"))?;
    let checked = upgrades.check(&offer(query)?, &version, asked(query, "arch")?);
    checked.map_err(|error| refused(&error))?;
    Ok((200, json!({})))
}

async fn file(
    upgrades: &Arc<Upgrades>,
    query: &Query,
    request: Request<Incoming>,
) -> Result<(u16, Value), Status> {
    let offer = offer(query)?;
    let (slot, version) =
        upgrades.receive(&offer, request.into_body()).await.map_err(|error| refused(&error))?;
    Ok((200, json!({ "slot": slot.name(), "version": version.to_string() })))
}

fn begin(upgrades: &Arc<Upgrades>, query: &Query) -> Result<(u16, Value), Status> {
    let slot = Slot::named(asked(query, "slot")?);
    let slot = slot.ok_or_else(|| Status::bad_request("slot: a or b"))?;
    let deadline = query.number("deadline").map_err(Status::bad_request)?;
    let deadline = deadline.map_or(Ok(DEADLINE_S), u32::try_from);
    let deadline = deadline.map_err(|_| Status::bad_request("deadline: too many seconds"))?;
    upgrades.begin(slot, deadline).map_err(|error| refused(&error))?;
    Ok((202, json!({ "slot": slot.name(), "deadline": deadline })))
}

fn refused(error: &UpgradeError) -> Status {
    match error {
        UpgradeError::Busy => Status::new(Reason::Conflict, error.to_string()),
        _ => Status::bad_request(error.to_string()),
    }
}
