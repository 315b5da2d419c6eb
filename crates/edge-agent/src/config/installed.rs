//! `/etc/default/edged`: the environment that systemd gives edged on the board that it is installed
//! on. What a person types about that board has it too, beneath their own environment: it looks
//! where the service keeps its state.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::builder::TypedValueParser as _;
use clap::{ArgAction, Command};

use super::FILE;

/// Where it is, beneath the root.
const DEFAULTS: &str = "etc/default/edged";
/// Where the state is unless somebody says otherwise.
const DATA: &str = "/var/lib/edged";
/// Words that run edged, with what they are given.
const RUN: [&str; 2] = ["server", "agent"];
/// Who names one of these looks at that place, and at no other's environment.
const PLACES: [(&str, &str); 2] = [("--data-dir", "EDGED_DATA_DIR"), ("--config", "EDGED_CONFIG")];
/// What only joining is in need of: secrets.
const SECRETS: [&str; 2] = ["EDGED_TOKEN", "EDGED_TOKEN_FILE"];

/// The file's text; nothing where there is none, or who asks may not read it.
pub(crate) fn defaults(root: &Path) -> String {
    let bytes = std::fs::read(root.join(DEFAULTS)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The words as typed, and as flags what the file says beneath them and the environment, of which
/// `is_set` knows. Words that run edged, or name a place of their own, stay as they are.
pub(crate) fn layered(
    cli: &Command,
    args: &[OsString],
    is_set: impl Fn(&str) -> bool,
    defaults: &str,
) -> Vec<OsString> {
    let (mut command, mut at) = (cli, 1);
    while let Some(next) = args.get(at).and_then(|word| command.find_subcommand(word)) {
        (command, at) = (next, at + 1);
    }
    let has = |flag: &str, variable: &str| typed(args, flag).is_some() || is_set(variable);
    if RUN.contains(&command.get_name()) || PLACES.iter().any(|(flag, var)| has(flag, var)) {
        return args.to_owned();
    }
    let mut words = args.to_owned();
    for (name, value) in variables(defaults) {
        let named = |arg: &&clap::Arg| arg.get_env().is_some_and(|env| *env == *name);
        let Some(arg) = command.get_arguments().find(named) else { continue };
        let Some(flag) = arg.get_long().map(|long| format!("--{long}")) else { continue };
        if value.is_empty() || SECRETS.contains(&&*name) || has(&flag, &name) {
            continue;
        }
        let switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let on = || BoolishValueParser::new().parse_ref(command, None, value.as_ref());
        match switch {
            true if on().is_ok_and(|on| on) => words.insert(at, flag.into()),
            true => {}
            false => words.insert(at, format!("{flag}={value}").into()),
        }
    }
    words
}

/// What was typed behind a flag, if it was.
pub(crate) fn typed(args: &[OsString], flag: &str) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == flag {
            return args.next().map(PathBuf::from);
        }
        let value = arg.to_str().and_then(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
        if let Some(value) = value {
            return Some(PathBuf::from(value));
        }
    }
    None
}

/// The data directory that a file of settings names, whatever else is in it: a newer program's, or
/// a mistake.
pub(crate) fn filed(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    let value: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
    value.get("data-dir")?.as_str().map(PathBuf::from)
}

/// The data directory of the service on the board at `root`.
pub(crate) fn data_dir(root: &Path) -> PathBuf {
    let said = variables(&defaults(root));
    let said = |name: &str| {
        let (_, value) = said.iter().rfind(|(key, value)| key == name && !value.is_empty())?;
        Some(PathBuf::from(value))
    };
    let beneath = |path: PathBuf| root.join(path.strip_prefix("/").unwrap_or(&path));
    let file = said("EDGED_CONFIG").unwrap_or_else(|| FILE.into());
    let dir = said("EDGED_DATA_DIR").or_else(|| filed(&beneath(file)));
    beneath(dir.unwrap_or_else(|| DATA.into()))
}

/// Where [`variables`] is in its text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Line,
    Comment,
    Key,
    /// Before a value, or behind one in quotes.
    Value,
    Bare,
    Single,
    Double,
}

/// The last value of each variable, read as systemd does (`EnvironmentFile=`).
fn variables(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let (mut key, mut value, mut at) = (String::new(), String::new(), At::Line);
    let mut chars = text.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match (at, c) {
            (At::Comment | At::Key, '\n') => (at, key) = (At::Line, String::new()),
            (At::Line, '#' | ';') => at = At::Comment,
            (At::Line, c) if c.is_whitespace() => {}
            (At::Line, c) => (at, key) = (At::Key, c.into()),
            (At::Comment, _) => {}
            (At::Key, '=') => (at, value) = (At::Value, String::new()),
            (At::Key, c) => key.push(c),
            (At::Value | At::Bare, '\n') => {
                let name = key.trim().to_owned();
                let end = if at == At::Bare { value.trim_end().len() } else { value.len() };
                value.truncate(end);
                all.retain(|(had, _)| *had != name);
                all.push((name, std::mem::take(&mut value)));
                (at, key) = (At::Line, String::new());
            }
            (At::Value, '\'') => at = At::Single,
            (At::Value, '"') => at = At::Double,
            (At::Single, '\'') | (At::Double, '"') => at = At::Value,
            (At::Value, c) if c.is_whitespace() => {}
            (At::Double, '\\') => match chars.next() {
                Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                // A line that goes on.
                Some('\n') | None => {}
                Some(c) => value.extend(['\\', c]),
            },
            (At::Value | At::Bare, '\\') => {
                at = At::Bare;
                value.extend(chars.next().filter(|c| *c != '\n'));
            }
            (At::Value, c) => {
                at = At::Bare;
                value.push(c);
            }
            (At::Bare | At::Single | At::Double, c) => value.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_systemd_reads_it() {
        let text = "# EDGED_NAME=a\n; b\n EDGED_DATA_DIR = /mnt/my ssd/edged  \nEDGED_LOG=\n\
                    EDGED_NAME='a # b'\nEDGED_JOIN=\"a,\\\"b\\\\\" # c\nnothing\n\
                    EDGED_LISTEN=1\\\n2\nexport EDGED_X=1\nEDGED_LOG=debug";
        let read = variables(text);
        let has =
            |name: &str| read.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(has("EDGED_DATA_DIR"), Some("/mnt/my ssd/edged"));
        assert_eq!(has("EDGED_NAME"), Some("a # b"));
        assert_eq!(has("EDGED_JOIN"), Some("a,\"b\\# c"), "no comment behind a value");
        assert_eq!((has("EDGED_LISTEN"), has("EDGED_LOG")), (Some("12"), Some("debug")));
        assert_eq!((has("EDGED_X"), read.len()), (None, 6));
        assert_eq!(variables("A='b\nc'\nD=\"e").last(), Some(&("A".into(), "b\nc".into())));
    }

    #[test]
    fn the_boards_state_is_where_its_service_keeps_it() {
        let root = std::env::temp_dir().join(format!("edged-defaults-{}", std::process::id()));
        for dir in ["etc/default", "etc/edged"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        assert_eq!(data_dir(&root), root.join("var/lib/edged"));
        std::fs::write(root.join("etc/edged/config.yaml"), "data-dir: /a\n").unwrap();
        assert_eq!(data_dir(&root), root.join("a"));
        std::fs::write(root.join("b.yaml"), "data-dir: /b\nkey-of-tomorrow: 1\n").unwrap();
        std::fs::write(root.join(DEFAULTS), "EDGED_CONFIG=/b.yaml\nEDGED_DATA_DIR=\n").unwrap();
        assert_eq!(data_dir(&root), root.join("b"));
        std::fs::write(root.join(DEFAULTS), "EDGED_DATA_DIR='/c d'\n").unwrap();
        assert_eq!(data_dir(&root), root.join("c d"));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
