//! Which pod addresses are this board's: what its Node says, and on its disk, so that a board that
//! boots with no server in reach goes on with the same.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_api::Object;
use edge_client::Client;
use tokio::sync::watch;

use super::error::AgentError;
use super::node::Identity;
use super::registration;

/// A registration that failed is tried again after this long, and then after twice as long …
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// … up to this.
const RETRY_LAST: Duration = Duration::from_secs(5);
/// How often it is said that nothing works yet, at most.
const SAY_EVERY: u32 = 10;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("pod-cidr")
}

/// What the disk says.
pub(crate) fn known(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(path(data_dir)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Keeps the addresses over reboots and power cuts.
pub(crate) fn keep(data_dir: &Path, cidr: &str) -> io::Result<()> {
    let (path, fresh) = (path(data_dir), data_dir.join("pod-cidr.new"));
    let mut file = fs::File::create(&fresh)?;
    writeln!(file, "{cidr}")?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    fs::File::open(data_dir)?.sync_all()
}

/// A Node's pod addresses; `None` as long as it has none.
pub(crate) fn of(node: &Object) -> Option<&str> {
    node["spec"]["podCIDR"].as_str().filter(|cidr| !cidr.is_empty())
}

/// The board's addresses: from the disk, or else from its Node, which is made for that. `None`
/// when the agent shall end before anybody answered.
pub(crate) async fn settle(
    data_dir: &Path,
    client: &Client,
    identity: &Identity,
    mut shutdown: watch::Receiver<bool>,
) -> Result<Option<String>, AgentError> {
    if let Some(cidr) = known(data_dir) {
        return Ok(Some(cidr));
    }
    let (mut pause, mut tries) = (RETRY_FIRST, 0u32);
    loop {
        let trouble = match registration::claim(client, identity).await {
            Ok(node) => match of(&node) {
                Some(cidr) => {
                    keep(data_dir, cidr)
                        .map_err(|source| AgentError::Addresses { path: path(data_dir), source })?;
                    return Ok(Some(cidr.to_owned()));
                }
                None => "the cluster has no pod addresses left for this board".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        if tries % SAY_EVERY == SAY_EVERY - 1 {
            tracing::warn!("node {} waits for its pod addresses: {trouble}", identity.name);
        }
        tries = tries.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LAST),
            _ = shutdown.wait_for(|end| *end) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept() {
        let dir = std::env::temp_dir().join(format!("edged-addresses-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(known(&dir), None);
        keep(&dir, "10.42.3.0/24").unwrap();
        keep(&dir, "10.42.4.0/24").unwrap();
        assert_eq!(known(&dir).as_deref(), Some("10.42.4.0/24"));
        fs::write(path(&dir), "\n").unwrap();
        assert_eq!(known(&dir), None, "cut short by a power cut");
        fs::remove_dir_all(&dir).unwrap();
    }
}
