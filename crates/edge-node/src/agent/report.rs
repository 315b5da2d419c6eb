//! Reports a pod's status to the API: on change only, one report at a time, again when no server
//! answered.

use std::sync::Arc;

use edge_api::kinds::POD;
use edge_api::{Object, meta};
use edge_client::{DeleteParams, Error, PatchType, WriteParams};
use edge_core::pod::{Desired, Observation, status_patch};
use serde_json::Value;

use super::board::Board;
use super::effects::Done;
use super::gather;

/// A report that got no answer is sent again after this long, and then after twice as long …
const RETRY_FIRST_MS: i64 = 500;
/// … up to this.
const RETRY_LAST_MS: i64 = 30_000;

/// What the API has been told about a pod.
pub(crate) struct Reporter {
    /// The status that the API has, as far as is known.
    acked: Value,
    /// The revision of the pod at which that was so.
    revision: u64,
    /// False as long as the API has not been heard.
    known: bool,
    /// The report under way.
    sending: Option<Value>,
    /// The pod as it was seen while a report was under way.
    seen: Option<Box<Object>>,
    failures: u32,
    retry_at_ms: Option<i64>,
}

impl Reporter {
    /// `acked` is the status that the API has; `None` when only the ledger has been read.
    pub(crate) fn new(acked: Option<Value>) -> Reporter {
        let known = acked.is_some();
        let acked = acked.unwrap_or_default();
        Reporter {
            acked,
            revision: 0,
            known,
            sending: None,
            seen: None,
            failures: 0,
            retry_at_ms: None,
        }
    }

    /// The pod has been seen in the API. What is ours to say and was changed there (a board that
    /// was lost has its pods marked not ready) is said again.
    pub(crate) fn meet(&mut self, pod: &Object) {
        let revision = meta::revision(pod);
        if self.known && revision <= self.revision {
            return;
        }
        if self.busy() {
            self.seen = Some(Box::new(pod.clone()));
            return;
        }
        if !self.known || gather::says_otherwise(&self.acked, &pod["status"]) {
            self.acked = pod["status"].clone();
            self.known = true;
        }
        self.revision = revision;
    }

    /// True while a report is under way.
    pub(crate) fn busy(&self) -> bool {
        self.sending.is_some()
    }

    /// The board's clock has jumped by so much.
    pub(crate) fn clock_moved(&mut self, by_ms: i64) {
        self.retry_at_ms = self.retry_at_ms.map(|at| at.saturating_add(by_ms));
    }

    /// When a failed report wants to be sent again.
    pub(crate) fn retry_at_ms(&self) -> Option<i64> {
        self.retry_at_ms
    }

    /// What the API has, to take over what others changed there.
    pub(crate) fn acked(&mut self) -> &mut Value {
        &mut self.acked
    }

    /// The report to send now, if there is any.
    pub(crate) fn report(
        &mut self,
        board: &Arc<Board>,
        pod: &Arc<Desired>,
        status: &Value,
        now_ms: i64,
    ) -> Option<impl Future<Output = Done> + Send + 'static> {
        if !self.known || self.busy() || self.retry_at_ms.is_some_and(|at| now_ms < at) {
            return None;
        }
        let patch = status_patch(pod.uid(), &self.acked, status);
        self.retry_at_ms = None;
        let patch = patch?;
        self.sending = Some(status.clone());
        let (board, pod) = (board.clone(), pod.clone());
        Some(async move { Done::Reported(send(&board, &pod, &patch).await) })
    }

    /// Takes in what became of the report.
    pub(crate) fn reported(&mut self, result: Result<Box<Object>, bool>, now_ms: i64) {
        let Some(sent) = self.sending.take() else { return };
        match result {
            Ok(pod) => {
                self.acked = sent;
                self.meet(&pod);
                if let Some(seen) = self.seen.take() {
                    self.meet(&seen);
                }
                self.failures = 0;
            }
            Err(true) => {
                self.failures += 1;
                let delay = RETRY_FIRST_MS << (self.failures - 1).min(8);
                self.retry_at_ms = Some(now_ms + delay.min(RETRY_LAST_MS));
            }
            // It was refused for good; the same again would be refused again.
            Err(false) => self.acked = sent,
        }
    }

    /// The last report and the delete that ends the pod.
    pub(crate) fn last_words(
        &mut self,
        board: Arc<Board>,
        pod: Arc<Desired>,
        status: Value,
    ) -> impl Future<Output = Done> + Send + 'static {
        let patch = status_patch(pod.uid(), &self.acked, &status);
        self.acked = status;
        async move {
            if let Some(patch) = patch
                && let Err(true) = send(&board, &pod, &patch).await
            {
                let message = "no server answered".to_owned();
                return Done::Seen(Observation::ApiDeleted(Err(message)));
            }
            let result = delete(&board, &pod).await;
            Done::Seen(Observation::ApiDeleted(result.map_err(|error| error.to_string())))
        }
    }
}

/// `Err(true)`: worth another try.
async fn send(board: &Board, pod: &Desired, patch: &Value) -> Result<Box<Object>, bool> {
    let kind = PatchType::Strategic;
    let params = WriteParams::default();
    let (ns, name) = (pod.namespace(), pod.name());
    match board.client.patch(POD, ns, name, Some("status"), kind, patch, &params).await {
        Ok(pod) => Ok(Box::new(pod)),
        Err(Error::Status(status)) if status.code < 500 && status.code != 429 => {
            if status.code != 404 && status.code != 409 {
                tracing::warn!("report the status of {}: {}", pod.label(), status.message);
            }
            Err(status.code == 401 || status.code == 403)
        }
        Err(error) => {
            tracing::debug!("report the status of {}: {error}", pod.label());
            Err(true)
        }
    }
}

/// Drops the pod in the API; a pod that is gone, or another of its name, is as good.
async fn delete(board: &Board, pod: &Desired) -> Result<(), Error> {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        uid: Some(pod.uid().to_owned()),
        ..DeleteParams::default()
    };
    match board.client.delete(POD, pod.namespace(), pod.name(), &params).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(revision: u64, ready: &str) -> Object {
        json!({"metadata": {"resourceVersion": revision.to_string()},
               "status": {"phase": "Running", "conditions": [
                   {"type": "Ready", "status": ready}, {"type": "Mine", "status": "True"}]}})
    }

    #[test]
    fn what_others_changed_of_ours_is_said_again() {
        let mut reporter = Reporter::new(None);
        reporter.meet(&pod(5, "True"));
        assert_eq!(*reporter.acked(), pod(5, "True")["status"]);
        // The board was lost for a while.
        reporter.meet(&pod(9, "False"));
        let patch = status_patch("u", reporter.acked(), &pod(0, "True")["status"]);
        assert!(patch.is_some_and(|p| p["status"]["conditions"][0]["status"] == "True"));
        // An old state that comes late says nothing.
        reporter.acked = pod(0, "True")["status"].clone();
        reporter.meet(&pod(7, "False"));
        assert_eq!(*reporter.acked(), pod(0, "True")["status"]);
        // Nor does what is not ours.
        let mut foreign = pod(11, "True");
        foreign["status"]["conditions"][1]["status"] = json!("False");
        reporter.meet(&foreign);
        assert_eq!(*reporter.acked(), pod(0, "True")["status"]);
    }

    #[test]
    fn an_answer_shows_what_a_report_did_not_touch() {
        let mut reporter = Reporter::new(Some(pod(0, "True")["status"].clone()));
        reporter.sending = Some(pod(0, "True")["status"].clone());
        reporter.meet(&pod(8, "False"));
        assert_eq!(*reporter.acked(), pod(0, "True")["status"], "one is under way");
        reporter.reported(Ok(Box::new(pod(9, "False"))), 0);
        assert_eq!(*reporter.acked(), pod(9, "False")["status"]);
        // What came after the report, and was seen before its answer, counts as well.
        reporter.sending = Some(pod(0, "True")["status"].clone());
        reporter.meet(&pod(12, "False"));
        reporter.reported(Ok(Box::new(pod(11, "True"))), 0);
        assert_eq!(*reporter.acked(), pod(12, "False")["status"]);
    }
}
