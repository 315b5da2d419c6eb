//! One module for each command, or for a family of them.

pub(crate) mod apply;
pub(crate) mod boards;
pub(crate) mod completion;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod drain;
pub(crate) mod edit;
pub(crate) mod exec;
pub(crate) mod expose;
pub(crate) mod flash;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod labels;
pub(crate) mod logs;
pub(crate) mod net;
mod packed;
pub(crate) mod patch;
pub(crate) mod port_forward;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod set;
pub(crate) mod taint;
pub(crate) mod upgrade;
pub(crate) mod wait;
