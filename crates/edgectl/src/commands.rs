//! One module for each command, or for a family of them.

pub(crate) mod apply;
pub(crate) mod delete;
pub(crate) mod get;
