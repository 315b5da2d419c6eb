//! A registry's way of asking for credentials: `WWW-Authenticate`, `Basic` or `Bearer`.

use std::collections::BTreeMap;

/// What the registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The best of all challenges in an answer's headers.
    pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut best = None;
        for header in headers {
            for (scheme, mut values) in parse(header) {
                match scheme.to_ascii_lowercase().as_str() {
                    "bearer" => {
                        if let Some(realm) = values.remove("realm") {
                            return Some(Challenge::Bearer {
                                realm,
                                service: values.remove("service"),
                                scope: values.remove("scope"),
                            });
                        }
                    }
                    "basic" => best = Some(Challenge::Basic),
                    _ => {}
                }
            }
        }
        best
    }
}

type Parsed = Vec<(String, BTreeMap<String, String>)>;

/// `Scheme key="value", key=value, Scheme2 …`; values may hold commas when quoted.
fn parse(header: &str) -> Parsed {
    let mut challenges: Parsed = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        let after_spaces = after.trim_start();
        if let Some(value) = after_spaces.strip_prefix('=') {
            let (value, tail) = take_value(value.trim_start());
            if let Some((_, values)) = challenges.last_mut() {
                values.insert(token.to_ascii_lowercase(), value);
            }
            rest = tail;
        } else {
            if !token.is_empty() {
                challenges.push((token.to_string(), BTreeMap::new()));
            }
            rest = after_spaces;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A quoted or bare value, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => {
                if let Some((_, escaped)) = characters.next() {
                    value.push(escaped);
                }
            }
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(header: &str) -> Option<Challenge> {
        Challenge::best(std::iter::once(header))
    }

    #[test]
    fn real_headers_parse() {
        let hub = concat!(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io","#,
            r#"scope="repository:a/b:pull,push""#
        );
        let Some(Challenge::Bearer { realm, service, scope }) = best(hub) else { panic!() };
        assert_eq!(realm, "https://auth.docker.io/token");
        assert_eq!(service.as_deref(), Some("registry.docker.io"));
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(best(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(best("basic"), Some(Challenge::Basic));
        let two = r#"Basic realm="a, b", Bearer realm=http://t/ , service="s""#;
        assert!(matches!(best(two), Some(Challenge::Bearer { .. })));
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for header in ["", "=", ",,,", "Negotiate", "Bearer", "Bearer realm", "\"", "a=\"\\"] {
            assert_eq!(best(header), None, "{header}");
        }
    }
}
