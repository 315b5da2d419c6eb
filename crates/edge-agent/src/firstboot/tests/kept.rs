//! What stays, and what is asked for by halves.

use super::super::*;
use super::{Card, token};

#[test]
fn a_file_that_asks_for_nothing_takes_nothing() {
    let card = Card::new("template");
    let text = format!(
        "token: {}\nwifi: {{ssid: a, password: 12345678}}\nssh-key: ssh-ed25519 AAAAC3 me\n",
        token()
    );
    assert_eq!(card.boot(&text), 0, "{}", card.told());
    let (before, left) = (card.root_state(), card.left());
    // As partition 1 of a new image has it.
    let template = include_str!("../../../../../images/card/boot/edged.yaml");
    for nothing in ["", "\n\n", "# name: kitchen\r\n", template] {
        assert_eq!(card.boot(nothing), 0, "{}", card.told());
        assert_eq!(card.root_state(), before, "{nothing}");
    }
    assert_eq!(card.boot(&left), 0, "the old file beside the new image");
    assert_eq!(card.root_state(), before);
    // A key with nothing behind it asks for what a board has without settings.
    assert_eq!(card.boot("name:\n"), 0);
    assert!(!card.root(plan::WPA).exists() && !card.root(plan::KEYS).exists());
}

#[test]
fn an_agent_is_told_of_which_cluster() {
    let card = Card::new("lost");
    assert_eq!(card.boot("name: a\nrole: agent\n"), USAGE);
    assert!(
        card.told().starts_with("edged.yaml, line 2: role: an agent is told"),
        "{}",
        card.told()
    );
    assert!(card.root(HOLD).exists() && card.has(plan::DEFAULTS).is_empty());
    std::fs::create_dir_all(card.root("etc/edged")).unwrap();
    std::fs::write(card.root(plan::CONFIG), "join: [b.lan]\n").unwrap();
    assert_eq!(card.again(), 0, "a person has told it: {}", card.told());
    std::fs::remove_file(card.root(plan::CONFIG)).unwrap();
    let saved = r#"{"cluster":"c","name":"a","role":"agent"}"#;
    std::fs::write(card.root("var/lib/edged/cluster.json"), saved).unwrap();
    assert_eq!(card.boot("name: b\nrole: agent\n"), 0, "it has joined: {}", card.told());
}

#[test]
fn what_will_hardly_work_is_noted() {
    let notes = |yaml: &str| {
        let wish = wish::read(text::read(yaml).unwrap()).unwrap();
        plan::plan(&wish, &plan::Board::default()).unwrap().notes
    };
    let alone = notes("address: 10.0.0.9/24\n");
    assert!(alone[0].contains("gateway is missing") && alone[0].contains("knows no names"));
    let named = notes("address: 10.0.0.9/24\ndns: 10.0.0.1\n");
    assert!(named[0].contains("gateway is missing") && !named[0].contains("names"), "{named:?}");
    assert!(notes("address: 10.0.0.9/24\ngateway: 10.0.0.1\n").is_empty());
    let token = token();
    let named = |join: &str| notes(&format!("token: {token}\njoin: {join}\n"));
    assert!(named("[auto, kitchen.local]")[0].contains("https://kitchen.local:6443: a board asks"));
    assert!(named("kitchen.lan").is_empty() && named("auto").is_empty());
}

/// Whatever happens after that, a power cut too, finds the secrets gone from where they were.
#[test]
fn secrets_are_written_over_where_they_stand() {
    let card = Card::new("cut");
    let token = token();
    let text = format!("token: {token}  # of Monday\nwifi: {{ssid: a, password: 'it is 1'}}\n");
    let text = text.replace("it is 1", "it is one");
    // In the way of a file that would take its place.
    std::fs::create_dir_all(card.boot_file("edged.yaml.new/x")).unwrap();
    assert_eq!(card.boot(&text), 0, "{}", card.told());
    let left = card.left();
    assert_eq!(left.len(), text.len());
    assert!(!left.contains(&token) && !left.contains("it is one"), "{left}");
    let before = card.root_state();
    std::fs::remove_file(card.root(APPLIED)).unwrap();
    assert_eq!(card.again(), 0, "it is read as before: {}", card.told());
    let but_the_note = |state: super::State| -> Vec<_> {
        state.into_iter().filter(|(path, _, _)| !path.ends_with(APPLIED)).collect()
    };
    assert_eq!(but_the_note(card.root_state()), but_the_note(before));
}

#[test]
fn made_directories_are_noted_beneath_the_root() {
    let card = Card::new("made");
    assert_eq!(card.boot("ssh-key: ssh-ed25519 AAAAC3 me\n"), 0);
    assert_eq!(card.has(commit::MADE), "root\nroot/.ssh\n");
    let root = card.root("");
    assert_eq!(directories(&root), [root.join("root/.ssh"), root.join("root")]);
}
