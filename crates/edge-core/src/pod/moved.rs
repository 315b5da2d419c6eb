//! A board's clock jumps: one that was never set hears the time, one that was years ahead is set
//! right. What is waited for takes as long as it would have.

use super::observed::{ImageState, ObservedPod, RunState, Seen, Task};

fn shift_task(task: &mut Task, by_ms: i64) {
    if let Task::Failed { at_ms, .. } = task {
        *at_ms = at_ms.saturating_add(by_ms);
    }
}

fn shift(seen: &mut Seen, by_ms: i64) {
    if let ImageState::Failed { at_ms, .. } = &mut seen.image {
        *at_ms = at_ms.saturating_add(by_ms);
    }
    if let Some((_, _, at_ms)) = &mut seen.start_failed {
        *at_ms = at_ms.saturating_add(by_ms);
    }
    shift_task(&mut seen.post_start, by_ms);
    let stop = seen.stopping.iter_mut();
    let stop = stop.flat_map(|stop| {
        shift_task(&mut stop.hook, by_ms);
        [Some(&mut stop.since_ms), stop.signalled_ms.as_mut(), stop.killed_ms.as_mut()]
    });
    let probes = seen.probes.values_mut().map(|state| state.last_ms.as_mut());
    for at_ms in stop.chain(probes).flatten() {
        *at_ms = at_ms.saturating_add(by_ms);
    }
}

impl ObservedPod {
    /// The board's clock has jumped by so much, and says `now_ms`. Pauses, probes and graces go on
    /// where they were.
    pub fn clock_moved(&mut self, by_ms: i64, now_ms: i64) {
        let own = [&mut self.sandbox.task, &mut self.volumes, &mut self.api_delete];
        own.into_iter().for_each(|task| shift_task(task, by_ms));
        self.terminating_ms = self.terminating_ms.map(|at| at.saturating_add(by_ms));
        self.containers.values_mut().for_each(|seen| shift(seen, by_ms));
        self.not_after(now_ms);
    }

    /// Nothing has happened after `now_ms`: what says so is from a clock that was ahead, and nobody
    /// shall wait until it is reached again.
    pub fn not_after(&mut self, now_ms: i64) {
        for seen in self.containers.values_mut() {
            for run in &mut seen.runs {
                run.started_ms = run.started_ms.min(now_ms);
                if let RunState::Ended { finished_ms, .. } = &mut run.state {
                    *finished_ms = (*finished_ms).min(now_ms);
                }
            }
            if let Some(back_off) = &mut seen.back_off {
                back_off.set_ms = back_off.set_ms.min(now_ms);
            }
        }
        self.terminating_ms = self.terminating_ms.map(|at| at.min(now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::super::observed::{ProbeKind, ProbeState, Run, StopReason, Stopping};
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;
    const NOW: i64 = 20_000 * DAY;

    fn pod(started_ms: i64, stopping: bool) -> ObservedPod {
        let mut pod = ObservedPod { terminating_ms: Some(NOW - 5), ..ObservedPod::default() };
        let seen = pod.containers.entry("a".into()).or_default();
        seen.runs.push(Run {
            id: "x".into(),
            attempt: 0,
            spec_hash: String::new(),
            image: String::new(),
            image_id: String::new(),
            started_ms,
            state: RunState::Running,
            stale: false,
            kept: true,
            stopped: None,
        });
        let probed = ProbeState { last_ms: Some(NOW - 3000), ..ProbeState::default() };
        seen.probes.insert(ProbeKind::Liveness, probed);
        seen.image = ImageState::Failed { reason: "r".into(), message: "m".into(), at_ms: NOW - 7 };
        seen.stopping = stopping.then_some(Stopping {
            reason: StopReason::Deleted,
            since_ms: NOW - 1000,
            grace_s: 30,
            hook: Task::Idle,
            signalled_ms: Some(NOW - 900),
            killed_ms: None,
        });
        pod
    }

    #[test]
    fn graces_and_pauses_are_as_long_as_they_were() {
        for by in [20_000 * DAY, -19_000 * DAY] {
            let mut pod = pod(NOW - DAY, true);
            pod.clock_moved(by, NOW + by);
            let seen = &pod.containers["a"];
            let stop = seen.stopping.as_ref().unwrap();
            assert_eq!((stop.since_ms, stop.signalled_ms), (NOW + by - 1000, Some(NOW + by - 900)));
            assert_eq!(seen.probes[&ProbeKind::Liveness].last_ms, Some(NOW + by - 3000));
            assert!(
                matches!(seen.image, ImageState::Failed { at_ms, .. } if at_ms == NOW + by - 7)
            );
            assert_eq!(pod.terminating_ms, Some(NOW + by - 5));
        }
    }

    #[test]
    fn nothing_has_begun_in_the_future() {
        let mut pod = pod(NOW + 9000 * DAY, false);
        pod.not_after(NOW);
        assert_eq!(pod.containers["a"].runs[0].started_ms, NOW);
        let mut old = self::pod(NOW - DAY, false);
        old.not_after(NOW);
        assert_eq!(old.containers["a"].runs[0].started_ms, NOW - DAY);
    }
}
