//! Query parameters: decoded once, looked up by name, and read as the types that the API's
//! options have, with an error that names the parameter.

use edge_api::status::Status;
use percent_encoding::percent_decode_str;

/// The parameters of one request, in the order given.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes `a=b&c=d`, with `+` and percent escapes.
    pub(crate) fn parse(text: &str) -> Query {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            })
            .collect();
        Query { pairs }
    }

    /// The first value of a parameter; an empty value counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All parameters.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// A flag, read as Go reads booleans.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Status> {
        match self.get(name) {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some(other) => Err(Status::bad_request(format!(
                "invalid value {other:?} for the parameter {name}: must be true or false"
            ))),
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "invalid value {text:?} for the parameter {name}: must be a non-negative integer"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_typed() {
        let query =
            Query::parse("labelSelector=a%3Db%2Cc&limit=5&watch=true&x=1+2&command=a&command=b&e=");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert!(query.flag("watch").unwrap());
        assert_eq!(query.get("x"), Some("1 2"));
        assert_eq!(query.get("e"), None);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", "b"]);
        assert!(Query::parse("limit=-1").number("limit").is_err());
        assert!(Query::parse("watch=maybe").flag("watch").is_err());
    }
}
