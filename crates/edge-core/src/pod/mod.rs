//! The kubelet's decisions for one pod, as pure functions: [`plan`] says what to do next and when
//! to look again, [`status`] says what to report. The agent carries actions out and feeds what
//! happened back through [`ObservedPod::begin`] and [`ObservedPod::apply`]; nothing here reads a
//! clock.
//!
//! A plan whose actions have all begun is never given twice, and a realised plan gives an empty
//! one.

mod back_off;
mod conditions;
mod container_status;
mod containers;
mod desired;
pub mod env;
mod moved;
mod observed;
mod phase;
mod plan;
mod probes;
mod qos;
mod reduce;
mod status;
mod status_patch;
mod stop;

#[cfg(test)]
mod tests;

pub use back_off::{CRASH_FIRST_MS, CRASH_MAX_MS, go_duration};
pub use desired::{
    Desired, PullPolicy, RestartPolicy, container_hash, post_start, pre_stop, probe,
};
pub use observed::{
    ImageState, ObservedPod, ProbeKind, ProbeState, Run, RunState, Sandbox, Seen, StartFailure,
    StopReason, Stopping, Task, Verdict,
};
pub use plan::{Action, Plan, plan, verdict};
pub use qos::qos_class;
pub use reduce::Observation;
pub use status::{status, waiting_reasons};
pub use status_patch::status_patch;
pub use stop::plan_off;
