//! What there is to talk to, generated from the registry of kinds: versions, groups, resources,
//! and schemas. Nothing here changes while a server runs; documents are made when asked for, since
//! clients keep them.

mod aggregated;
mod openapi;
mod resources;

use crate::config::Config;
use crate::http::{Form, Query, Reply, discovery_form, json, reply_typed};
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::http::Route;

/// The version of the API that this server speaks.
pub(crate) const VERSION: &str = "v1.33.0+edged";

/// The answer to `/version`.
pub(crate) fn version() -> String {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", platform()),
    })
    .to_string()
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The documents of one server.
pub(crate) struct Documents {
    address: String,
    /// The documents' names by content; a document itself is made when it is asked for.
    schemas: OnceLock<BTreeMap<String, String>>,
}

impl Documents {
    /// Documents of a server that is reached at this address.
    pub(crate) fn new(config: &Config, port: u16) -> Documents {
        Documents { address: format!("{}:{port}", config.advertised()), schemas: OnceLock::new() }
    }

    /// Answers a discovery path.
    pub(crate) fn answer(
        &self,
        route: &Route,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Reply, Status> {
        match route {
            Route::Root => Ok(json(200, paths().to_string())),
            Route::CoreVersions => Ok(self.versions(headers)),
            Route::Groups => Ok(self.groups(headers)),
            Route::Group(group) => {
                let found = groups().into_iter().find(|(name, _)| name == group);
                let (name, versions) = found.ok_or_else(Status::no_such_path)?;
                let mut group = resources::group(name, &versions);
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                Ok(json(200, group.to_string()))
            }
            Route::Resources(group, version) => {
                let list = resources::list(group, version).ok_or_else(Status::no_such_path)?;
                Ok(json(200, list.to_string()))
            }
            Route::OpenApiV2 => Ok(openapi::v2(headers)),
            Route::OpenApiV3(path) => self.openapi(path, query.get("hash")),
            _ => Err(Status::no_such_path()),
        }
    }

    fn versions(&self, headers: &HeaderMap) -> Reply {
        match discovery_form(headers) {
            Form::Discovery { beta } => aggregated_reply(beta, &[("", vec!["v1"])]),
            _ => {
                let versions = json!({
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [
                        { "clientCIDR": "0.0.0.0/0", "serverAddress": self.address }
                    ],
                });
                json(200, versions.to_string())
            }
        }
    }

    fn groups(&self, headers: &HeaderMap) -> Reply {
        match discovery_form(headers) {
            Form::Discovery { beta } => aggregated_reply(beta, &groups()),
            _ => {
                let groups: Vec<Value> = groups()
                    .iter()
                    .map(|(name, versions)| resources::group(name, versions))
                    .collect();
                let list = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups });
                json(200, list.to_string())
            }
        }
    }

    fn openapi(&self, path: &str, hash: Option<&str>) -> Result<Reply, Status> {
        let hashes = self.schemas.get_or_init(openapi::hashes);
        if path.is_empty() {
            return Ok(json(200, openapi::v3_index(hashes).to_string()));
        }
        let current = hashes.get(path).ok_or_else(Status::no_such_path)?;
        let document = openapi::document_at(path).ok_or_else(Status::no_such_path)?;
        let mut reply = json(200, document.to_string());
        if hash == Some(current) {
            let for_ever = HeaderValue::from_static("public, max-age=31536000, immutable");
            reply.headers_mut().insert(CACHE_CONTROL, for_ever);
        }
        Ok(reply)
    }
}

fn aggregated_reply(beta: bool, groups: &[(&'static str, Vec<&'static str>)]) -> Reply {
    let version = if beta { "v2beta1" } else { "v2" };
    let body = aggregated::list(version, groups).to_string();
    let media = match beta {
        true => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        false => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    };
    reply_typed(media, body)
}

/// The named groups with their versions, sorted.
fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in kinds::served().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(kind.group).or_default();
        if !versions.contains(&kind.version) {
            versions.push(kind.version);
        }
    }
    groups.into_iter().collect()
}

/// The kinds of one group and version.
fn kinds_of(group: &str, version: &str) -> Vec<&'static Kind> {
    kinds::served().filter(|kind| kind.group == group && kind.version == version).collect()
}

fn paths() -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in groups() {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    let rest = ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz"];
    paths.extend(rest.iter().map(|path| (*path).to_owned()));
    paths.push("/version".to_owned());
    json!({ "paths": paths })
}
