//! A Deployment's ReplicaSets: which one has today's template, which are older, and the
//! changes planned to them, so that later steps of a round see what earlier ones decided.

use std::collections::BTreeMap;

use edge_api::selector::LabelSelector;
use edge_api::{Object, int_or_string, kinds, meta};
use serde_json::{Value, json};

use super::{DESIRED, HASH_LABEL, MAXIMUM, REVISION, say, wanted};
use crate::plan::{Action, Plan};
use crate::view::{Round, View};
use crate::workload::{Condition, number, set_condition, template_hash};

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// The ReplicaSets of one Deployment as they will be when the plan is carried out.
pub(super) struct Sets {
    /// The one with today's template.
    pub new: Option<Object>,
    /// The others, oldest first.
    pub old: Vec<Object>,
}

/// `maxSurge` and `maxUnavailable` as pod counts.
pub(super) fn bounds(deployment: &Object) -> (i64, i64) {
    let strategy = &deployment["spec"]["strategy"];
    if strategy["type"] == "Recreate" {
        return (0, 0);
    }
    let rolling = &strategy["rollingUpdate"];
    let want = wanted(deployment);
    let (surge, unavailable) =
        int_or_string::fenceposts(&rolling["maxSurge"], &rolling["maxUnavailable"], want);
    (surge, unavailable.min(want))
}

/// A set's replicas as its spec has them.
pub(super) fn replicas(set: &Object) -> i64 {
    number(&set["spec"]["replicas"], 0)
}

/// The rollout's number on a ReplicaSet or Deployment; 0 where there is none.
pub(super) fn revision(object: &Object) -> i64 {
    meta::annotation(object, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A template without the label that we add to it: what makes two sets the same.
fn bare_template(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"].get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
    template
}

impl Sets {
    /// Finds and adopts. Nothing when the selector is unusable.
    pub(super) fn find(view: &View, deployment: &Object, plan: &mut Plan) -> Option<Sets> {
        let selector = LabelSelector::from_object(&deployment["spec"]["selector"]).ok()?;
        let mut ours: Vec<Object> = Vec::new();
        for set in view.within(kinds::REPLICA_SET, meta::namespace(deployment)) {
            match meta::controller(set) {
                Some(owner) if owner.uid == meta::uid(deployment) => {
                    ours.push(set.as_ref().clone());
                }
                None if selector.matches(set)
                    && !meta::is_deleting(set)
                    && !meta::is_deleting(deployment) =>
                {
                    let mut set = set.as_ref().clone();
                    let reference = meta::controller_reference(deployment);
                    meta::set(&mut set, "ownerReferences", json!([reference]));
                    plan.push(Action::update(kinds::REPLICA_SET, set.clone()));
                    ours.push(set);
                }
                _ => {}
            }
        }
        ours.sort_by(|a, b| {
            let key = |o: &Object| (meta::created_ms(o), meta::name(o).to_owned());
            key(a).cmp(&key(b))
        });
        let template = bare_template(&deployment["spec"]["template"]);
        let at = ours.iter().position(|set| bare_template(&set["spec"]["template"]) == template);
        let new = at.map(|at| ours.remove(at));
        Some(Sets { new, old: ours })
    }

    /// All sets, the new one last.
    pub(super) fn all(&self) -> impl Iterator<Item = &Object> {
        self.old.iter().chain(&self.new)
    }

    /// Pods that the specs ask for, in all.
    pub(super) fn total(&self) -> i64 {
        self.all().map(replicas).sum()
    }

    /// Pods that are available, in all.
    pub(super) fn available(&self) -> i64 {
        self.all().map(|set| number(&set["status"]["availableReplicas"], 0)).sum()
    }

    /// Gives the new set, if there is one, the number it should have, and the Deployment too.
    pub(super) fn adjust_revisions(&mut self, deployment: &mut Object, plan: &mut Plan) {
        let next = self.old.iter().map(revision).max().unwrap_or(0) + 1;
        let Some(set) = &mut self.new else { return };
        let before = set.clone();
        inherit(deployment, set);
        if revision(set) < next {
            let history = meta::annotation(set, "deployment.kubernetes.io/revision-history");
            let old = revision(set);
            if old > 0 {
                let history = history.map_or(old.to_string(), |h| format!("{h},{old}"));
                meta::set_annotation(set, "deployment.kubernetes.io/revision-history", &history);
            }
            meta::set_annotation(set, REVISION, &next.to_string());
        }
        let min_ready = &deployment["spec"]["minReadySeconds"];
        if number(min_ready, 0) != number(&set["spec"]["minReadySeconds"], 0) {
            set["spec"]["minReadySeconds"] = min_ready.clone();
        }
        if *set != before {
            plan.push(Action::update(kinds::REPLICA_SET, set.clone()));
        }
        let number = revision(set);
        if revision(deployment) != number {
            // It goes out with the status: an update of the object would be a new generation.
            meta::set_annotation(deployment, REVISION, &number.to_string());
        }
    }

    /// Makes sure that a set with today's template exists. False when it was only now asked for:
    /// it has no uid and revision yet, so the rest waits for the next round.
    pub(super) fn ensure_new(
        &mut self,
        deployment: &mut Object,
        round: &Round,
        plan: &mut Plan,
    ) -> bool {
        if self.new.is_some() {
            self.adjust_revisions(deployment, plan);
            return true;
        }
        let next = self.old.iter().map(revision).max().unwrap_or(0) + 1;
        let set = self.first(deployment, next);
        let name = meta::name(&set).to_owned();
        let count = replicas(&set);
        plan.push(Action::Create { kind: kinds::REPLICA_SET, object: set });
        if count > 0 {
            let text = format!("Scaled up replica set {name} from 0 to {count}");
            plan.push(say(deployment, "ScalingReplicaSet", text));
        }
        let message = format!("Created new replica set \"{name}\"");
        let kind = "Progressing";
        let reason = "NewReplicaSetCreated";
        let condition = Condition { kind, status: "True", reason, message: &message };
        set_condition(&mut deployment["status"], condition, round.now_ms, true);
        meta::set_annotation(deployment, REVISION, &next.to_string());
        false
    }

    /// Today's set before it exists, with as many replicas as the strategy lets it begin with.
    fn first(&self, deployment: &Object, next: i64) -> Object {
        let collisions = number(&deployment["status"]["collisionCount"], 0);
        let template = bare_template(&deployment["spec"]["template"]);
        let hash = template_hash(&template, collisions);
        let mut template = deployment["spec"]["template"].clone();
        meta::set_label(&mut template, HASH_LABEL, &hash);
        let mut selector = deployment["spec"]["selector"].clone();
        meta::ensure(&mut selector, "matchLabels").insert(HASH_LABEL.into(), json!(hash));
        let mut set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", meta::name(deployment)),
                "namespace": meta::namespace(deployment),
                "labels": template["metadata"]["labels"],
                "ownerReferences": [meta::controller_reference(deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        });
        if let Some(seconds) = deployment["spec"].get("minReadySeconds") {
            set["spec"]["minReadySeconds"] = seconds.clone();
        }
        set["spec"]["replicas"] = json!(super::rolling::new_replicas(deployment, self.total(), 0));
        inherit(deployment, &mut set);
        remember(deployment, &mut set);
        meta::set_annotation(&mut set, REVISION, &next.to_string());
        set
    }

    /// Scales the new set, if that changes anything.
    pub(super) fn scale_new_to(&mut self, deployment: &Object, count: i64, plan: &mut Plan) {
        if let Some(set) = &mut self.new {
            scale(deployment, set, count, plan);
        }
    }

    /// Scales an old set, if that changes anything.
    pub(super) fn scale_old_to(
        &mut self,
        deployment: &Object,
        at: usize,
        count: i64,
        plan: &mut Plan,
    ) {
        scale(deployment, &mut self.old[at], count, plan);
    }
}

/// Notes the counts that the next scaling is told from.
fn remember(deployment: &Object, set: &mut Object) {
    let want = wanted(deployment);
    meta::set_annotation(set, DESIRED, &want.to_string());
    meta::set_annotation(set, MAXIMUM, &(want + bounds(deployment).0).to_string());
}

/// Sets what a ReplicaSet takes from its Deployment's metadata.
fn inherit(deployment: &Object, set: &mut Object) {
    let mut wanted_annotations: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in meta::annotations(deployment).into_iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) {
            wanted_annotations.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
        }
    }
    for (key, value) in wanted_annotations {
        if meta::annotation(set, &key) != Some(value.as_str()) {
            meta::set_annotation(set, &key, &value);
        }
    }
}

fn scale(deployment: &Object, set: &mut Object, count: i64, plan: &mut Plan) {
    let before = set.clone();
    let old = replicas(set);
    set["spec"]["replicas"] = json!(count);
    remember(deployment, set);
    if *set == before {
        return;
    }
    // An update planned earlier in this round is replaced: two would conflict.
    let uid = meta::uid(set).to_owned();
    plan.actions.retain(|action| {
        !matches!(action, Action::Update { object, sub: "", .. } if meta::uid(object) == uid)
    });
    plan.push(Action::update(kinds::REPLICA_SET, set.clone()));
    if old != count {
        let way = if count > old { "up" } else { "down" };
        let name = meta::name(set);
        let text = format!("Scaled {way} replica set {name} from {old} to {count}");
        plan.push(say(deployment, "ScalingReplicaSet", text));
    }
}
