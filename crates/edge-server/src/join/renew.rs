//! A board's next certificate. Any server gives it without asking the others: it changes nothing.
//! The board is known by its key; its certificate may have expired, its addresses may be others.

use super::desk::Desk;
use super::words::{self, PROTOCOL, RenewAnswer, RenewRequest};
use crate::auth::Identity;
use crate::pki::PublicKey;
use edge_api::status::{Reason, Status};
use std::collections::BTreeSet;

/// `POST /edged/v1/renew`
pub(super) fn renew(
    desk: &Desk,
    who: &Identity,
    request: RenewRequest,
) -> Result<RenewAnswer, Status> {
    if let Some(why) = words::differs("server", request.protocol, &request.version) {
        return Err(Status::bad_request(format!("the board's {why}")));
    }
    let refuse = |why: &str| Status::new(Reason::Forbidden, format!("renew a certificate: {why}"));
    let (Some(name), Some(shown)) = (who.board(), who.key.as_ref()) else {
        return Err(refuse("only a board with its certificate may ask"));
    };
    let key = PublicKey::proven(&request.csr).map_err(Status::bad_request)?;
    if key.hash() != *shown {
        return Err(refuse("the request is for another key than the certificate's"));
    }
    let trust = desk.trust.borrow().clone();
    if let Some(why) = trust.refusal(shown, Some(name)) {
        return Err(refuse(&why));
    }
    // A certificate that is over counts only while the cluster still knows the board.
    if who.lapsed.is_some() && trust.board(name) != Some(shown) {
        return Err(refuse(&format!(
            "it is over, and this cluster knows no board {name:?} any more: join again with a token"
        )));
    }
    let names = BTreeSet::from([name.to_owned()]);
    let now = desk.clock.now_secs();
    let user = format!("system:node:{name}");
    let issued = desk.authority.board(&key, &user, "system:nodes", &names, now);
    Ok(RenewAnswer {
        protocol: PROTOCOL,
        node_cert: issued.map_err(Status::internal)?,
        servers: desk.membership.list(),
        time_ms: desk.clock.now_ms(),
    })
}
