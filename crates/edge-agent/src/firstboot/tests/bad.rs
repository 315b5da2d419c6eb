//! What people and their editors put onto the boot partition, and what they are told. Whatever is
//! refused changes nothing.

use super::super::*;
use super::{Card, stored, token};

/// The file, its bytes, the line that is told, and what must be in it.
#[track_caller]
fn refused(name: &str, bytes: &[u8], words: &[&str]) {
    let card = Card::new("bad");
    std::fs::write(card.boot_file(name), bytes).unwrap();
    let before = card.root_state();
    let said = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(card.again(), USAGE, "{said}");
    let told = card.told();
    for word in words {
        assert!(told.contains(word), "{said}: {word:?} is not in {told}");
    }
    assert_eq!(told.lines().count(), 2, "one line and what to do: {told}");
    assert!(!told.contains("hunter2"), "a secret is not repeated: {told}");
    let held = card.root(HOLD);
    assert!(held.exists(), "{said}: a fresh board waits");
    std::fs::remove_file(held).unwrap();
    assert_eq!(card.root_state(), before, "{said}");
}

#[test]
fn each_mistake_is_one_line_and_changes_nothing() {
    let own = token();
    let torn = &own[..own.len() - 4];
    let wrong = |text: &str, words: &[&str]| refused("edged.yaml", text.as_bytes(), words);
    wrong("name: a\n\trole: agent\n", &["line 2", "tab", "spaces"]);
    wrong("wifi:\n\tssid: a\n", &["line 2", "tab"]);
    wrong("name:\ta\n", &["line 1", "tab"]);
    wrong("hostname: a\n", &["line 1: \"hostname\" is no key", "did you mean \"name\""]);
    wrong("tokn: x\n", &["did you mean \"token\""]);
    wrong("sshkey: x\n", &["did you mean \"ssh-key\""]);
    wrong("time_zone: UTC\n", &["did you mean \"timezone\""]);
    wrong("wifi: {ssid: a, pasword: b}\n", &["did you mean \"password\""]);
    wrong("colour: red\n", &["the keys are name, role"]);
    wrong("token: hunter2\n", &["line 1: token: not a joining token"]);
    wrong(&format!("token: {torn}\n"), &["line 1: token: not a joining token"]);
    wrong("name: a\nname: b\n", &["line 2: name: it is there twice"]);
    wrong("wifi: {ssid: a, ssid: b}\n", &["ssid: it is there twice"]);
    wrong("address: 10.0.0.5\n", &["line 1: address", "192.168.1.20/24"]);
    wrong("address: 10.0.0.5/33\n", &["192.168.1.20/24"]);
    wrong("wifi: {ssid: a, password: hunter2}\n", &["7 characters"]);
    wrong("wifi: {ssid: a, country: Deutschland}\n", &["two letters"]);
    // Editors of Windows: UTF-16 with its mark.
    refused("edged.yaml", b"\xff\xfen\0a\0m\0e\0", &["save it as UTF-8"]);
    refused("edged.yaml", b"name: k\xfcche\n", &["save it as UTF-8"]);
    for name in ["edged.yaml.txt", "Edged.yaml", "EDGED.YAML.TXT", "edged.yml", "Edged.txt"] {
        refused(name, b"name: a\n", &[&format!("it is called {name}: rename it to edged.yaml")]);
    }
}

/// Passwords with signs that mean something to YAML: taken as typed, or refused with what to do.
#[test]
fn a_password_is_what_was_typed_or_it_is_refused() {
    let wpa = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf";
    for (typed, meant) in [
        ("pass:word#1", "pass:word#1"),
        ("a&b*c!d|e>f", "a&b*c!d|e>f"),
        ("back\\slash1", "back\\slash1"),
        ("quote\"inside", "quote\"inside"),
        ("it's okay 1", "it's okay 1"),
        ("'{[&*!|>%@ #:'", "{[&*!|>%@ #:"),
        ("\"a: b # c\"", "a: b # c"),
        ("'it''s \"so\"'", "it's \"so\""),
        ("12345678", "12345678"),
        ("~~~~~~~~", "~~~~~~~~"),
    ] {
        let card = Card::new("typed");
        assert_eq!(card.boot(&format!("wifi:\n  ssid: n\n  password: {typed}\n")), 0, "{typed}");
        let wanted = format!("psk={}\n", wifi::key("n", meant));
        assert!(card.has(wpa).contains(&wanted), "{typed}");
        assert!(card.left().contains("password: stored  "), "{}", card.left());
    }
    for (typed, words) in [
        ("hunter2: x", "second colon"),
        ("hunter2hunter2 #1", "what follows ` #` is a comment"),
        ("*hunter2", "put it in quotes"),
        ("@hunter2", "put it in quotes"),
        ("{hunter2", "key: value"),
        ("\"hunter2", "closing"),
        ("\"hunter2\\x\"", "backslash"),
        ("\"hunter2\" x", "after the value"),
    ] {
        let text = format!("wifi:\n  ssid: n\n  password: {typed}\n");
        refused("edged.yaml", text.as_bytes(), &["line 3", words]);
    }
}

#[test]
fn windows_marks_and_line_ends_are_no_mistake() {
    let card = Card::new("crlf");
    let token = token();
    let text = format!("\u{feff}name: kitchen\r\njoin: auto\r\ntoken: {token}\r\n");
    assert_eq!(card.boot(&text), 0, "{}", card.told());
    assert_eq!(card.has("etc/hostname"), "kitchen\n");
    assert_eq!(card.has("etc/edged/token"), format!("{token}\n"));
    assert_eq!(card.left(), text.replace(&token, &stored(&token)));
}

#[test]
fn without_a_country_it_goes_on() {
    let card = Card::new("country");
    assert_eq!(card.boot("wifi: {ssid: n, password: 12345678}\n"), 0);
    assert!(!card.has("etc/wpa_supplicant/wpa_supplicant-wlan0.conf").contains("country="));
}
