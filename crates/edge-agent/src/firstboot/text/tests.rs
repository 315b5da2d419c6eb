//! What the reader takes and refuses, beside what YAML itself does.

use super::*;

fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Empty => serde_json::Value::Null,
        Value::Scalar(s) => s.text.clone().into(),
        Value::List(items) => items.iter().map(|s| s.text.clone()).collect(),
        Value::Map(map) => object(map),
    }
}

fn object(entries: &[Entry]) -> serde_json::Value {
    let map = entries.iter().map(|e| (e.key.clone(), plain(&e.value)));
    serde_json::Value::Object(map.collect())
}

#[test]
fn it_reads_what_yaml_reads() {
    for text in [
        "name: a\nrole: server\n",
        "# c\n---\nname: a # c\n\nwifi:\n  ssid: My Net#1\n  password: 'it''s # x'\n",
        "join: [a.lan:6443, \"b\"]\nwifi: {ssid: \"a \\\" \\\\ b\", password: x,}\r\n",
        "join:\n- a\n- b\nname: z\n",
        "join:\n  - https://a:6443\ntoken:\naddress: fd00::1/64\n",
        "wifi: {}\njoin: []\nname: ~x\n",
    ] {
        let told: serde_json::Value = serde_yaml::from_str(text).unwrap();
        assert_eq!(object(&read(text).unwrap()), told, "{text}");
    }
    let entries = read("\u{feff}a: 0123456789\nb: NO\n").unwrap();
    assert_eq!(object(&entries), serde_json::json!({"a": "0123456789", "b": "NO"}));
}

#[test]
fn a_value_is_where_it_says() {
    let text = "\u{feff}# é\r\nwifi: {ssid: é, password: \"pass word\" , country: DE}\r\n";
    let Value::Map(wifi) = &read(text).unwrap()[0].value else { panic!("a map") };
    let spans = wifi.iter().map(|entry| match &entry.value {
        Value::Scalar(scalar) => &text[scalar.span.clone()],
        _ => panic!("a scalar"),
    });
    assert_eq!(spans.collect::<Vec<_>>(), ["é", "\"pass word\"", "DE"]);
}

#[test]
fn a_mistake_has_its_line() {
    for (text, line, word) in [
        ("name: a\n\trole: b\n", 2, "tab"),
        ("name:\ta\n", 1, "tab"),
        ("name a\n", 1, "key: value"),
        ("name:a\n", 1, "space"),
        ("name: a\nname: b\n", 2, "twice"),
        ("name: a\n  more: b\n", 2, "belongs to nothing"),
        ("wifi:\n  ssid: a\n    password: b\n", 3, "indented"),
        ("- a\n", 1, "belongs to no key"),
        ("name: \"a\n", 1, "closing"),
        ("name: a: b\n", 1, "second colon"),
        ("wifi: {ssid: a\n", 1, "`}` is missing"),
        ("join: [a\n", 1, "`]` is missing"),
        ("join: [[a]]\n", 1, "brackets within"),
        ("name: \"a\" b\n", 1, "after the value"),
        ("name: \"a\\n\"\n", 1, "backslash"),
    ] {
        let mistake = read(text).unwrap_err();
        assert!(mistake.line == line && mistake.what.contains(word), "{text}: {mistake}");
    }
}

#[test]
fn nothing_makes_it_stumble() {
    let bits = ["a", ":", " ", "\n", "{", "}", "[", "]", "\"", "'", "#", "-", ",", "é", "\\"];
    let mut seed = 7u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(bits[(seed >> 33) as usize % bits.len()]);
        }
        let _ = read(&text);
    }
}

#[test]
fn a_slip_is_understood() {
    let known = ["name", "role", "join", "token", "ssh-key"];
    for (typed, meant) in [("jion", "join"), ("ssh_key", "ssh-key"), ("Name", "name")] {
        assert_eq!(nearest(typed, &known), Some(meant));
    }
    assert_eq!(nearest("hostname-of-it", &known), None);
}
