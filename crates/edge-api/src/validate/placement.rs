//! Where a pod may run: affinity, tolerations and topology spread.

use serde_json::Value;

use super::{list, meta, needs, needs_one_of, one_of, text};
use crate::field::{Errors, Path};
use crate::names;

/// `affinity` of a pod.
pub(super) fn affinity(affinity: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (node, node_at) = (&affinity["nodeAffinity"], at.child("nodeAffinity"));
    let field = "requiredDuringSchedulingIgnoredDuringExecution";
    if !node[field].is_null() {
        let at = node_at.child(field);
        let at = at.child("nodeSelectorTerms");
        let terms = list(&node[field]["nodeSelectorTerms"]);
        if terms.is_empty() {
            errors.required(&at, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(term, &at.index(index), errors);
        }
    }
    let field = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in list(&node[field]).iter().enumerate() {
        let at = node_at.child(field);
        let at = at.index(index);
        weight(term, &at, errors);
        node_term(&term["preference"], &at.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_terms(&affinity[kind], &at.child(kind), errors);
    }
}

fn weight(term: &Value, at: &Path<'_>, errors: &mut Errors) {
    let weight = term["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, requirement) in list(&term["matchExpressions"]).iter().enumerate() {
        let at = at.child("matchExpressions");
        let at = at.index(index);
        let values = list(&requirement["values"]).len();
        match text(&requirement["operator"]) {
            "In" | "NotIn" if values == 0 => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&at.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&at.child("values"), detail);
            }
            "Gt" | "Lt" if values != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(&at.child("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(&requirement["key"]);
        errors.each(&at.child("key"), key, names::qualified_name(key));
    }
}

fn pod_terms(affinity: &Value, at: &Path<'_>, errors: &mut Errors) {
    let field = "requiredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in list(&affinity[field]).iter().enumerate() {
        pod_term(term, &at.child(field).index(index), errors);
    }
    let field = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in list(&affinity[field]).iter().enumerate() {
        let at = at.child(field);
        let at = at.index(index);
        weight(term, &at, errors);
        pod_term(&term["podAffinityTerm"], &at.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &Value, at: &Path<'_>, errors: &mut Errors) {
    selector(&term["labelSelector"], &at.child("labelSelector"), errors);
    for (index, name) in list(&term["namespaces"]).iter().enumerate() {
        let bad = names::dns1123_label(text(name));
        errors.each(&at.child("namespaces").index(index), name.clone(), bad);
    }
    let key = text(&term["topologyKey"]);
    if key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    } else {
        errors.each(&at.child("topologyKey"), key, names::qualified_name(key));
    }
}

/// A label selector of a spec.
pub(super) fn selector(selector: &Value, at: &Path<'_>, errors: &mut Errors) {
    meta::labels(&selector["matchLabels"], &at.child("matchLabels"), errors);
    for (index, requirement) in list(&selector["matchExpressions"]).iter().enumerate() {
        let at = at.child("matchExpressions");
        let at = at.index(index);
        let values = list(&requirement["values"]);
        match text(&requirement["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&at.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&at.child("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(&requirement["key"]);
        errors.each(&at.child("key"), key, names::qualified_name(key));
        for (index, value) in values.iter().enumerate() {
            let bad = names::label_value(text(value));
            errors.each(&at.child("values").index(index), value.clone(), bad);
        }
    }
}

/// `tolerations` of a pod.
pub(super) fn tolerations(tolerations: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, toleration) in list(tolerations).iter().enumerate() {
        let at = at.index(index);
        let (key, operator) = (text(&toleration["key"]), text(&toleration["operator"]));
        if !key.is_empty() {
            errors.each(&at.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all \
                          values and all keys\"";
            errors.invalid(&at.child("operator"), operator, detail);
        }
        let effect = text(&toleration["effect"]);
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, detail);
        }
        let value = text(&toleration["value"]);
        match operator {
            "" | "Equal" => errors.each(&at.child("operator"), value, names::label_value(value)),
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&at.child("operator"), toleration.clone(), detail);
            }
            "Exists" => {}
            other => errors.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        one_of(errors, &at.child("effect"), &toleration["effect"], &effects);
    }
}

/// `topologySpreadConstraints` of a pod.
pub(super) fn spread(constraints: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, constraint) in list(constraints).iter().enumerate() {
        let at = at.child("topologySpreadConstraints");
        let at = at.index(index);
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = "topologyKey";
        if text(&constraint[key]).is_empty() {
            errors.required(&at.child(key), "can not be empty");
        }
        let field = "whenUnsatisfiable";
        let allowed = ["DoNotSchedule", "ScheduleAnyway"];
        needs_one_of(errors, &at.child(field), &constraint[field], &allowed);
        selector(&constraint["labelSelector"], &at.child("labelSelector"), errors);
    }
}

/// `taints` of a node.
pub(super) fn taints(taints: &Value, at: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in list(taints).iter().enumerate() {
        let at = at.index(index);
        let (key, effect) = (text(&taint["key"]), text(&taint["effect"]));
        errors.each(&at.child("key"), key, names::qualified_name(key));
        let value = text(&taint["value"]);
        errors.each(&at.child("value"), value, names::label_value(value));
        if needs(errors, &at.child("effect"), &taint["effect"]) {
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            one_of(errors, &at.child("effect"), &taint["effect"], &effects);
        }
        if seen.contains(&(key, effect)) {
            errors.duplicate(&at, taint.clone());
        }
        seen.push((key, effect));
    }
}
