//! What a caller may ask of a request besides the object itself, typed once for HTTP and for
//! callers in the same process.

use edge_api::Object;
use edge_api::selector::{FieldSelector, LabelSelector};
use edge_api::status::Status;
use std::str::FromStr;

/// What to do about fields that a kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop nothing, say nothing.
    #[default]
    Ignore,
    /// Answer with a warning for each.
    Warn,
    /// Refuse the request.
    Strict,
}

impl FromStr for FieldValidation {
    type Err = Status;

    fn from_str(text: &str) -> Result<FieldValidation, Status> {
        match text {
            "Ignore" => Ok(FieldValidation::Ignore),
            "Warn" => Ok(FieldValidation::Warn),
            "Strict" => Ok(FieldValidation::Strict),
            other => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \
                 \"Warn\", \"Strict\""
            ))),
        }
    }
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Do everything but keep the result.
    pub dry_run: bool,
    /// What to do about unknown fields.
    pub field_validation: FieldValidation,
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected after their owner is gone.
    Background,
    /// The owner goes when they are gone.
    Foreground,
    /// They lose their owner and stay.
    Orphan,
}

impl FromStr for Propagation {
    type Err = Status;

    fn from_str(text: &str) -> Result<Propagation, Status> {
        match text {
            "Background" => Ok(Propagation::Background),
            "Foreground" => Ok(Propagation::Foreground),
            "Orphan" => Ok(Propagation::Orphan),
            other => Err(Status::bad_request(format!(
                "propagationPolicy: Unsupported value: {other:?}: supported values: \
                 \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            ))),
        }
    }
}

/// Options of a delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds that a pod is given to end; absent means what the pod says.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of dependents; absent means in the background.
    pub propagation: Option<Propagation>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only at this revision.
    pub resource_version: Option<String>,
    /// Do everything but keep the result.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Takes what a `DeleteOptions` body says over what is here.
    pub(crate) fn merge(&mut self, body: &Object) -> Result<(), Status> {
        if let Some(seconds) = body.get("gracePeriodSeconds").filter(|v| !v.is_null()) {
            self.grace_period_seconds = Some(seconds.as_i64().ok_or_else(|| {
                Status::bad_request("gracePeriodSeconds: Invalid value: must be an integer")
            })?);
        }
        if let Some(policy) = body["propagationPolicy"].as_str() {
            self.propagation = Some(policy.parse()?);
        } else if let Some(orphan) = body["orphanDependents"].as_bool() {
            self.propagation =
                Some(if orphan { Propagation::Orphan } else { Propagation::Background });
        }
        let text = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        self.uid = text("uid").or(self.uid.take());
        self.resource_version = text("resourceVersion").or(self.resource_version.take());
        self.dry_run |= dry_run(
            body["dryRun"].as_array().into_iter().flatten().map(|v| v.as_str().unwrap_or_default()),
        )?;
        Ok(())
    }
}

/// Reads the values of `dryRun`.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut dry = false;
    for value in values {
        match value {
            "All" => dry = true,
            "" => {}
            other => {
                return Err(Status::bad_request(format!(
                    "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                )));
            }
        }
    }
    Ok(dry)
}

/// At which revision a list is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest.
    #[default]
    Latest,
    /// This one or any newer.
    NotOlderThan(u64),
    /// Exactly this one.
    Exact(u64),
}

/// Options of a list.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Which labels objects must have.
    pub labels: LabelSelector,
    /// Which fields objects must have.
    pub fields: FieldSelector,
    /// How many objects a page has at most; 0 is all.
    pub limit: usize,
    /// The token of the page before.
    pub continue_token: Option<String>,
    /// At which revision.
    pub at: At,
}

impl Default for ListOptions {
    fn default() -> ListOptions {
        ListOptions {
            labels: LabelSelector::everything(),
            fields: FieldSelector::default(),
            limit: 0,
            continue_token: None,
            at: At::Latest,
        }
    }
}

/// Options of a watch.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Which labels objects must have.
    pub labels: LabelSelector,
    /// Which fields objects must have.
    pub fields: FieldSelector,
    /// Changes after this revision; `None` starts with what there is.
    pub from: Option<u64>,
    /// Whether what there is comes first, closed by a bookmark that says so.
    pub initial_events: bool,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// Seconds until the watch ends by itself.
    pub timeout_seconds: Option<u64>,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions {
            labels: LabelSelector::everything(),
            fields: FieldSelector::default(),
            from: None,
            initial_events: false,
            bookmarks: false,
            timeout_seconds: None,
        }
    }
}
