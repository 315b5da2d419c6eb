//! Who the board is: its name, and the keys and certificates that prove it.

use edge_api::names::dns1123_subdomain;

use super::{Facts, Finding, Fix};

/// Names that systems give to every board.
const DEFAULTS: [&str; 8] = [
    "raspberrypi",
    "localhost",
    "localhost.localdomain",
    "debian",
    "ubuntu",
    "armbian",
    "raspberry",
    "dietpi",
];
/// Certificates renew themselves long before: one that ends in less was not renewed.
const SOON_DAYS: i64 = 7;
const DAY_MS: i64 = 24 * 3600 * 1000;

pub(super) fn judge(facts: &Facts, found: &mut Vec<Finding>) {
    hostname(facts, found);
    if let Some(why) = &facts.refused {
        found.push(Finding::error(
            "joining",
            why.clone(),
            "this board is not in its cluster, or was put out of it, and gets no new pods",
            "set right what it says: in edged.yaml on the boot partition or in \
             /etc/edged/config.yaml, with a name of its own and a token of `edged token create`",
        ));
    }
    keys(facts, found);
    certificates(facts, found);
}

fn hostname(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "hostname";
    let Some(name) = &facts.hostname else { return };
    if facts.named {
        return found.push(Finding::ok(id, "the board has a name of its own"));
    }
    let lower = name.to_lowercase();
    let todo = "give the board a name: `hostnamectl set-hostname board-1`, or --name";
    if !dns1123_subdomain(&lower).is_empty() {
        return found.push(Finding::error(
            id,
            format!("the hostname {name:?} can't be a Node's name"),
            "edged does not start without a name of a-z, 0-9, '-' and '.'",
            todo,
        ));
    }
    found.push(match DEFAULTS.contains(&lower.as_str()) {
        false => Finding::ok(id, format!("the board is called {lower}")),
        true => Finding::warning(
            id,
            format!("the board is called {lower:?}, as every board is at first"),
            "a second board of that name can't join the cluster",
            todo,
        ),
    });
}

fn keys(facts: &Facts, found: &mut Vec<Finding>) {
    let before = found.len();
    let missing = &facts.lost;
    if !missing.is_empty() {
        found.push(Finding::error(
            "keys",
            format!("missing: {}", missing.join(", ")),
            "this board's data directory belongs to a cluster, but it can't prove who it is",
            "restore them from a backup, or empty the data directory and join again with a new \
             token",
        ));
    }
    for secret in facts.secrets.iter().filter(|secret| secret.mode & 0o077 != 0) {
        let finding = Finding::error(
            "keys",
            format!("{} has mode {:04o}", secret.path, secret.mode),
            "other users of the board can read it, and be this board or its cluster",
            format!("`chmod 600 {}`", secret.path),
        );
        found.push(finding.with(Fix::Private(secret.path.clone())));
    }
    if found.len() == before {
        let what = match facts.secrets.is_empty() {
            true => "the board is in no cluster yet",
            false => "keys are there, for root alone",
        };
        found.push(Finding::ok("keys", what));
    }
}

fn certificates(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "certificates";
    let (Some(now), false) = (facts.now_ms, facts.certificates.is_empty()) else { return };
    let before = found.len();
    for one in &facts.certificates {
        let left = one.ends_ms - now;
        let path = &one.path;
        if left <= 0 {
            let date = edge_api::time::format(one.ends_ms);
            found.push(Finding::error(
                id,
                format!("{path} ended on {date}"),
                "nobody in the cluster talks to this board",
                "look at the clock first; if it is right, join again with a new token",
            ));
        } else if left < SOON_DAYS * DAY_MS {
            found.push(Finding::warning(
                id,
                format!("{path} ends in {} days", left / DAY_MS),
                "it should have renewed itself: the board has not reached a server for long",
                "let edged run where it reaches a server; `journalctl -u edged` says what hinders",
            ));
        }
    }
    if found.len() == before {
        found.push(Finding::ok(id, "certificates are far from their end"));
    }
}
