//! Deployments and ReplicaSets: a selector that matches their own pods and never changes, a
//! template that is a good pod, and a rollout that can make progress.

use serde_json::Value;

use super::{immutable, list, not_negative, placement, pod, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::int_or_string::IntOrString;
use crate::selector::LabelSelector;

/// `Deployment`
pub(crate) fn deployment(object: &Object, old: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&object["spec"], Path::new("spec"));
    common(spec, old, "deployment", errors);
    strategy(&spec["strategy"], &at.child("strategy"), errors);
    not_negative(errors, &at.child("revisionHistoryLimit"), &spec["revisionHistoryLimit"]);
    let field = "progressDeadlineSeconds";
    not_negative(errors, &at.child(field), &spec[field]);
    let ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    if let Some(seconds) = spec[field].as_i64().filter(|seconds| *seconds <= ready) {
        errors.invalid(&at.child(field), seconds, "must be greater than minReadySeconds");
    }
}

/// `ReplicaSet`
pub(crate) fn replica_set(object: &Object, old: Option<&Object>, errors: &mut Errors) {
    common(&object["spec"], old, "replica set", errors);
}

fn common(spec: &Value, old: Option<&Object>, kind: &str, errors: &mut Errors) {
    let at = Path::new("spec");
    not_negative(errors, &at.child("replicas"), &spec["replicas"]);
    not_negative(errors, &at.child("minReadySeconds"), &spec["minReadySeconds"]);
    let (selector, selector_at) = (&spec["selector"], at.child("selector"));
    if selector.is_null() {
        errors.required(&selector_at, "");
    } else {
        placement::selector(selector, &selector_at, errors);
        let empty =
            ["matchLabels", "matchExpressions"].iter().all(|field| match &selector[*field] {
                Value::Object(map) => map.is_empty(),
                other => list(other).is_empty(),
            });
        if empty {
            let detail = format!("empty selector is invalid for {kind}");
            errors.invalid(&selector_at, selector.clone(), &detail);
        }
    }
    template(spec, &at.child("template"), errors);
    if let Some(old) = old {
        immutable(errors, &selector_at, selector, &old["spec"]["selector"]);
    }
}

fn template(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let template = &spec["template"];
    if template.is_null() {
        errors.required(at, "");
        return;
    }
    if let Ok(selector) = LabelSelector::from_object(&spec["selector"]) {
        let labels = &template["metadata"]["labels"];
        if !spec["selector"].is_null() && !selector.matches_labels(labels.as_object()) {
            let at = at.child("metadata");
            let detail = "`selector` does not match template `labels`";
            errors.invalid(&at.child("labels"), labels.clone(), detail);
        }
    }
    pod::template(template, at, errors);
    let at = at.child("spec");
    let policy = text(&template["spec"]["restartPolicy"]);
    if !matches!(policy, "" | "Always") {
        errors.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&at.child("activeDeadlineSeconds"), detail);
    }
}

fn strategy(strategy: &Value, at: &Path<'_>, errors: &mut Errors) {
    let rolling = &strategy["rollingUpdate"];
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.forbidden(&at.child("rollingUpdate"), detail);
        }
        "Recreate" => {}
        "RollingUpdate" if rolling.is_null() => {
            let detail = "this should be defaulted and never be nil";
            errors.required(&at.child("rollingUpdate"), detail);
        }
        "RollingUpdate" => rolling_update(rolling, &at.child("rollingUpdate"), errors),
        other => errors.not_supported(&at.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn rolling_update(rolling: &Value, at: &Path<'_>, errors: &mut Errors) {
    let mut zero = true;
    for field in ["maxUnavailable", "maxSurge"] {
        let (value, at) = (&rolling[field], at.child(field));
        match IntOrString::read(value) {
            Some(IntOrString::Int(number)) => {
                not_negative(errors, &at, value);
                zero &= number == 0;
            }
            Some(IntOrString::Text(word)) => {
                let percent = IntOrString::Text(word.clone()).percent();
                zero &= percent == Some(0);
                match percent {
                    None => {
                        let detail = "a valid percent string must be a numeric string followed by \
                                      an ending '%' (e.g. '1%',  or '93%', regex used for \
                                      validation is '[0-9]+%')";
                        errors.invalid(&at, word, detail);
                    }
                    Some(percent) if percent > 100 && field == "maxUnavailable" => {
                        errors.invalid(&at, word, "must not be greater than 100%");
                    }
                    Some(_) => {}
                }
            }
            None => {}
        }
    }
    if zero {
        let value = rolling["maxUnavailable"].clone();
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.invalid(&at.child("maxUnavailable"), value, detail);
    }
}
