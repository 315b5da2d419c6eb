//! What a board that is not let in leaves where its person looks: a line in the run directory, for
//! `edged doctor`, and beside `edged.yaml` on the boot partition that it was set up from. Written
//! when it changes only, since a refused board asks again every few seconds.

use std::path::Path;

use edge_node::doctor::REFUSED;

use crate::config::Config;
use crate::firstboot;

/// Says why the board is not in.
pub(super) fn refused(config: &Config, why: &str) {
    if note(&config.run_dir, why) {
        firstboot::tell(Some(why));
    }
}

/// Says it to `edged doctor` alone; whether that is news.
pub(super) fn note(run_dir: &Path, why: &str) -> bool {
    let path = run_dir.join(REFUSED);
    if std::fs::read_to_string(&path).is_ok_and(|said| said == why) {
        return false;
    }
    // It is in the log as well: that it can't be left here changes nothing.
    let _ = std::fs::create_dir_all(run_dir).and_then(|()| std::fs::write(&path, why));
    true
}

/// The board is in.
pub(super) fn entered(config: &Config) {
    if std::fs::remove_file(config.run_dir.join(REFUSED)).is_ok() {
        firstboot::tell(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_news_once() {
        let dir = std::env::temp_dir().join(format!("edged-told-{}", std::process::id()));
        assert!(note(&dir, "a") && !note(&dir, "a") && note(&dir, "b"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
