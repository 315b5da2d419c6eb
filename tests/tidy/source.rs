//! Rules about each source file: its size, its opening, and what may not stand in it.

use super::{none, rust_files};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
const LINE_CHARS: usize = 100;

/// The only rooms where `unsafe` may stand.
const UNSAFE_ROOMS: &[&str] =
    &["crates/edge-node/src/runtime", "crates/edge-node/src/shim", "crates/edge-store/src/env"];

/// Rooms of which it is known what they would hold: nothing with a name of its own.
const BANNED_MODULES: &[&str] = &["utils", "util", "common", "helpers", "manager", "misc"];

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

/// The part of a file before its inline tests.
fn shipped(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Lines that are code: neither comment nor doc.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
}

#[test]
fn files_are_short_and_say_why_they_exist() {
    let mut offences = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            offences.push(format!("{path}: {lines} lines, at most {FILE_LINES}"));
        }
        if !text.starts_with("//! ") {
            offences.push(format!("{path}: does not open with a //! paragraph"));
        }
        for (n, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_CHARS {
                offences.push(format!("{path}:{}: over {LINE_CHARS} characters", n + 1));
            }
        }
    }
    none("files", offences);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut offences = Vec::new();
    for (path, text) in rust_files() {
        for (start, length) in functions(&text) {
            if length > FUNCTION_LINES {
                offences.push(format!("{path}:{start}: {length} lines, at most {FUNCTION_LINES}"));
            }
        }
    }
    none("functions", offences);
}

/// Where each function begins, and how many lines it has. rustfmt closes a function with a
/// brace at the column where its line began, which is all that has to be known of the syntax.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_fn = ["fn ", "pub fn ", "async fn ", "pub async fn ", "unsafe fn ", "const fn "]
            .iter()
            .any(|p| trimmed.starts_with(p))
            || (trimmed.starts_with("pub(") && trimmed.contains(" fn "));
        if !is_fn {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - trimmed.len()]);
        if let Some(length) = lines[n..].iter().position(|l| *l == closing) {
            found.push((n + 1, length + 1));
        }
    }
    found
}

#[test]
fn nothing_panics_or_is_left_behind() {
    let words = [".unwrap()", "panic!(", "unreachable!("];
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"];
    let mut offences = Vec::new();
    for (path, text) in rust_files().iter().filter(|(p, _)| !p.starts_with("tests/tidy/")) {
        for (n, line) in code(text) {
            if let Some(mark) = marks.iter().find(|m| line.contains(**m)) {
                offences.push(format!("{path}:{}: {mark}", n + 1));
            }
        }
        if is_test_file(path) {
            continue;
        }
        for (n, line) in code(shipped(text)) {
            if let Some(word) = words.iter().find(|w| line.contains(**w)) {
                offences.push(format!("{path}:{}: {word}", n + 1));
            }
            if line.contains(".expect(\"") && !line.contains("invariant: ") {
                offences.push(format!("{path}:{}: expect without its invariant", n + 1));
            }
        }
    }
    none("panics and leftovers", offences);
}

#[test]
fn unsafe_stands_in_its_rooms_with_a_reason() {
    let mut offences = Vec::new();
    for (path, text) in rust_files().iter().filter(|(p, _)| !p.starts_with("tests/")) {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in code(text) {
            if !(line.contains("unsafe {") || line.contains("unsafe fn")) {
                continue;
            }
            if !UNSAFE_ROOMS.iter().any(|room| path.starts_with(room)) {
                offences.push(format!("{path}:{}: unsafe outside its rooms", n + 1));
            }
            let above = &lines[n.saturating_sub(6)..=n];
            if !above.iter().any(|l| l.contains("SAFETY:")) {
                offences.push(format!("{path}:{}: no SAFETY: comment", n + 1));
            }
        }
    }
    none("unsafe", offences);
}

#[test]
fn the_pure_crates_are_pure() {
    let banned = [
        "tokio",
        "std::fs",
        "std::net",
        "SystemTime",
        "Instant",
        "rand::",
        "HashMap",
        "HashSet",
        "std::thread",
        "std::process",
        "std::env",
        "Timestamp::now",
    ];
    let mut offences = Vec::new();
    for (path, text) in rust_files() {
        if !path.starts_with("crates/edge-api/src") && !path.starts_with("crates/edge-core/src") {
            continue;
        }
        for (n, line) in code(&text) {
            if let Some(word) = banned.iter().find(|w| line.contains(**w)) {
                offences.push(format!("{path}:{}: {word}", n + 1));
            }
        }
    }
    none("effects in the pure crates", offences);
}

#[test]
fn channels_are_bounded_by_named_constants() {
    let mut offences = Vec::new();
    for (path, text) in rust_files().iter().filter(|(p, _)| !is_test_file(p)) {
        for (n, line) in code(shipped(text)) {
            if line.contains("unbounded_channel") || line.contains("mpsc::channel()") {
                offences.push(format!("{path}:{}: an unbounded channel", n + 1));
            }
            let Some(at) = line.find("mpsc::channel(").map(|i| i + "mpsc::channel(".len()) else {
                continue;
            };
            if line[at..].starts_with(|c: char| c.is_ascii_digit()) {
                offences.push(format!("{path}:{}: a bound without a name", n + 1));
            }
        }
    }
    none("channels", offences);
}

#[test]
fn rooms_have_names_that_say_something() {
    let mut offences = Vec::new();
    for (path, _) in rust_files() {
        for part in path.trim_end_matches(".rs").split('/') {
            if BANNED_MODULES.contains(&part) {
                offences.push(path.clone());
            }
        }
    }
    none("rooms without a meaning", offences);
}

#[test]
fn libcontainer_and_netlink_are_named_in_one_room_each() {
    let mut offences = Vec::new();
    for (path, text) in rust_files().iter().filter(|(p, _)| p.starts_with("crates/edge-node/src")) {
        let runtime = path.starts_with("crates/edge-node/src/runtime");
        let net = path.starts_with("crates/edge-node/src/net");
        for (n, line) in code(text) {
            if line.contains("libcontainer::") && !runtime {
                offences.push(format!("{path}:{}: libcontainer outside runtime", n + 1));
            }
            if line.contains("netlink_") && !net {
                offences.push(format!("{path}:{}: netlink outside net", n + 1));
            }
        }
    }
    none("libraries outside their room", offences);
}
