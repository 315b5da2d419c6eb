//! `/scale`: the number of replicas of a Deployment or ReplicaSet, seen as an
//! `autoscaling/v1` Scale.

use super::intake::Body;
use super::options::WriteOptions;
use super::{Api, Patch, Place, Written, read_object};
use crate::auth::Identity;
use edge_api::Object;
use edge_api::selector::LabelSelector;
use edge_api::status::Status;
use serde_json::{Value, json};

/// The Scale of an object.
pub(crate) fn scale_of(object: &Object) -> Object {
    let metadata = &object["metadata"];
    let mut shown = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        shown[field] = metadata[field].clone();
    }
    let mut status = json!({ "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) });
    if let Ok(selector) = LabelSelector::from_object(&object["spec"]["selector"]) {
        status["selector"] = Value::from(selector.to_string());
    }
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": shown,
        "spec": { "replicas": object["spec"]["replicas"].as_i64().unwrap_or(0) },
        "status": status,
    })
}

impl Api {
    /// Replaces the Scale of an object; the outcome is the Scale.
    pub(crate) async fn update_scale(
        &self,
        who: &Identity,
        place: Place<'_>,
        scale: Object,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.change_scale(who, place, options, |_| Ok(scale.clone())).await
    }

    /// Patches the Scale of an object; the outcome is the Scale.
    pub(crate) async fn patch_scale(
        &self,
        who: &Identity,
        place: Place<'_>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.change_scale(who, place, options, |current| patch.apply(place.kind, current)).await
    }

    async fn change_scale(
        &self,
        who: &Identity,
        place: Place<'_>,
        options: &WriteOptions,
        edit: impl Fn(&Object) -> Result<Object, Status>,
    ) -> Result<Written, Status> {
        let whole = Place { sub: "", ..place };
        let outcome = self
            .change(who, whole, options, |old| {
                let scale = edit(&scale_of(old))?;
                check_scale(place, &scale)?;
                let mut object = old.clone();
                object["spec"]["replicas"] = scale["spec"]["replicas"].clone();
                object["metadata"]["resourceVersion"] =
                    scale["metadata"]["resourceVersion"].clone();
                Ok(Body::from(object))
            })
            .await?;
        let object = scale_of(&outcome.object);
        let bytes = object.to_string().into();
        Ok(Written { object, bytes, warnings: outcome.warnings })
    }

    /// The Scale of an object.
    pub(crate) fn scale(&self, place: Place<'_>) -> Result<Object, Status> {
        Ok(scale_of(&read_object(&self.get(place)?.value)?))
    }
}

fn check_scale(place: Place<'_>, scale: &Object) -> Result<(), Status> {
    let expected = [("apiVersion", "autoscaling/v1"), ("kind", "Scale")];
    for (field, want) in expected {
        let given = scale[field].as_str().unwrap_or_default();
        if !given.is_empty() && given != want {
            return Err(Status::bad_request(format!(
                "the {field} in the data ({given}) does not match the expected one ({want})"
            )));
        }
    }
    let name = scale["metadata"]["name"].as_str().unwrap_or_default();
    if name != place.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            place.name
        )));
    }
    match &scale["spec"]["replicas"] {
        Value::Number(number) if number.as_i64().is_some_and(|n| n >= 0) => Ok(()),
        Value::Number(number) => {
            let mut errors = edge_api::field::Errors::new();
            let spec = edge_api::field::Path::new("spec");
            let detail = "must be greater than or equal to 0";
            errors.invalid(&spec.child("replicas"), Value::Number(number.clone()), detail);
            let mut status = Status::invalid(place.kind, place.name, &errors.into_vec());
            status.message =
                status.message.replacen(&place.kind.qualified_kind(), "Scale.autoscaling", 1);
            Err(status)
        }
        _ => Err(Status::bad_request("spec.replicas of a Scale must be a number")),
    }
}
