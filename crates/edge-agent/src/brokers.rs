//! The user's own brokers as a board keeps them: what `--broker` said, or what the server told that
//! it joined, in `<data-dir>/brokers`, one URL in a line. They hold passwords, so nobody else may
//! read the file, and only where a URL leads is ever shown.

use std::path::Path;

use edge_bus::{ExternalBroker, parse_broker};
use edge_server::pki::{read_if_present, write_atomically};

use crate::join::JoinError;

/// Where they are kept, in the data directory.
const FILE: &str = "brokers";

/// The brokers that count: those that were given now, and are kept from now on; else the kept ones.
/// `joined` boards are told when theirs are not those of their cluster.
///
/// # Errors
/// When the file cannot be read or written, or is damaged.
pub(crate) fn settle(
    data_dir: &Path,
    given: &[ExternalBroker],
    joined: bool,
) -> Result<Vec<ExternalBroker>, JoinError> {
    let kept = read(data_dir)?;
    if given.is_empty() || kept == given {
        return Ok(kept);
    }
    let (now, before) = (shown(given), shown(&kept));
    if !kept.is_empty() && now != before {
        tracing::warn!(
            "broker: it is {now} from now on, and was {before}: all boards of a cluster need the \
             same"
        );
    } else if kept.is_empty() && joined {
        tracing::warn!(
            "broker: it is {now} from now on, and the server that this board joined named none: \
             all boards of a cluster need the same"
        );
    }
    keep(data_dir, given)?;
    Ok(given.to_vec())
}

/// Keeps these brokers.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn keep(data_dir: &Path, brokers: &[ExternalBroker]) -> Result<(), JoinError> {
    let path = data_dir.join(FILE);
    let text: String = brokers.iter().map(|broker| broker.secret_url() + "\n").collect();
    let written = std::fs::create_dir_all(data_dir)
        .and_then(|()| write_atomically(&path, text.as_bytes(), 0o600));
    let reason = |e: std::io::Error| e.to_string();
    written.map_err(reason).map_err(|reason| JoinError::File { operation: "write", path, reason })
}

fn read(data_dir: &Path) -> Result<Vec<ExternalBroker>, JoinError> {
    let path = data_dir.join(FILE);
    let failed = |reason: String| JoinError::File { operation: "read", path: path.clone(), reason };
    let text = read_if_present(&path).map_err(|e| failed(e.to_string()))?.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty());
    let parsed = lines.map(parse_broker).collect::<Result<_, _>>();
    parsed.map_err(|e| failed(format!("it is damaged ({e}): remove it and give --broker again")))
}

/// Where brokers are, for people.
fn shown(brokers: &[ExternalBroker]) -> String {
    brokers.iter().map(ExternalBroker::shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_given_is_kept_for_nobody_else_to_read() {
        let dir = std::env::temp_dir().join(format!("edged-brokers-{}", std::process::id()));
        let one = [parse_broker("mqtt://me:hush,\u{e9}@a").unwrap()];
        let two = [parse_broker("mqtts://b").unwrap(), parse_broker("mqtt://c").unwrap()];
        assert_eq!(settle(&dir, &[], false).unwrap(), []);
        assert_eq!(settle(&dir, &one, false).unwrap(), one);
        let mode = std::fs::metadata(dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(settle(&dir, &[], true).unwrap(), one, "a restart needs no flags");
        assert_eq!(settle(&dir, &two, true).unwrap(), two);
        assert_eq!(settle(&dir, &[], true).unwrap(), two, "the last that was given");
        std::fs::write(dir.join(FILE), "mqtt://me:hush@b:c\n").unwrap();
        let error = settle(&dir, &[], true).unwrap_err().to_string();
        assert!(error.contains("damaged") && !error.contains("hush"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
