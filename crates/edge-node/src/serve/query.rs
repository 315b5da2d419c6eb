//! The query of a request.

use percent_encoding::percent_decode_str;

/// Parameters in order; a name may come several times.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

impl Query {
    /// Reads what follows the question mark.
    pub(super) fn parse(text: Option<&str>) -> Query {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Query(decoded.collect())
    }

    /// The first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let matching = self.0.iter().filter(|(key, _)| key == name);
        matching.map(|(_, value)| value.clone()).collect()
    }

    /// `true` or `1`, under the API's name or the kubelet's.
    pub(super) fn flag(&self, name: &str, short: &str) -> bool {
        [name, short].iter().any(|n| matches!(self.get(n), Some("true" | "1")))
    }

    /// A number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name}: \"{text}\" is not a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let query = Query::parse(Some("command=sh&command=-c&command=echo+a%2Bb&tty=true&input=1"));
        assert_eq!(query.all("command"), ["sh", "-c", "echo a+b"]);
        assert!(query.flag("tty", "tty") && query.flag("stdin", "input"));
        assert!(!query.flag("stdout", "output"));
        let query = Query::parse(Some("tailLines=5&limitBytes=x"));
        assert_eq!(query.number("tailLines"), Ok(Some(5)));
        assert_eq!(query.number("sinceSeconds"), Ok(None));
        assert!(query.number("limitBytes").is_err());
    }
}
