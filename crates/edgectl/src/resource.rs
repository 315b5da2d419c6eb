//! What a word like `deploy` or `pods.v1` means: a row of our own registry, or else what the
//! server's discovery says, so that kinds which only the server knows work too.

use crate::fault::Fault;
use edge_api::Object;
use edge_api::kinds::{self, Kind};
use edge_client::query::object_path;
use edge_client::{Call, Client};

/// A kind of object, as far as a client has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
}

impl From<&Kind> for Resource {
    fn from(kind: &Kind) -> Resource {
        Resource {
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            kind: kind.kind.to_string(),
            plural: kind.plural.to_string(),
            singular: kind.singular.to_string(),
            namespaced: kind.namespaced,
        }
    }
}

impl Resource {
    /// Our own row for it, if there is one.
    pub(crate) fn known(&self) -> Option<&'static Kind> {
        kinds::by_kind(&self.group, &self.version, &self.kind)
    }

    /// `apps/v1`, or `v1` for the core group.
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployment.apps`, or `pod` for the core group.
    pub(crate) fn singular_name(&self) -> String {
        with_group(&self.singular, &self.group)
    }

    /// `deployments.apps`, or `pods` for the core group.
    pub(crate) fn plural_name(&self) -> String {
        with_group(&self.plural, &self.group)
    }

    /// The path of the collection (empty `name`), an object or a subresource.
    pub(crate) fn path(&self, namespace: &str, name: &str, sub: Option<&str>) -> String {
        let namespace = if self.namespaced { namespace } else { "" };
        object_path(&self.group, &self.version, &self.plural, namespace, name, sub)
    }
}

fn with_group(word: &str, group: &str) -> String {
    if group.is_empty() { word.to_string() } else { format!("{word}.{group}") }
}

/// The kind that a word typed by a person names.
pub(crate) async fn by_name(client: &Client, word: &str) -> Result<Resource, Fault> {
    if let Some(kind) = kinds::by_name(word) {
        return Ok(Resource::from(kind));
    }
    let lower = word.to_ascii_lowercase();
    let (name, group) = lower.split_once('.').unwrap_or((&lower, ""));
    for found in discover(client).await? {
        let named = found.resource.plural == name
            || found.resource.singular == name
            || found.resource.kind.eq_ignore_ascii_case(name)
            || found.short_names.iter().any(|short| short == name);
        let full = format!("{}.{}", found.resource.version, found.resource.group);
        if named && (group.is_empty() || group == found.resource.group || group == full) {
            return Ok(found.resource);
        }
    }
    Err(Fault::text(format!("the server doesn't have a resource type {word:?}")))
}

/// The kinds that a word like `all` stands for.
pub(crate) fn category(word: &str) -> Vec<Resource> {
    kinds::by_category(word).map(Resource::from).collect()
}

/// The kind that an object says it is.
pub(crate) async fn of_object(client: &Client, object: &Object) -> Result<Resource, Fault> {
    let api_version = object["apiVersion"].as_str().unwrap_or("");
    let kind = object["kind"].as_str().unwrap_or("");
    let (group, version) = kinds::split_api_version(api_version);
    if let Some(known) = kinds::by_kind(group, version, kind) {
        return Ok(Resource::from(known));
    }
    let found = match group_resources(client, group, version).await {
        Ok(found) => found,
        Err(fault) if fault.is_not_found() => Vec::new(),
        Err(fault) => return Err(fault),
    };
    let found = found.into_iter().find(|found| found.resource.kind == kind);
    found.map(|found| found.resource).ok_or_else(|| {
        Fault::text(format!("no matches for kind {kind:?} in version {api_version:?}"))
    })
}

/// One entry of discovery.
#[derive(Debug, Clone)]
pub(crate) struct Discovered {
    pub(crate) resource: Resource,
    pub(crate) short_names: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) categories: Vec<String>,
}

/// Everything that the server serves, each group in the version it prefers.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Discovered>, Fault> {
    let mut all = group_resources(client, "", "v1").await?;
    let groups = client.call(&Call::get("/apis")).await?.object;
    for group in groups["groups"].as_array().into_iter().flatten() {
        let name = group["name"].as_str().unwrap_or("");
        let preferred = group["preferredVersion"]["version"].as_str();
        let version = preferred.or(group["versions"][0]["version"].as_str()).unwrap_or("v1");
        all.extend(group_resources(client, name, version).await?);
    }
    Ok(all)
}

async fn group_resources(
    client: &Client,
    group: &str,
    version: &str,
) -> Result<Vec<Discovered>, Fault> {
    let path = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let answer = client.call(&Call::get(path)).await?.object;
    let words = |value: &Object| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|word| word.as_str().map(str::to_string)).collect()
    };
    let text = |value: &Object| value.as_str().unwrap_or("").to_string();
    let mut found = Vec::new();
    for entry in answer["resources"].as_array().into_iter().flatten() {
        let plural = text(&entry["name"]);
        if plural.contains('/') {
            continue;
        }
        let kind = text(&entry["kind"]);
        let singular = text(&entry["singularName"]);
        let singular = if singular.is_empty() { kind.to_ascii_lowercase() } else { singular };
        found.push(Discovered {
            resource: Resource {
                group: group.to_string(),
                version: version.to_string(),
                namespaced: entry["namespaced"].as_bool().unwrap_or(false),
                kind,
                plural,
                singular,
            },
            short_names: words(&entry["shortNames"]),
            verbs: words(&entry["verbs"]),
            categories: words(&entry["categories"]),
        });
    }
    Ok(found)
}
