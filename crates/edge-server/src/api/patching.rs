//! Patching: a patch is applied to the current object and the result goes the way of an update,
//! again and again while others are faster, unless the patch itself names a revision.

use super::intake::Body;
use super::options::WriteOptions;
use super::{Api, Place, Written};
use crate::auth::Identity;
use edge_api::patch::{self, PatchType};
use edge_api::status::Status;
use edge_api::{Object, kinds::Kind, meta};
use serde_json::Value;

/// A change to an object.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902 operations.
    Json(Value),
    /// An RFC 7386 merge patch.
    Merge(Value),
    /// Kubernetes' strategic merge patch.
    Strategic(Value),
}

impl Patch {
    /// The object with the patch applied.
    pub(crate) fn apply(&self, kind: &Kind, current: &Object) -> Result<Object, Status> {
        match self {
            Patch::Json(operations) => patch::json_patch(current, operations),
            Patch::Merge(change) => patch::apply(kind, PatchType::Merge, current, change),
            Patch::Strategic(change) => patch::strategic_merge(kind, current, change),
        }
    }
}

impl Api {
    /// Patches an object, or the part of it that the place's subresource names.
    pub async fn patch(
        &self,
        who: &Identity,
        place: Place<'_>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.patch_from(who, place, patch, &[], options).await
    }

    pub(crate) async fn patch_from(
        &self,
        who: &Identity,
        place: Place<'_>,
        patch: &Patch,
        doubled: &[String],
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.change(who, place, options, |old| {
            let mut object = patch.apply(place.kind, old)?;
            if !object.is_object() {
                return Err(Status::bad_request("the patched object is not an object"));
            }
            // Only a revision that the patch itself brought is a precondition.
            if meta::resource_version(&object) == meta::resource_version(old) {
                meta::remove(&mut object, "resourceVersion");
            }
            Ok(Body { object, doubled: doubled.to_vec() })
        })
        .await
    }
}
