//! What `kubectl` wrote for the same objects, and that everything reads back as it was.

use super::*;
use crate::input::yaml::documents;
use serde_json::json;

#[test]
fn scalars() {
    let table = [
        ("web", "web"),
        ("web:1.2", "web:1.2"),
        ("a b", "a b"),
        ("1", "\"1\""),
        ("1.5", "\"1.5\""),
        ("1e3", "\"1e3\""),
        ("0x1F", "\"0x1F\""),
        ("0644", "\"0644\""),
        ("1.2.3", "1.2.3"),
        ("10.42.0.2", "10.42.0.2"),
        ("100m", "100m"),
        ("64Mi", "64Mi"),
        ("25%", "25%"),
        ("True", "\"True\""),
        ("no", "\"no\""),
        ("null", "\"null\""),
        ("", "\"\""),
        ("12:30", "\"12:30\""),
        ("2024-01-02T00:00:00Z", "\"2024-01-02T00:00:00Z\""),
        ("2024-01-02", "\"2024-01-02\""),
        ("2024-01-02-x", "2024-01-02-x"),
        ("key: value", "'key: value'"),
        ("a:", "'a:'"),
        ("it's: so", "'it''s: so'"),
        ("# no", "'# no'"),
        ("a #b", "'a #b'"),
        ("a#b", "a#b"),
        ("*", "'*'"),
        ("-", "'-'"),
        ("-x", "-x"),
        ("- x", "'- x'"),
        ("{a}", "'{a}'"),
        ("[x", "'[x'"),
        ("@a", "'@a'"),
        (" a", "' a'"),
        ("a ", "'a '"),
        ("---", "'---'"),
        ("a\tb", "\"a\\tb\""),
        ("a\u{1b}b", "\"a\\eb\""),
        ("grün", "grün"),
        ("sha256:abc", "sha256:abc"),
        ("<none>", "<none>"),
        ("a\nb", "|-\n  a\n  b"),
        ("a\n", "|\n  a"),
        ("a\n\n", "|+\n  a\n"),
        (" a\nb\n", "|2\n   a\n  b"),
        ("a \nb", "\"a \\nb\""),
    ];
    for (value, wanted) in table {
        let written = write(&json!({"k": value}));
        assert_eq!(written, format!("k: {wanted}\n"), "{value:?}");
        assert_eq!(documents(&written).unwrap(), [json!({"k": value})], "{value:?}");
    }
}

#[test]
fn structures() {
    let object = json!({
        "a": {}, "b": [], "c": [1, "x", {"d": [2], "e": null}, [true, [false]]],
        "y": {"1": 2.5, "multi\nline": "v"},
    });
    let written = write(&object);
    assert_eq!(
        written,
        "a: {}\nb: []\nc:\n- 1\n- x\n- d:\n  - 2\n  e: null\n- - true\n  - - false\n\"y\":\n  \
         \"1\": 2.5\n  \"multi\\nline\": v\n"
    );
    assert_eq!(documents(&written).unwrap(), [object]);
    assert_eq!(write(&json!(["a"])), "- a\n");
    assert_eq!(write(&json!("a")), "a\n");
}
