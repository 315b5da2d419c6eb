//! The options of requests, named as the Kubernetes API names them.

use crate::query::Query;
use edge_api::Object;
use serde_json::json;

/// Which objects of a collection to list, and how many at a time.
#[derive(Debug, Clone, Default)]
pub struct ListParams {
    /// Only objects with these labels.
    pub label_selector: Option<String>,
    /// Only objects with these fields.
    pub field_selector: Option<String>,
    /// At most this many; 0 is no limit.
    pub limit: u32,
    /// Where the previous page ended.
    pub continue_token: Option<String>,
    /// Not older than this revision.
    pub resource_version: Option<String>,
}

impl ListParams {
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::new();
        query.add_some("labelSelector", self.label_selector.as_deref());
        query.add_some("fieldSelector", self.field_selector.as_deref());
        if self.limit > 0 {
            query.add("limit", &self.limit.to_string());
        }
        query.add_some("continue", self.continue_token.as_deref());
        if let Some(revision) = &self.resource_version {
            query.add("resourceVersion", revision);
            // With a limit and no word about it, servers would take it for exactly this revision.
            query.add("resourceVersionMatch", "NotOlderThan");
        }
        query
    }
}

/// One page of a collection.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// The revision that the page shows; watch from here.
    pub resource_version: String,
    /// The objects, each with its `kind` and `apiVersion`.
    pub items: Vec<Object>,
    /// Present when there is more.
    pub continue_token: Option<String>,
}

/// Which changes to watch.
#[derive(Debug, Clone, Default)]
pub struct WatchParams {
    /// Only objects with these labels.
    pub label_selector: Option<String>,
    /// Only objects with these fields.
    pub field_selector: Option<String>,
    /// Changes after this revision.
    pub resource_version: Option<String>,
    /// The server ends the watch after this many seconds; 0 leaves it to the server.
    pub timeout_seconds: u32,
}

impl WatchParams {
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::new();
        query.add("watch", "true");
        query.add("allowWatchBookmarks", "true");
        query.add_some("labelSelector", self.label_selector.as_deref());
        query.add_some("fieldSelector", self.field_selector.as_deref());
        query.add_some("resourceVersion", self.resource_version.as_deref());
        if self.timeout_seconds > 0 {
            query.add("timeoutSeconds", &self.timeout_seconds.to_string());
        }
        query
    }
}

/// What the server does with fields that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drops them.
    Ignore,
    /// Drops them and warns.
    Warn,
    /// Refuses the object.
    Strict,
}

impl FieldValidation {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        }
    }
}

/// How to write.
#[derive(Debug, Clone, Default)]
pub struct WriteParams {
    /// Check and answer, but store nothing.
    pub dry_run: bool,
    /// Who writes, for `managedFields`.
    pub field_manager: Option<String>,
    /// What to do with unknown fields.
    pub field_validation: Option<FieldValidation>,
}

impl WriteParams {
    /// The parameters as a query string.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        if self.dry_run {
            query.add("dryRun", "All");
        }
        query.add_some("fieldManager", self.field_manager.as_deref());
        query.add_some("fieldValidation", self.field_validation.map(FieldValidation::as_str));
        query
    }
}

/// What happens to an object's dependents when it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

impl Propagation {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
    }
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteParams {
    /// Seconds until a pod is killed; 0 is at once, without waiting for its node.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// Only if the object has this uid.
    pub uid: Option<String>,
    /// Only if the object is at this revision.
    pub resource_version: Option<String>,
    /// Check and answer, but delete nothing.
    pub dry_run: bool,
}

impl DeleteParams {
    /// The `DeleteOptions` object of the request.
    pub fn body(&self) -> Object {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = json!(propagation.as_str());
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = json!(uid);
        }
        if let Some(revision) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = json!(revision);
        }
        if self.dry_run {
            body["dryRun"] = json!(["All"]);
        }
        body
    }
}
