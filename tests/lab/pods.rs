//! Pods when boards are lost: Running elsewhere within seconds, and what may only run once never
//! twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use edge_api::{Object, kinds};
use edge_client::ListParams;
use nix::unistd::Pid;

use super::board::Board;
use super::cluster::Cluster;
use super::load::{clients, runtime};
use crate::board::command::{run, until};
use crate::board::machine::built;

/// A Deployment of edged's example web server.
pub(crate) fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: edged/webserver:1
        imagePullPolicy: IfNotPresent
"
    )
}

/// The same, marked so that it never runs twice.
pub(crate) fn singleton(name: &str) -> String {
    let mark = "    metadata:\n      annotations: {edged.dev/singleton: \"true\"}\n";
    deployment(name, 1).replacen("    metadata:\n", mark, 1)
}

/// Pods of the heavy image, which is only found in the cluster itself.
pub(crate) fn heavy(name: &str, replicas: u32) -> String {
    deployment(name, replicas).replace("edged/webserver:1", super::cargo::NAME)
}

impl Cluster {
    /// Puts edged's example image on every board.
    pub(crate) fn load_example(&self) {
        let archive = self.dir.join("webserver.tar").display().to_string();
        let mut make = std::process::Command::new(built("edged"));
        make.args(["webserver", "--archive", &archive]);
        run(make).ok();
        self.ctl(&self.boards[0], &["image", "load", &archive]).ok();
    }

    /// All pods of a label, as the first server that answers has them.
    pub(crate) fn pods(&self, app: &str) -> Vec<Object> {
        let clients = clients(self);
        let params =
            ListParams { label_selector: Some(format!("app={app}")), ..ListParams::default() };
        self.person.within(|| {
            runtime().block_on(async {
                for client in clients {
                    let list = client.list(kinds::POD, "default", &params);
                    let list = tokio::time::timeout(Duration::from_secs(1), list).await;
                    if let Ok(Ok(list)) = list {
                        return list.items;
                    }
                }
                Vec::new()
            })
        })
    }

    /// Waits until so many pods run, anywhere.
    #[track_caller]
    pub(crate) fn wait_running(&self, app: &str, count: usize) {
        until(&format!("{count} pods of {app} run"), || {
            let pods = self.pods(app);
            let running = pods.iter().filter(|pod| is_running(pod, "")).count();
            (running >= count).then_some(()).ok_or_else(|| format!("{running} run: {pods:#?}"))
        });
    }

    /// The boards that pods of a label are on.
    pub(crate) fn nodes_of(&self, app: &str) -> BTreeSet<String> {
        let pods = self.pods(app);
        let names = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str());
        names.map(Into::into).collect()
    }

    /// Waits until so many pods run on boards other than this one; how long that took.
    pub(crate) fn elsewhere(&self, app: &str, count: usize, not_on: &Board) -> Duration {
        let begin = Instant::now();
        loop {
            let pods = self.pods(app);
            let there = pods.iter().filter(|pod| is_running(pod, &not_on.name));
            if there.count() >= count {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "not elsewhere: {pods:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn is_running(pod: &Object, not_on: &str) -> bool {
    let going = pod["metadata"]["deletionTimestamp"].is_string();
    let runs = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
    runs && !going && pod["spec"]["nodeName"] != not_on
}

/// Processes of a board that are containers' own: what runs in pods.
pub(crate) fn programs(board: &Board) -> Vec<Pid> {
    let is_program = |pid: &Pid| {
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).replace('\0', " ");
        args.starts_with("/edged webserver") || args.starts_with("/bin/busybox")
    };
    board.marks().processes().into_iter().filter(is_program).collect()
}
