//! Begins what a plan asks for: at once where that takes no time, else as a job beside the worker.

use edge_core::pod::{Action, status};

use super::Worker;
use crate::agent::signals::signal_number;
use crate::agent::telling;

impl Worker {
    /// False for an action that has to wait for another one's end.
    pub(super) fn begin(&mut self, action: Action, now: i64) -> bool {
        if action == Action::DeleteFromApi && self.reporter.busy() {
            return false; // When the report has come back.
        }
        self.observed.begin(&action, now);
        let job = self.job();
        match action {
            Action::CreateSandbox => drop(self.jobs.spawn(job.create_sandbox())),
            Action::MountVolumes => drop(self.jobs.spawn(job.mount_volumes())),
            Action::EnsureImage { container, image, policy } => {
                self.jobs.spawn(job.ensure_image(container, image, policy));
            }
            Action::Start { container, attempt, spec_hash } => {
                self.jobs.spawn(job.start(container, attempt, spec_hash));
            }
            Action::PostStart { container, id } => {
                self.jobs.spawn(job.post_start(container, id));
            }
            Action::Stop { container, reason, .. } => {
                telling::stop(&self.board, &self.pod, &container, reason);
            }
            Action::PreStop { container, id, timeout_ms } => {
                self.jobs.spawn(job.pre_stop(container, id, timeout_ms));
            }
            Action::Terminate { container, id } => self.terminate(&container, &id),
            Action::Kill { id, .. } => drop(self.jobs.spawn(job.kill(id))),
            Action::Probe { container, id, probe } => {
                self.jobs.spawn(job.probe(container, id, probe));
            }
            Action::Forget { id, .. } => drop(self.removals.spawn(job.forget(id))),
            Action::RemoveSandbox => drop(self.jobs.spawn(job.remove_sandbox())),
            Action::UnmountVolumes => drop(self.jobs.spawn(job.unmount_volumes())),
            Action::DeleteFromApi => self.delete_from_api(now),
        }
        true
    }

    /// Sends the stop signal: the pod's, else the image's, else SIGTERM.
    fn terminate(&self, container: &str, id: &str) {
        let lifecycle = self.pod.container(container).and_then(|c| c.lifecycle.as_ref());
        let own = lifecycle.and_then(|l| l.stop_signal.clone());
        let image = self.pod.container(container).and_then(|c| c.image.as_deref());
        let of_image = || {
            let image = image.and_then(|image| self.board.images.find(image));
            image.and_then(|image| image.config.stop_signal)
        };
        let name = own.or_else(of_image);
        let signal = name.as_deref().and_then(signal_number).unwrap_or(nix::libc::SIGTERM);
        if let Err(error) = self.board.runtime.signal(id, signal) {
            tracing::debug!("stop container {container} of {}: {error}", self.pod.label());
        }
    }

    fn delete_from_api(&mut self, now: i64) {
        let status = status(&self.pod, &self.observed, now);
        let delete = self.reporter.last_words(self.board.clone(), self.pod.clone(), status);
        self.jobs.spawn(delete);
    }
}
