//! When the next probe of a running container is due.

use edge_api::k8s::api::core::v1::{Container, Probe};

use super::containers::started;
use super::desired::probe;
use super::observed::{ProbeKind, ProbeState, Run, Seen};
use super::plan::{Action, Plan};

/// A container that was never ready is asked this often in its first period, so that a server that
/// comes up in a second need not wait for the next tick. Kubernetes' own first tick is random.
const EAGER_MS: i64 = 1_000;
/// `periodSeconds` when the probe says nothing.
const DEFAULT_PERIOD_S: i32 = 10;

/// Plans the probes of a running container.
pub(super) fn plan_probes(
    container: &Container,
    seen: &Seen,
    run: &Run,
    now_ms: i64,
    plan: &mut Plan,
) {
    let up = started(container, seen);
    for kind in ProbeKind::ALL {
        let Some(wanted) = probe(container, kind) else { continue };
        let state = seen.probes.get(&kind).cloned().unwrap_or_default();
        let held = match kind {
            ProbeKind::Startup => state.result.is_some(),
            ProbeKind::Liveness | ProbeKind::Readiness => !up,
        };
        if held || state.busy {
            continue;
        }
        let due = due_ms(wanted, kind, &state, run.started_ms);
        if now_ms >= due {
            let (container, id) = (container.name.clone(), run.id.clone());
            plan.act(Action::Probe { container, id, probe: kind });
        } else {
            plan.wake(due);
        }
    }
}

fn due_ms(wanted: &Probe, kind: ProbeKind, state: &ProbeState, started_ms: i64) -> i64 {
    let period = i64::from(wanted.period_seconds.unwrap_or(DEFAULT_PERIOD_S).max(1)) * 1000;
    let delay = i64::from(wanted.initial_delay_seconds.unwrap_or(0).max(0)) * 1000;
    let eager = kind != ProbeKind::Liveness;
    match state.last_ms {
        Some(last) => {
            let young = last - started_ms - delay < period;
            let step = if kind == ProbeKind::Readiness && state.result != Some(true) && young {
                EAGER_MS.min(period)
            } else {
                period
            };
            last + step
        }
        None if delay > 0 || eager => started_ms + delay,
        None => started_ms + period,
    }
}
