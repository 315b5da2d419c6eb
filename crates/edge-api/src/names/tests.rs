//! The rules of names, by table.

use super::*;

#[test]
fn labels_and_subdomains() {
    let long = "a".repeat(64);
    for (text, label, subdomain) in [
        ("web", true, true),
        ("web-1", true, true),
        ("1-web", true, true),
        ("a.b", false, true),
        ("", false, false),
        ("Web", false, false),
        ("-web", false, false),
        ("web-", false, false),
        ("a..b", false, false),
        ("we_b", false, false),
        (long.as_str(), false, true),
    ] {
        assert_eq!(dns1123_label(text).is_empty(), label, "label {text:?}");
        assert_eq!(dns1123_subdomain(text).is_empty(), subdomain, "subdomain {text:?}");
    }
    assert_eq!(
        dns1123_subdomain("Web"),
        ["a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
          or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
          used for validation is \
          '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"]
    );
    assert_eq!(
        dns1123_label("Web"),
        ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
          and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
          regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
    );
    assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    assert!(!dns1035_label("1web").is_empty());
    assert!(dns1035_label("web1").is_empty());
    assert!(!dns1035_label("").is_empty());
}

#[test]
fn qualified_names_and_values() {
    for (text, good) in [
        ("app", true),
        ("app.kubernetes.io/name", true),
        ("A_b.c-1", true),
        ("", false),
        ("/app", false),
        ("app/", false),
        ("a/b/c", false),
        ("UPPER.example/x", false),
        ("-app", false),
    ] {
        assert_eq!(qualified_name(text).is_empty(), good, "{text:?} {:?}", qualified_name(text));
    }
    for (text, good) in [("", true), ("v1.2_3", true), ("v 1", false), ("-v", false)] {
        assert_eq!(label_value(text).is_empty(), good, "{text:?}");
    }
    assert_eq!(label_value(&"v".repeat(64)), ["must be no more than 63 bytes"]);
}

#[test]
fn keys_env_ports_and_headers() {
    for (text, good) in [
        ("a.b_c-D", true),
        ("", false),
        (".", false),
        ("..", false),
        ("..a", false),
        ("a/b", false),
    ] {
        assert_eq!(config_map_key(text).is_empty(), good, "{text:?}");
    }
    for (text, good) in [("PATH", true), ("a.b", true), ("1X", true), ("a=b", false), ("", false)] {
        assert_eq!(env_var_name(text).is_empty(), good, "{text:?}");
    }
    for (text, good) in [
        ("http", true),
        ("80", false),
        ("a--b", false),
        ("-a", false),
        ("HTTP", false),
        ("averyverylongport", false),
    ] {
        assert_eq!(port_name(text).is_empty(), good, "{text:?}");
    }
    assert!(port_number(1).is_empty() && port_number(65535).is_empty());
    assert!(!port_number(0).is_empty() && !port_number(65536).is_empty());
    assert!(http_header("X-A").is_empty() && !http_header("X A").is_empty());
    assert!(ip("10.0.0.1").is_empty() && ip("::1").is_empty() && !ip("10.0.0").is_empty());
    assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
}

#[test]
fn generated_names_fit() {
    assert_eq!(generated("web-", "abcde"), "web-abcde");
    assert_eq!(generated(&"w".repeat(80), "abcde").len(), 63);
    assert_eq!(suffix(0), "bbbbb");
    assert_ne!(suffix(1), suffix(2));
}
