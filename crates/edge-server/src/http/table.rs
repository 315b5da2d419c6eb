//! Tables for people: `kubectl get` shows the columns that the server chooses.

use super::encode::partial;
use super::query::Query;
use crate::api::now_ms;
use edge_api::Object;
use edge_api::kinds::Kind;
use edge_api::status::Status;
use serde_json::{Value, json};

/// What a row carries besides its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// Reads `includeObject`.
pub(super) fn include(query: &Query) -> Result<Include, Status> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(Status::bad_request(format!(
            "unrecognized includeObject value: {other:?}: supported values: \"None\", \
             \"Metadata\", \"Object\""
        ))),
    }
}

/// The table of these objects.
pub(super) fn table(
    kind: &Kind,
    metadata: Value,
    objects: impl IntoIterator<Item = Object>,
    include: Include,
) -> Value {
    let now = edge_api::time::stamp(now_ms());
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = kind.row(&object, now);
            let carried = match include {
                Include::None => Value::Null,
                Include::Metadata => partial(&object),
                Include::Object => object,
            };
            json!({ "cells": cells, "object": carried })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": kind.column_definitions(),
        "rows": rows,
    })
}
