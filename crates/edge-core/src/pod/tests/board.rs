//! The board of the mind: carries a plan's actions out at once, by script.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::pod::{
    Action, Desired, Observation, ObservedPod, Plan, ProbeKind, Run, RunState, StartFailure, plan,
    plan_off, probe, status,
};

/// A pod on its board, with the script of how the board behaves.
pub(super) struct Board {
    pub(super) desired: Desired,
    pub(super) observed: ObservedPod,
    pub(super) now: i64,
    /// Every action begun, in words.
    pub(super) log: Vec<String>,
    /// Images that can't be pulled: reason and message.
    pub(super) bad_images: BTreeMap<String, (String, String)>,
    /// Containers that can't be started.
    pub(super) bad_starts: BTreeMap<String, (StartFailure, String)>,
    /// Answers of probes, by container and kind.
    pub(super) answers: BTreeMap<(String, ProbeKind), bool>,
    /// Containers that ignore the stop signal.
    pub(super) deaf: bool,
    /// Volumes can't be set up.
    pub(super) bad_volumes: Option<String>,
    /// Hooks never return.
    pub(super) stuck_hooks: bool,
    /// The board goes off.
    pub(super) off: bool,
    pub(super) done: bool,
}

/// A pod named `web` with the given spec.
pub(super) fn pod(spec: Value) -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u1" },
        "spec": spec,
    })
}

pub(super) fn one(policy: &str, container: Value) -> Value {
    let mut all = json!({ "name": "app", "image": "app:1" });
    for (key, value) in container.as_object().unwrap() {
        all[key.as_str()] = value.clone();
    }
    pod(json!({ "restartPolicy": policy, "containers": [all] }))
}

impl Board {
    pub(super) fn new(pod: Value) -> Board {
        Board {
            desired: Desired::new(serde_json::from_value(pod).unwrap()),
            observed: ObservedPod {
                start_time_ms: Some(0),
                host_ips: vec!["192.168.0.2".into()],
                ..ObservedPod::default()
            },
            now: 0,
            log: Vec::new(),
            bad_images: BTreeMap::new(),
            bad_starts: BTreeMap::new(),
            answers: BTreeMap::new(),
            deaf: false,
            bad_volumes: None,
            stuck_hooks: false,
            off: false,
            done: false,
        }
    }

    /// Replaces the desired side.
    pub(super) fn desire(&mut self, pod: Value) {
        self.desired = Desired::new(serde_json::from_value(pod).unwrap());
    }

    /// Plans and carries out until nothing is left to do at this instant.
    pub(super) fn settle(&mut self) -> Plan {
        for _ in 0..100 {
            let next = if self.off { plan_off } else { plan };
            let plan = next(&self.desired, &self.observed, self.now);
            self.done |= plan.done;
            if plan.actions.is_empty() {
                if let Some(at) = plan.wake_at_ms {
                    assert!(at > self.now, "a plan must not wake itself at once: {plan:?}");
                }
                return plan;
            }
            for action in &plan.actions {
                self.observed.begin(action, self.now);
            }
            for action in plan.actions {
                self.log.push(words(&action));
                self.carry_out(action);
            }
            self.report();
        }
        panic!("never settles: {:?}", self.log);
    }

    /// Lets time pass to `until`, settling at every wake.
    pub(super) fn pass(&mut self, until: i64) {
        loop {
            let plan = self.settle();
            match plan.wake_at_ms {
                Some(at) if at <= until => self.now = at,
                _ => break,
            }
        }
        self.now = until;
        self.settle();
        self.report();
    }

    fn report(&mut self) {
        self.observed.reported = status(&self.desired, &self.observed, self.now);
    }

    pub(super) fn tell(&mut self, observation: Observation) {
        self.observed.apply(observation, self.now);
    }

    pub(super) fn exit(&mut self, container: &str, code: i32) {
        let id = self.observed.containers[container].last().unwrap().id.clone();
        self.exit_run(id, code);
    }

    fn exit_run(&mut self, id: String, code: i32) {
        let state = RunState::Ended {
            code,
            signal: (code > 128).then_some(code - 128),
            finished_ms: self.now,
            oom_killed: false,
            start_error: None,
            message: None,
        };
        self.tell(Observation::Exited { id, state });
    }

    pub(super) fn status(&self) -> Value {
        status(&self.desired, &self.observed, self.now)
    }

    /// Phase, and each container in short: `app:running/1/ready`.
    pub(super) fn brief(&self) -> String {
        let status = self.status();
        let mut out = status["phase"].as_str().unwrap().to_owned();
        for key in ["initContainerStatuses", "containerStatuses"] {
            for c in status[key].as_array().into_iter().flatten() {
                let (state, detail) = c["state"].as_object().unwrap().iter().next().unwrap();
                let reason = detail["reason"].as_str().unwrap_or(state);
                let ready = if c["ready"] == true { "/ready" } else { "" };
                let name = c["name"].as_str().unwrap();
                out += &format!(" {name}:{reason}/{}{ready}", c["restartCount"]);
            }
        }
        out
    }

    pub(super) fn condition(&self, kind: &str) -> (String, String, String) {
        let status = self.status();
        let list = status["conditions"].as_array().unwrap();
        let c = list.iter().find(|c| c["type"] == kind).unwrap();
        let text = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::CreateSandbox => {
                self.tell(Observation::SandboxReady { ips: vec!["10.42.0.5".into()] });
            }
            Action::MountVolumes => match self.bad_volumes.clone() {
                Some(message) => self.tell(Observation::VolumesFailed(message)),
                None => self.tell(Observation::VolumesReady),
            },
            Action::EnsureImage { container, image, .. } => {
                match self.bad_images.get(&image).cloned() {
                    Some((reason, message)) => {
                        self.tell(Observation::ImageFailed { container, reason, message });
                    }
                    None => self.tell(Observation::ImageReady(container)),
                }
            }
            Action::Start { container, attempt, spec_hash } => {
                self.start(container, attempt, spec_hash);
            }
            Action::PostStart { container, id } if !self.stuck_hooks => {
                self.tell(Observation::PostStartDone { container, id, ok: true });
            }
            Action::PreStop { container, .. } if !self.stuck_hooks => {
                self.tell(Observation::PreStopDone { container });
            }
            Action::Terminate { id, .. } if !self.deaf => self.exit_run(id, 143),
            Action::Kill { id, .. } => self.exit_run(id, 137),
            Action::Probe { container, id, probe: kind } => self.probe(container, id, kind),
            Action::RemoveSandbox => self.tell(Observation::SandboxGone),
            Action::UnmountVolumes => self.tell(Observation::VolumesGone),
            Action::DeleteFromApi => self.tell(Observation::ApiDeleted(Ok(()))),
            _ => {}
        }
    }

    fn start(&mut self, container: String, attempt: u32, spec_hash: String) {
        let image = self.desired.container(&container).unwrap().image.clone().unwrap();
        let run = Run {
            id: format!("{container}-{attempt}"),
            attempt,
            spec_hash,
            image,
            image_id: "sha256:1".into(),
            started_ms: self.now,
            state: RunState::Running,
            stale: false,
            kept: true,
            stopped: None,
        };
        match self.bad_starts.get(&container).cloned() {
            Some((how, message)) => {
                self.tell(Observation::StartFailed { container, how, message, run });
            }
            None => self.tell(Observation::Started { container, run }),
        }
    }

    fn probe(&mut self, container: String, id: String, kind: ProbeKind) {
        let ok = self.answers.get(&(container.clone(), kind)).copied().unwrap_or(true);
        let wanted = probe(self.desired.container(&container).unwrap(), kind).unwrap();
        let success_threshold = wanted.success_threshold.unwrap_or(1).unsigned_abs();
        let failure_threshold = wanted.failure_threshold.unwrap_or(3).unsigned_abs();
        self.tell(Observation::Probed {
            container,
            id,
            kind,
            ok: Some(ok),
            success_threshold,
            failure_threshold,
        });
    }
}

fn words(action: &Action) -> String {
    match action {
        Action::CreateSandbox => "sandbox".into(),
        Action::MountVolumes => "mount".into(),
        Action::EnsureImage { container, .. } => format!("image {container}"),
        Action::Start { container, attempt, .. } => format!("start {container} {attempt}"),
        Action::PostStart { container, .. } => format!("post-start {container}"),
        Action::Stop { container, reason, grace_s, .. } => {
            format!("stop {container} {reason:?} {grace_s}")
        }
        Action::PreStop { container, .. } => format!("pre-stop {container}"),
        Action::Terminate { container, .. } => format!("term {container}"),
        Action::Kill { container, .. } => format!("kill {container}"),
        Action::Probe { container, probe, .. } => format!("probe {container} {probe:?}"),
        Action::Forget { id, .. } => format!("forget {id}"),
        Action::RemoveSandbox => "remove sandbox".into(),
        Action::UnmountVolumes => "unmount".into(),
        Action::DeleteFromApi => "delete".into(),
    }
}
