//! The program that this very server runs, at the server's own address: a server whose board runs
//! no pods has no agent that could be asked for it.

use super::reply::{self, Reply};
use super::serve::{Front, Peer};
use crate::auth;
use edge_api::status::Status;
use http::Request;
use hyper::body::Incoming;
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;

/// A code and what is said with it, or why not.
pub type ProgramAnswer = Result<(u16, Value), Status>;

/// What knows the program that runs here, and takes another one.
pub trait Programs: Send + Sync {
    /// Answers what is asked at `/edged/v1/upgrade/<what>` by somebody who may do everything.
    fn answer(
        &self,
        what: String,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = ProgramAnswer> + Send + '_>>;
}

/// What is asked of the program, when a path beneath `/edged/v1/` is about it.
pub(super) fn asked(path: &str) -> Option<String> {
    let what = path.strip_prefix("upgrade")?;
    (what.is_empty() || what.starts_with('/')).then(|| what.trim_matches('/').to_owned())
}

impl Front {
    /// Answers what is asked of the program that runs here: nobody else can.
    pub(super) async fn program(
        &self,
        peer: &Peer,
        what: String,
        request: Request<Incoming>,
    ) -> Result<Reply, Status> {
        auth::authorize_path(&self.api, &peer.identity, request.method(), "/edged/v1/upgrade")?;
        let programs: &Arc<dyn Programs> =
            self.programs.as_ref().ok_or_else(Status::no_such_path)?;
        peer.patience.grant();
        let (code, said) = programs.answer(what, request).await?;
        Ok(reply::json(code, said.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_paths_are_the_programs() {
        for (path, what) in [
            ("upgrade", Some("")),
            ("upgrade/file", Some("file")),
            ("upgrade/a/b/", Some("a/b")),
            ("upgrades", None),
            ("servers", None),
        ] {
            assert_eq!(asked(path).as_deref(), what, "{path}");
        }
    }
}
