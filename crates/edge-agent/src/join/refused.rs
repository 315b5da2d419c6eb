//! A board that its cluster turns away: it says so once, with what to do, and lets its pods run.
//! Its requests go on, less and less often, in case somebody lets it in again.

use std::path::Path;
use std::sync::Arc;

use edge_client::{Call, Client, Patience};
use edge_node::doctor::REFUSED;
use edge_server::join::RENEWS_ITSELF;

use super::{Live, told};

/// One question, before anything else is started: a board must not wait long for it.
const QUICK: Patience = Patience {
    connect: std::time::Duration::from_secs(2),
    answer: std::time::Duration::from_secs(3),
    attempts: 1,
    rounds: 1,
};

impl Live {
    /// Says when the servers turn this board away, and when they take it in again; runs until
    /// dropped.
    pub(crate) async fn tell_refusals(self: Arc<Live>, run_dir: &Path) {
        let mut refusals = self.refusals().follow();
        let mut said = false;
        loop {
            // A certificate that is over is renewed at once, which is nobody's business.
            let lapsed = |why: &String| why.ends_with(RENEWS_ITSELF);
            let refusal = refusals.borrow_and_update().clone().filter(|why| !lapsed(why));
            let refused = refusal.is_some();
            match (refusal, said) {
                (Some(why), false) => {
                    let line = self.turned_away(&why);
                    tracing::error!("{line}");
                    told::note(run_dir, &line);
                }
                (None, true) => {
                    tracing::info!("the cluster takes this board in again");
                    let _ = std::fs::remove_file(run_dir.join(REFUSED));
                }
                _ => {}
            }
            said = refused;
            if refusals.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn turned_away(&self, why: &str) -> String {
        format!(
            "the cluster turns this board away: {why}; its pods run on, and it asks again now and \
             then. To let it in with a new key, run `edged token create` on a server and start \
             this board once with `edged agent --join {} --token-file FILE`",
            self.api().servers.first().map_or("https://SERVER:6443", String::as_str)
        )
    }

    /// Whether one of these servers, or of those known, turns this board away right now.
    pub(super) async fn is_turned_away(&self, given: &[String]) -> bool {
        let known = self.api().servers;
        let given = given.iter().filter(|url| *url != crate::config::AUTO).cloned();
        for server in known.into_iter().chain(given) {
            let api = edge_client::Config { servers: vec![server], ..self.api() };
            let Ok(client) = Client::with_patience(api, QUICK) else { continue };
            match client.call(&Call::get("/edged/v1/time")).await {
                Ok(_) => return false,
                Err(error) if error.code() == 401 => return true,
                Err(error) => tracing::debug!("ask whether this board is turned away: {error}"),
            }
        }
        false
    }
}
