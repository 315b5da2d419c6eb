//! Query parameters read into the typed options of the API's methods.

use super::query::Query;
use crate::api::dry_run;
use crate::api::{At, DeleteOptions, FieldValidation, ListOptions, WatchOptions, WriteOptions};
use edge_api::kinds::Kind;
use edge_api::selector::{FieldSelector, LabelSelector};
use edge_api::status::Status;

/// Options of create, update and patch.
pub(super) fn write(query: &Query) -> Result<WriteOptions, Status> {
    let field_validation = match query.get("fieldValidation") {
        // What Kubernetes does when nothing is asked for.
        None => FieldValidation::Warn,
        Some(text) => text.parse()?,
    };
    Ok(WriteOptions { dry_run: dry_run(query.all("dryRun"))?, field_validation })
}

/// Options of a delete, as far as they are in the query.
pub(super) fn delete(query: &Query) -> Result<DeleteOptions, Status> {
    let seconds = query.number("gracePeriodSeconds")?;
    let mut options = DeleteOptions {
        grace_period_seconds: seconds.map(|s| i64::try_from(s).unwrap_or(i64::MAX)),
        dry_run: dry_run(query.all("dryRun"))?,
        ..DeleteOptions::default()
    };
    if let Some(policy) = query.get("propagationPolicy") {
        options.propagation = Some(policy.parse()?);
    }
    Ok(options)
}

/// The selectors of a list or watch.
pub(super) fn selectors(
    kind: &Kind,
    query: &Query,
) -> Result<(LabelSelector, FieldSelector), Status> {
    let labels = match query.get("labelSelector") {
        None => LabelSelector::everything(),
        Some(text) => {
            LabelSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?
        }
    };
    let fields = match query.get("fieldSelector") {
        None => FieldSelector::default(),
        Some(text) => FieldSelector::parse_for(kind, text)
            .map_err(|error| Status::bad_request(error.to_string()))?,
    };
    Ok((labels, fields))
}

fn revision(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!("resourceVersion: Invalid value: {text:?}: must be a number"))
    })
}

fn refused(parameter: &str, why: &str) -> Status {
    Status::bad_request(format!("{parameter}: Forbidden: {why}"))
}

/// Whether a read must show every write that was acknowledged before it: a get or list that names
/// no revision, the next page of a list that another server may have begun, or a revision that
/// this server has not reached yet.
pub(super) fn wants_latest(query: &Query, reached: u64) -> bool {
    match query.get("resourceVersion").unwrap_or_default() {
        "" => !query.flag("watch").unwrap_or(false),
        text => text.parse().is_ok_and(|revision: u64| revision > reached),
    }
}

/// Options of a list.
pub(super) fn list(kind: &Kind, query: &Query) -> Result<ListOptions, Status> {
    let (labels, fields) = selectors(kind, query)?;
    let limit = query.number("limit")?.unwrap_or(0);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let revision = revision(query)?;
    let continue_token = query.get("continue").map(str::to_owned);
    let matching = query.get("resourceVersionMatch");
    if matching.is_some() && continue_token.is_some() {
        let why = "resourceVersionMatch is forbidden for continue";
        return Err(refused("resourceVersionMatch", why));
    }
    let at = match (matching, revision) {
        (Some(_), None) => {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(refused("resourceVersionMatch", why));
        }
        (Some("Exact"), Some(0)) => {
            let why = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
            return Err(refused("resourceVersionMatch", why));
        }
        (Some("Exact"), Some(revision)) => At::Exact(revision),
        (Some("NotOlderThan"), Some(revision)) => At::NotOlderThan(revision),
        (Some(other), _) => {
            return Err(Status::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \
                 \"Exact\", \"NotOlderThan\""
            )));
        }
        (None, Some(revision)) if continue_token.is_some() && revision > 0 => {
            let why = "specifying resource version is not allowed when using continue";
            return Err(refused("resourceVersion", why));
        }
        (None, None | Some(0)) => At::Latest,
        (None, Some(revision)) if limit > 0 => At::Exact(revision),
        (None, Some(revision)) => At::NotOlderThan(revision),
    };
    Ok(ListOptions { labels, fields, limit, continue_token, at })
}

/// Options of a watch.
pub(super) fn watch(kind: &Kind, query: &Query) -> Result<WatchOptions, Status> {
    let (labels, fields) = selectors(kind, query)?;
    let from = revision(query)?.filter(|revision| *revision > 0);
    let bookmarks = query.flag("allowWatchBookmarks")?;
    let initial_events = query.flag("sendInitialEvents")?;
    let matching = query.get("resourceVersionMatch");
    if initial_events && matching != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(refused("resourceVersionMatch", why));
    }
    if !initial_events && matching.is_some() && query.get("sendInitialEvents").is_none() {
        let why =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(refused("resourceVersionMatch", why));
    }
    let timeout_seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    Ok(WatchOptions { labels, fields, from, initial_events, bookmarks, timeout_seconds })
}
