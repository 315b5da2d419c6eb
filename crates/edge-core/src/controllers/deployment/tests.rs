//! Whole rollouts against a small model of ReplicaSets and pods: each round's plan is carried
//! out, and the strategy's bounds are checked after every one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::controllers::replicaset;

/// A cluster that does what plans say, at once; pods become Ready one round later.
struct Model {
    view: View,
    now_ms: i64,
    revision: u64,
    made: u64,
    /// Pods whose image is this never become Ready.
    broken: Option<&'static str>,
    /// Deleted pods stay, on their way out.
    lingering: bool,
    events: Vec<String>,
}

impl Model {
    fn new(replicas: i64) -> Model {
        let mut model = Model {
            view: View::default(),
            now_ms: 1_800_000_000_000,
            revision: 1,
            made: 0,
            broken: None,
            lingering: false,
            events: Vec::new(),
        };
        model.put(
            kinds::DEPLOYMENT,
            json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "v1"}]}}}}),
        );
        model
    }

    fn put(&mut self, kind: &'static edge_api::kinds::Kind, mut object: Object) {
        self.revision += 1;
        meta::set(&mut object, "resourceVersion", self.revision.to_string());
        self.view.put(kind, Arc::new(object));
    }

    fn deployment(&self) -> Object {
        self.view.get(kinds::DEPLOYMENT, "a", "web").expect("there").as_ref().clone()
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut deployment = self.deployment();
        change(&mut deployment["spec"]);
        let generation = meta::generation(&deployment) + 1;
        meta::set(&mut deployment, "generation", generation);
        self.put(kinds::DEPLOYMENT, deployment);
    }

    fn image(&mut self, image: &'static str) {
        self.edit(|spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image));
    }

    fn carry_out(&mut self, plan: Plan) {
        for action in plan.actions {
            match action {
                Action::Create { kind, mut object } => {
                    self.made += 1;
                    if meta::name(&object).is_empty() {
                        let name = format!("{}{}", meta::generate_name(&object), self.made);
                        meta::set(&mut object, "name", name);
                    }
                    meta::set(&mut object, "uid", format!("u{}", self.made));
                    meta::set(&mut object, "generation", 1);
                    let stamp = edge_api::time::format(self.now_ms);
                    meta::set(&mut object, "creationTimestamp", stamp);
                    self.put(kind, object);
                }
                Action::Update { kind, object, sub } => {
                    let (ns, name) = (meta::namespace(&object), meta::name(&object));
                    let Some(known) = self.view.get(kind, ns, name) else { continue };
                    let mut next =
                        if sub == "status" { known.as_ref().clone() } else { object.clone() };
                    if sub == "status" {
                        next["metadata"]["annotations"] = object["metadata"]["annotations"].clone();
                    }
                    next["status"] = match sub {
                        "status" => object["status"].clone(),
                        _ => known["status"].clone(),
                    };
                    if next["spec"] != known["spec"] {
                        let generation = meta::generation(known) + 1;
                        meta::set(&mut next, "generation", generation);
                    }
                    self.put(kind, next);
                }
                Action::Delete { kind, namespace, name, .. }
                    if self.lingering && kind == kinds::POD =>
                {
                    let pod = self.view.get(kind, &namespace, &name).expect("a pod");
                    let mut pod = pod.as_ref().clone();
                    meta::set(&mut pod, "deletionTimestamp", "2026-01-01T00:00:00Z");
                    self.put(kind, pod);
                }
                Action::Delete { kind, namespace, name, .. } => {
                    self.view.remove(kind, &namespace, &name, u64::MAX);
                }
                Action::Event { message, .. } => self.events.push(message),
                _ => {}
            }
        }
    }

    /// One round of both controllers, then pods that were made before it become Ready.
    fn round(&mut self) -> bool {
        self.now_ms += 1000;
        let round = Round { now_ms: self.now_ms, seed: 1 };
        let waiting: Vec<Object> = self
            .view
            .list(kinds::POD)
            .filter(|pod| pod["status"].is_null())
            .map(|pod| pod.as_ref().clone())
            .collect();
        let mut busy = !waiting.is_empty();
        let planned = plan(&self.view, &round);
        busy |= !planned.is_empty();
        self.carry_out(planned);
        let planned = replicaset::plan(&self.view, &round);
        busy |= !planned.is_empty();
        self.carry_out(planned);
        for mut pod in waiting {
            let image = pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
            if self.view.get(kinds::POD, "a", meta::name(&pod)).is_none() {
                continue;
            }
            let ready = if image.as_deref() == self.broken { "False" } else { "True" };
            pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready",
                "status": ready, "lastTransitionTime": edge_api::time::format(self.now_ms)}]});
            self.put(kinds::POD, pod);
        }
        busy
    }

    /// Rounds until nothing is left to do. `check` looks at (pods, Ready pods) after each.
    fn settle(&mut self, check: impl Fn(usize, usize)) {
        for _ in 0..60 {
            let busy = self.round();
            let pods = self.view.list(kinds::POD).count();
            let ready =
                self.view.list(kinds::POD).filter(|pod| crate::workload::is_ready(pod)).count();
            check(pods, ready);
            if !busy {
                return;
            }
        }
        panic!("did not settle: {:#}", self.deployment());
    }

    fn images(&self) -> Vec<String> {
        let image = |pod: &Arc<Object>| {
            pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
        };
        self.view.list(kinds::POD).map(image).collect()
    }

    fn progressing(&self) -> String {
        let deployment = self.deployment();
        let condition = crate::workload::condition(&deployment, "Progressing").cloned();
        condition.map_or_else(String::new, |c| c["reason"].as_str().unwrap_or_default().to_owned())
    }
}

#[test]
fn comes_up_and_reports() {
    let mut model = Model::new(3);
    model.settle(|_, _| {});
    let deployment = model.deployment();
    let status = &deployment["status"];
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[field], 3, "{field}: {status:#}");
    }
    assert!(status.get("unavailableReplicas").is_none());
    assert_eq!(model.progressing(), "NewReplicaSetAvailable");
    assert_eq!(meta::annotation(&deployment, REVISION), Some("1"));
    let set = model.view.list(kinds::REPLICA_SET).next().expect("a set").clone();
    let hash = meta::label(&set, HASH_LABEL).expect("a hash").to_owned();
    assert_eq!(meta::name(&set), format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"]["matchLabels"][HASH_LABEL], hash.as_str());
    let up = format!("Scaled up replica set web-{hash} from 0 to 3");
    assert_eq!(model.events, [up]);
}

#[test]
fn a_rolling_update_keeps_within_its_bounds() {
    let mut model = Model::new(4);
    model.settle(|_, _| {});
    model.image("v2");
    model.settle(|pods, ready| {
        assert!(pods <= 5, "surge: {pods} pods");
        assert!(ready >= 3, "unavailable: {ready} ready");
    });
    assert_eq!(model.images(), ["v2"; 4]);
    assert_eq!(model.progressing(), "NewReplicaSetAvailable");
    assert_eq!(meta::annotation(&model.deployment(), REVISION), Some("2"));
}

#[test]
fn a_broken_template_stops_within_its_bounds_and_times_out() {
    let mut model = Model::new(4);
    model.settle(|_, _| {});
    model.broken = Some("v2");
    model.image("v2");
    model.settle(|_, ready| assert!(ready >= 3, "{ready}"));
    assert_ne!(model.progressing(), "NewReplicaSetAvailable");
    model.now_ms += 601_000;
    model.settle(|_, ready| assert!(ready >= 3, "{ready}"));
    assert_eq!(model.progressing(), "ProgressDeadlineExceeded");
    model.image("v1");
    model.settle(|_, ready| assert!(ready >= 3, "{ready}"));
    assert_eq!(model.images(), ["v1"; 4]);
    assert_eq!(meta::annotation(&model.deployment(), REVISION), Some("3"));
    assert_eq!(model.progressing(), "NewReplicaSetAvailable");
}

#[test]
fn recreate_never_runs_both() {
    let mut model = Model::new(3);
    model.edit(|spec| spec["strategy"] = json!({"type": "Recreate"}));
    model.settle(|_, _| {});
    model.image("v2");
    for _ in 0..20 {
        model.round();
        let images = model.images();
        assert!(images.iter().all(|i| *i == images[0]), "{images:?}");
    }
    assert_eq!(model.images(), ["v2"; 3]);
}

#[test]
fn a_singleton_is_never_there_twice_whatever_the_strategy() {
    let mark = |spec: &mut Value, on: bool| {
        let value = json!({"edged.dev/singleton": on.to_string()});
        spec["template"]["metadata"]["annotations"] = value;
    };
    let mut model = Model::new(1);
    model.edit(|spec| mark(spec, true));
    model.settle(|_, _| {});
    model.lingering = true;
    for (image, marked) in [("v2", true), ("v3", false)] {
        model.edit(|spec| mark(spec, marked));
        model.image(image);
        for _ in 0..20 {
            model.round();
            assert_eq!(model.images().len(), 1, "the old one may still run");
            assert_ne!(model.images(), [image]);
        }
        let names: Vec<String> =
            model.view.list(kinds::POD).map(|p| meta::name(p).to_owned()).collect();
        model.view.remove(kinds::POD, "a", &names[0], u64::MAX);
        model.settle(|pods, _| assert!(pods <= 1));
        assert_eq!(model.images(), [image]);
    }
}

#[test]
fn history_is_kept_to_its_limit() {
    let mut model = Model::new(1);
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        model.image(image);
        model.settle(|_, _| {});
    }
    assert_eq!(model.view.list(kinds::REPLICA_SET).count(), 3);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut model = Model::new(2);
    model.settle(|_, _| {});
    model.edit(|spec| spec["paused"] = json!(true));
    model.image("v2");
    model.edit(|spec| spec["replicas"] = json!(3));
    model.settle(|_, _| {});
    assert_eq!(model.images(), ["v1"; 3]);
    model.edit(|spec| spec["paused"] = json!(false));
    model.settle(|_, _| {});
    assert_eq!(model.images(), ["v2"; 3]);
}

#[test]
fn scaling_within_a_rollout_is_shared() {
    let mut model = Model::new(10);
    model.settle(|_, _| {});
    model.broken = Some("v2");
    model.image("v2");
    model.settle(|_, _| {});
    model.edit(|spec| spec["replicas"] = json!(20));
    model.round();
    let sizes: Vec<i64> = model
        .view
        .list(kinds::REPLICA_SET)
        .map(|set| set["spec"]["replicas"].as_i64().unwrap_or(0))
        .collect();
    assert_eq!(sizes.iter().sum::<i64>(), 25, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size > 5), "{sizes:?}");
}

#[test]
fn scale_to_zero_and_back() {
    let mut model = Model::new(3);
    model.settle(|_, _| {});
    model.edit(|spec| spec["replicas"] = json!(0));
    model.settle(|_, _| {});
    assert!(model.images().is_empty());
    model.edit(|spec| spec["replicas"] = json!(2));
    model.settle(|_, _| {});
    assert_eq!(model.images().len(), 2);
}
