//! What form an answer takes: the `Accept` header chooses between the object itself, a table for
//! people, and the metadata alone; and between versions of the discovery documents.

use edge_api::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object or list as it is stored.
    Json,
    /// The same, as YAML.
    Yaml,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `PartialObjectMetadata` or its list.
    Metadata,
    /// What boards may see of each other's pods: never asked for, only given.
    Outline,
    /// Aggregated discovery, in `apidiscovery.k8s.io/v2` or `v2beta1`.
    Discovery {
        /// Whether the client knows no newer version than `v2beta1`.
        beta: bool,
    },
}

/// One entry of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    as_kind: Option<&'a str>,
    group: Option<&'a str>,
    version: Option<&'a str>,
}

fn clauses(header: &str) -> impl Iterator<Item = Clause<'_>> {
    header.split(',').map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let mut clause = Clause { media, as_kind: None, group: None, version: None };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "as" => clause.as_kind = Some(value),
                "g" => clause.group = Some(value),
                "v" => clause.version = Some(value),
                _ => {}
            }
        }
        clause
    })
}

fn accept(headers: &HeaderMap) -> &str {
    let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    if text.trim().is_empty() { "*/*" } else { text }
}

fn plain(media: &str) -> Option<Form> {
    match media {
        "application/json" | "application/*" | "*/*" => Some(Form::Json),
        "application/yaml" => Some(Form::Yaml),
        _ => None,
    }
}

/// The first form in the client's list that an object or list can take.
pub(crate) fn object_form(headers: &HeaderMap) -> Result<Form, Status> {
    let chosen = clauses(accept(headers)).find_map(|clause| match clause.as_kind {
        None => plain(clause.media),
        Some(_) if plain(clause.media) != Some(Form::Json) => None,
        Some("Table") if clause.group == Some("meta.k8s.io") => {
            (clause.version == Some("v1")).then_some(Form::Table)
        }
        Some("PartialObjectMetadata" | "PartialObjectMetadataList")
            if clause.group == Some("meta.k8s.io") =>
        {
            (clause.version == Some("v1")).then_some(Form::Metadata)
        }
        Some(_) => None,
    });
    chosen.ok_or_else(not_acceptable)
}

/// The first form in the client's list that `/api` and `/apis` can take.
pub(crate) fn discovery_form(headers: &HeaderMap) -> Form {
    let chosen = clauses(accept(headers)).find_map(|clause| match clause.as_kind {
        None => plain(clause.media),
        Some("APIGroupDiscoveryList") if clause.group == Some("apidiscovery.k8s.io") => {
            match clause.version {
                Some("v2") => Some(Form::Discovery { beta: false }),
                Some("v2beta1") => Some(Form::Discovery { beta: true }),
                _ => None,
            }
        }
        Some(_) => None,
    });
    chosen.unwrap_or(Form::Json)
}

fn not_acceptable() -> Status {
    Status::not_acceptable(BODIES)
}

/// The media types of whole objects.
const BODIES: &[&str] = &["application/json", "application/yaml"];

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyType {
    /// JSON, which is also what an absent header means.
    Json,
    /// YAML.
    Yaml,
}

/// The media type of a request's body, without its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// The encoding of a whole object in a request's body.
pub(crate) fn body_type(headers: &HeaderMap) -> Result<BodyType, Status> {
    match content_type(headers) {
        "" | "application/json" | "*/*" => Ok(BodyType::Json),
        "application/yaml" => Ok(BodyType::Yaml),
        other => Err(unsupported(other, BODIES)),
    }
}

/// The refusal of a body that is written in a way this server does not read.
pub(crate) fn unsupported(given: &str, supported: &[&str]) -> Status {
    let mut status = Status::unsupported_media_type(supported);
    let hint = match given {
        "application/vnd.kubernetes.protobuf" => {
            "; protobuf is not read here: have the client send application/json"
        }
        "application/apply-patch+yaml" => {
            "; server-side apply is not supported: apply without --server-side"
        }
        _ => "",
    };
    status.message = format!("{}; the body was sent as {given:?}{hint}", status.message);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        object_form(&headers).ok()
    }

    #[test]
    fn the_first_form_we_know_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                     application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(table), Some(Form::Table));
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json"), Some(Form::Json));
        assert_eq!(form("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(form("*/*"), Some(Form::Json));
        assert_eq!(form("application/yaml"), Some(Form::Yaml));
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(form(metadata), Some(Form::Metadata));
        assert_eq!(form("application/json;as=Cat;g=meta.k8s.io;v=v1"), None);
    }

    #[test]
    fn discovery_prefers_what_the_client_prefers() {
        let mut headers = HeaderMap::new();
        assert_eq!(discovery_form(&headers), Form::Json);
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                      application/json";
        headers.insert(ACCEPT, accept.parse().unwrap());
        assert_eq!(discovery_form(&headers), Form::Discovery { beta: true });
    }
}
