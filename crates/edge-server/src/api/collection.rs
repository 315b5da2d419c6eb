//! Deleting all objects that a selector finds, one after the other: there is no order among them
//! and whoever watches sees each go by itself.

use super::delete::Deleted;
use super::options::{DeleteOptions, ListOptions};
use super::{Api, Place};
use crate::auth::Identity;
use bytes::Bytes;
use edge_api::keys;
use edge_api::kinds::Kind;
use edge_api::status::Status;

impl Api {
    /// Deletes what a list with these options finds; returns the last states.
    pub async fn delete_collection(
        &self,
        who: &Identity,
        kind: &'static Kind,
        namespace: &str,
        which: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Bytes>, Status> {
        let mut gone = Vec::new();
        for entry in self.list(kind, namespace, which)?.entries {
            let Some(parts) = keys::parse(&entry.key) else { continue };
            let place = Place::new(kind, parts.namespace, parts.name);
            match self.delete(who, place, options).await {
                Ok(Deleted::Gone(last) | Deleted::Pending(last)) => gone.push(last.bytes),
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        Ok(gone)
    }
}
