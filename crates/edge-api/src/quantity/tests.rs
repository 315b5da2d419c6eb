//! Quantities, with the cases of Kubernetes' own documentation.

use super::*;
use serde_json::json;

#[test]
fn canonical_forms() {
    for (text, want) in [
        ("0", "0"),
        ("0.0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        ("1.5", "1500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.1", "100m"),
        ("1000m", "1"),
        ("100m", "100m"),
        ("1500m", "1500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("100k", "100k"),
        ("1000000", "1M"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("64Mi", "64Mi"),
        ("1025Mi", "1025Mi"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("0.5Mi", "512Ki"),
        ("1Ei", "1Ei"),
        ("129e6", "129e6"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1e-3", "1e-3"),
        ("12e2", "1200"),
        ("1E", "1E"),
        ("0.001m", "1u"),
        ("0.0001u", "1n"),
        ("1n", "1n"),
        ("0.5n", "1n"),
        ("100000000000000000000000000", "9223372036854775807"),
        ("1e999", "9223372036854775807"),
        ("10Ei", "9223372036854775807"),
        ("1.23456789", "1234567890n"),
    ] {
        assert_eq!(Quantity::parse(text).expect(text).to_string(), want, "{text}");
    }
}

#[test]
fn refuses_what_is_none() {
    for text in ["", "a", "1.2.3", "--1", ".", "1 Gi", "10Xi", "1é"] {
        assert_eq!(Quantity::parse(text).err(), Some(ParseError::Format), "{text:?}");
    }
    for text in ["1ki", "1e", "1Kii", "1mm", "1K", "1e+", "1i"] {
        assert_eq!(Quantity::parse(text).err(), Some(ParseError::Suffix), "{text:?}");
    }
}

#[test]
fn numbers_round_up_and_compare() {
    let read = |text: &str| Quantity::parse(text).expect("quantity");
    assert_eq!(read("1500m").value(), 2);
    assert_eq!(read("1.5Gi").value(), 1_610_612_736);
    assert_eq!(read("0.5m").milli(), 1);
    assert_eq!(read("-1500m").value(), -2);
    assert_eq!(read("2").milli(), 2000);
    assert!(read("1Gi") > read("1G"));
    assert!(read("1000m") == read("1"));
    assert_eq!(read("1Gi").plus(&read("1Gi")).to_string(), "2Gi");
    assert_eq!(read("0").plus(&read("1Gi")).to_string(), "1Gi");
    assert_eq!(read("1").minus(&read("250m")).to_string(), "750m");
    assert_eq!(Quantity::from_bytes(2048).to_string(), "2Ki");
    assert_eq!(Quantity::from_milli(1500).to_string(), "1500m");
    assert_eq!(Quantity::milli_of(&json!(2)), 2000);
    assert_eq!(Quantity::milli_of(&json!(null)), 0);
    assert_eq!(canonical(&json!(0.5)), Ok("500m".to_string()));
}
