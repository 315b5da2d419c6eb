//! What the arguments of `edged install` become: its own part of the settings, beside whatever
//! people have written into the same files.

use std::fs;
use std::path::Path;

use edge_server::join::Token;
use edge_server::pki::read_if_present;

use super::{CONFIG, DEFAULTS, Install, Put, TOKEN};
use crate::config;
use crate::part::{Part, Torn};
use crate::wire::{WireError, failed};

/// Where `edged install` writes into a file that is a person's as well.
const PART: Part = Part { begin: "# begin: edged install", end: "# end: edged install" };
/// What earlier versions began a file with that they had made, beneath which people have added
/// lines of their own since.
const EARLIER: &str = "# Written by `edged install`.\n";
/// The keys that they wrote there.
const KEYS: [&str; 3] = ["join:", "token-file:", ROLE];
const ROLE: &str = "EDGED_ROLE=";

/// What the arguments become. Everything is checked before anything is written.
///
/// # Errors
/// Says what is wrong with an argument, or with a file that would have to change.
pub(super) fn settle(args: &Install) -> Result<Vec<Put>, WireError> {
    let mut files = Vec::new();
    let old = |path: &str| {
        read_if_present(&args.root.join(path)).map_err(|e| failed(&format!("read /{path}"), e))
    };
    let config = old(CONFIG)?;
    if args.agent && args.join.is_empty() && config.is_none() {
        let what = "an agent needs a cluster: give --join auto (or https://HOST:6443) and \
                    --token-file";
        return Err(failed("install", what));
    }
    if !args.join.is_empty() {
        let text = joins(&args.join, config.as_deref().unwrap_or_default())?;
        files.push(Put { path: CONFIG, text, mode: 0o644 });
    }
    if let Some(path) = &args.token_file {
        if args.join.is_empty() && !config.is_some_and(|old| reads_token(&old)) {
            let what = "a token is for joining: give --join auto (or https://HOST:6443) as well";
            return Err(failed("token-file", what));
        }
        let text = fs::read_to_string(path)
            .map_err(|e| failed(&format!("token-file: {}", path.display()), e))?;
        let token = Token::parse(&text).map_err(|e| failed("token-file", e))?;
        files.push(Put { path: TOKEN, text: format!("{token}\n"), mode: 0o600 });
    }
    if args.agent || !args.join.is_empty() {
        let role = if args.agent { "agent" } else { "server" };
        let text = runs_as(role, &old(DEFAULTS)?.unwrap_or_default())?;
        files.push(Put { path: DEFAULTS, text, mode: 0o644 });
    }
    Ok(files)
}

/// A file of settings without what any `edged install` wrote into it.
///
/// # Errors
/// When that can't be told from what others wrote.
pub(crate) fn others(text: &str) -> Result<String, Torn> {
    let rest = PART.without(text)?;
    let Some(lines) = rest.strip_prefix(EARLIER) else { return Ok(rest) };
    let mut ours = false;
    let theirs = lines.split_inclusive('\n').filter(|line| {
        let comment = line.starts_with('#') || line.trim().is_empty();
        // What is indented, or an item of a list, belongs to the key above it.
        if !comment && !line.starts_with([' ', '\t', '-']) {
            ours = KEYS.iter().any(|key| line.starts_with(key));
        }
        comment || !ours
    });
    Ok(theirs.collect())
}

/// config.yaml with these servers to join.
fn joins(servers: &[String], old: &str) -> Result<String, WireError> {
    let mut part = "join:\n".to_owned();
    for server in servers {
        let url = config::join_url(server).map_err(|e| WireError::line(e.to_string()))?;
        part += &format!("  - {url:?}\n");
    }
    part += &format!("token-file: /{TOKEN}\n");
    let about = |what: String| failed("install", format!("/{CONFIG}: {what}"));
    let rest = others(old).map_err(|torn| about(torn.to_string()))?;
    let text = match PART.within(old) == part {
        true => old.to_owned(),
        false => PART.add(&rest, &part),
    };
    // A key that is there already, or a form that takes no more lines.
    config::File::parse(&text).map_err(|error| {
        about(format!(
            "with a join and a token-file added it can't be read: {error}: write both into it \
             yourself, or take them out; nothing was changed"
        ))
    })?;
    Ok(text)
}

/// The units' environment with this role.
fn runs_as(role: &str, old: &str) -> Result<String, WireError> {
    let part = format!("{ROLE}{role}\n");
    let says = |line: &&str| line.starts_with(ROLE);
    // The last line counts.
    if PART.within(old) == part && old.lines().rfind(says) == Some(part.trim_end()) {
        return Ok(old.to_owned());
    }
    let rest = others(old).map_err(|torn| failed("install", format!("/{DEFAULTS}: {torn}")))?;
    let rest: String = rest.split_inclusive('\n').filter(|line| !says(line)).collect();
    Ok(PART.add(&rest, &part))
}

/// Whether the settings have a token read from where it is put.
fn reads_token(config: &str) -> bool {
    let file = config::File::parse(config).ok().and_then(|file| file.token_file);
    file.is_some_and(|path| path == Path::new("/").join(TOKEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(old: &str) -> Result<String, String> {
        joins(&["auto".into()], old).map_err(|error| error.to_string())
    }

    #[test]
    fn what_people_added_stays() {
        let key = "upgrade-keys: [RWSezrqtCvZEzAZGfE/HWhiFHRbVt8GKqytAC2NHUnRyxjHmGkWcLwpN]\n";
        let others_of = format!("# Mine\n{key}registries:\n  a:\n    mirrors:\n    - b\n");
        let earlier = format!(
            "{EARLIER}join:\n  - \"https://old:6443\"\n- \"https://older:6443\"\ntoken-file: \
             /etc/edged/token\n{others_of}"
        );
        assert_eq!(others(&earlier).unwrap(), others_of);
        let taken = auto(&earlier).unwrap();
        assert!(taken.starts_with(&others_of), "{taken}");
        let file = config::File::parse(&taken).unwrap();
        assert_eq!((file.join, file.upgrade_keys.len()), (vec!["auto".to_owned()], 1));
        assert!(reads_token(&taken));
        // Again, with more behind it, and as it was without edged.
        let more = format!("{taken}log: debug\n");
        assert_eq!(auto(&more).unwrap(), more);
        let moved = joins(&["a.lan".into()], &more).unwrap();
        assert!(moved.contains("log: debug\n# begin: edged install\njoin:\n"), "{moved}");
        assert_eq!(others(&moved).unwrap(), format!("{others_of}log: debug\n"));
        assert_eq!(others("log: debug\n").unwrap(), "log: debug\n");
    }

    #[test]
    fn what_would_break_the_file_is_refused() {
        for (old, words) in [
            ("join: [b.lan]\n", "duplicate"),
            ("token-file: /root/token\n", "duplicate"),
            ("{log: debug}\n", "it can't be read"),
            ("# begin: edged install\njoin: [a]\nlog: debug\n", "has no \"# end: edged install\""),
        ] {
            let told = auto(old).unwrap_err();
            assert!(told.starts_with("install: /etc/edged/config.yaml: "), "{told}");
            assert!(told.contains(words) && told.contains("nothing") && told.lines().count() == 1);
        }
    }

    #[test]
    fn the_role_is_the_last_that_was_asked_for() {
        let runs = |role, old: &str| runs_as(role, old).unwrap();
        let first = runs("agent", "");
        assert_eq!(first, "# begin: edged install\nEDGED_ROLE=agent\n# end: edged install\n");
        let earlier = format!("{EARLIER}EDGED_ROLE=server\nEDGED_DATA_DIR=/mnt/ssd\n");
        let taken = runs("agent", &earlier);
        assert_eq!(taken, format!("EDGED_DATA_DIR=/mnt/ssd\n{first}"));
        let more = format!("{taken}EDGED_LOG=debug\n");
        assert_eq!(runs("agent", &more), more);
        let other = runs("agent", &format!("{more}EDGED_ROLE=server\n"));
        assert_eq!(other, format!("EDGED_DATA_DIR=/mnt/ssd\nEDGED_LOG=debug\n{first}"));
        assert_eq!(others(&other).unwrap(), "EDGED_DATA_DIR=/mnt/ssd\nEDGED_LOG=debug\n");
    }
}
