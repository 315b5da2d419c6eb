//! Writing objects, lists and watch events in the form that was negotiated. In the plain form the
//! stored bytes go out as they are.

use super::body::{Pieces, ReplyBody};
use super::negotiate::Form;
use super::outline;
use super::reply::{self, Reply};
use super::table::{self, Include};
use crate::api::{Page, WatchItem, read_object};
use bytes::Bytes;
use edge_api::Object;
use edge_api::kinds::Kind;
use edge_api::status::Status;
use edge_store::Revision;
use serde_json::{Map, Value, json};

/// How objects of a kind are to be written.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    pub(super) kind: &'static Kind,
    pub(super) form: Form,
    /// What rows of a table carry besides their cells.
    pub(super) include: Include,
}

impl Writer {
    /// One object as an answer.
    pub(super) fn object(&self, code: u16, bytes: Bytes) -> Result<Reply, Status> {
        Ok(match self.form {
            Form::Yaml => {
                let text =
                    serde_yaml::to_string(&read_object(&bytes)?).map_err(Status::internal)?;
                reply::reply(code, "application/yaml", ReplyBody::of(text))
            }
            _ => reply::json(code, self.shape(bytes)?),
        })
    }

    /// One object's bytes in this form.
    fn shape(&self, bytes: Bytes) -> Result<Bytes, Status> {
        Ok(match self.form {
            Form::Table => {
                let object = read_object(&bytes)?;
                let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                table::table(self.kind, metadata, [object], self.include).to_string().into()
            }
            Form::Metadata => partial(&read_object(&bytes)?).to_string().into(),
            Form::Outline => outline::of(&read_object(&bytes)?).to_string().into(),
            _ => bytes,
        })
    }

    /// A list as an answer.
    pub(super) fn list(&self, page: Page) -> Result<Reply, Status> {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), Value::from(page.revision.to_string()));
        if let Some(token) = page.continue_token {
            metadata.insert("continue".into(), Value::from(token));
        }
        if let Some(remaining) = page.remaining.filter(|remaining| *remaining > 0) {
            metadata.insert("remainingItemCount".into(), Value::from(remaining));
        }
        let metadata = Value::Object(metadata);
        let items = page.entries.into_iter().map(|entry| entry.value);
        match self.form {
            Form::Table => {
                let objects = items.map(|item| read_object(&item));
                let objects = objects.collect::<Result<Vec<Object>, Status>>()?;
                let table = table::table(self.kind, metadata, objects, self.include);
                Ok(reply::json(200, table.to_string()))
            }
            Form::Metadata => {
                let kind = ("PartialObjectMetadataList", "meta.k8s.io/v1");
                let items = items.map(|item| {
                    read_object(&item).map(|object| Bytes::from(partial(&object).to_string()))
                });
                let items = items.collect::<Result<Vec<Bytes>, Status>>()?;
                Ok(whole_list(kind, &metadata, items))
            }
            Form::Outline => {
                let version = self.kind.api_version();
                let items = items.map(|item| self.shape(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(whole_list((self.kind.list_kind, &version), &metadata, items))
            }
            Form::Yaml => {
                let items = items.map(|item| read_object(&item));
                let items = items.collect::<Result<Vec<Object>, Status>>()?;
                let list = json!({
                    "apiVersion": self.kind.api_version(), "kind": self.kind.list_kind,
                    "metadata": metadata, "items": items,
                });
                let text = serde_yaml::to_string(&list).map_err(Status::internal)?;
                Ok(reply::reply(200, "application/yaml", ReplyBody::of(text)))
            }
            _ => {
                let version = self.kind.api_version();
                Ok(whole_list((self.kind.list_kind, &version), &metadata, items))
            }
        }
    }

    /// One watch event, as a line.
    pub(super) fn event(&self, item: WatchItem) -> Result<Pieces, Status> {
        let (kind, object) = match item {
            WatchItem::Added(bytes) => ("ADDED", self.shape(bytes)?),
            WatchItem::Modified(bytes) => ("MODIFIED", self.shape(bytes)?),
            WatchItem::Deleted(bytes) => ("DELETED", self.shape(bytes)?),
            WatchItem::Error(status) => ("ERROR", status.to_json().to_string().into()),
            WatchItem::Bookmark { revision, initial_end } => {
                ("BOOKMARK", self.bookmark(revision, initial_end).to_string().into())
            }
        };
        let mut line = Pieces::default();
        line.push(format!("{{\"type\":\"{kind}\",\"object\":"));
        line.push(object);
        line.push(Bytes::from_static(b"}\n"));
        Ok(line)
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Value {
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if self.form == Form::Table {
            return table::table(self.kind, metadata, [], self.include);
        }
        metadata["creationTimestamp"] = Value::Null;
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (kind, version) = match self.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            _ => (self.kind.kind, self.kind.api_version()),
        };
        json!({ "kind": kind, "apiVersion": version, "metadata": metadata })
    }
}

/// The metadata of an object alone.
pub(super) fn partial(object: &Object) -> Object {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A list whose items are given as bytes.
fn whole_list(
    (kind, version): (&str, &str),
    metadata: &Value,
    items: impl IntoIterator<Item = Bytes>,
) -> Reply {
    let mut pieces = Pieces::default();
    pieces.push(format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    ));
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(item);
    }
    pieces.push(Bytes::from_static(b"]}"));
    reply::reply(200, "application/json", ReplyBody::Whole(pieces))
}

/// The list of what a deletecollection took.
pub(super) fn deleted(kind: &Kind, revision: Revision, items: Vec<Bytes>) -> Reply {
    let metadata = json!({ "resourceVersion": revision.to_string() });
    whole_list((kind.list_kind, &kind.api_version()), &metadata, items)
}
