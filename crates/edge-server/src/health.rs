//! `/livez`, `/readyz` and `/healthz`, whole or check by check, in the words that tools parse.

use crate::api::Api;
use crate::http::{Query, Reply, text};
use crate::lead::Courier;
use edge_api::kinds;

/// The checks that each of the three paths runs.
const CHECKS: &[&str] = &["ping", "store"];

/// The check that a server fails which nobody leads: it lives, but others should be asked.
const LEADER: &str = "leader";

/// Answers a health path.
pub(crate) fn answer(api: &Api, courier: &dyn Courier, path: &str, query: &Query) -> Reply {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (which, check) = (parts.next().unwrap_or_default(), parts.next());
    let excluded: Vec<&str> = query.all("exclude").collect();
    let ready = which == "readyz";
    let checks = CHECKS.iter().chain(Some(&LEADER).filter(|_| ready));
    if let Some(check) = check {
        return match checks.clone().any(|known| *known == check) {
            false => text(404, "404 page not found\n"),
            true => match run(api, check) {
                Ok(()) => text(200, "ok"),
                Err(why) => text(500, format!("internal server error: {why}\n")),
            },
        };
    }
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let line = if excluded.contains(check) {
            format!("[+]{check} excluded: ok\n")
        } else {
            match run(api, check) {
                Ok(()) => format!("[+]{check} ok\n"),
                Err(why) => {
                    failed = true;
                    tracing::warn!("{which} check {check}: {why}");
                    format!("[-]{check} failed: reason withheld\n")
                }
            }
        };
        report.push_str(&line);
    }
    // A server alone needs no bus, and of several those without one know no leader: it is told,
    // and decides nothing.
    if let Some(trouble) = courier.trouble().filter(|_| ready) {
        report.push_str(&format!("[!]bus {trouble}\n"));
    }
    let verbose = query.pairs().iter().any(|(name, _)| name == "verbose");
    match (failed, verbose) {
        (true, _) => text(500, format!("{report}{which} check failed\n")),
        (false, true) => text(200, format!("{report}{which} check passed\n")),
        (false, false) => text(200, "ok"),
    }
}

fn run(api: &Api, check: &str) -> Result<(), String> {
    match check {
        "store" => {
            let key = kinds::NAMESPACE.key("", "default");
            api.store().get(&key).map(|_| ()).map_err(|error| error.to_string())
        }
        LEADER if api.inner.leadership.leader().is_none() => Err(api.inner.leadership.unled()),
        _ => Ok(()),
    }
}
