//! What the board has: the files that may change, and its place in a cluster.

use std::path::Path;

use edge_server::join::Role;
use edge_server::pki::{CertFacts, read_if_present};

use super::plan::{Board, FILES};
use super::{Refusal, failed, nm};
use crate::{config, identity, join};

/// Looks.
///
/// # Errors
/// Names a file that is there and can't be read.
pub(super) fn board(root: &Path, zone: Option<&str>) -> Result<Board, Refusal> {
    let mut board = Board::default();
    for path in FILES {
        let full = root.join(path);
        let text = read_if_present(&full).map_err(|e| failed("read", &full, e))?;
        board.files.extend(text.map(|text| (path, text)));
    }
    board.network_manager = nm::runs(root);
    let data = config::data_dir(root);
    let joined = join::joined(&data);
    board.founder = !joined && data.join("store").exists();
    board.name = identity::remembered(&data);
    let read = |name: &str| read_if_present(&data.join(name)).ok().flatten();
    if joined {
        let saved = read("cluster.json").or_else(|| read("pki/cluster.json")).unwrap_or_default();
        let saved: serde_json::Value = serde_json::from_str(&saved).unwrap_or_default();
        let word = |key: &str| saved[key].as_str().map(str::to_owned);
        board.joined = word("role").and_then(|role| Role::parse(&role));
        board.name = word("name");
        board.pin = read("pki/ca.crt").and_then(|pem| CertFacts::read(&pem)).map(|ca| ca.pin);
    }
    board.knows_zone =
        zone.is_some_and(|zone| root.join("usr/share/zoneinfo").join(zone).is_file());
    Ok(board)
}
