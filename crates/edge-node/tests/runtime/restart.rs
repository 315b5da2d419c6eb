//! To come.
use std::ffi::OsString;
pub(crate) fn agent(_: &[OsString]) -> i32 {
    0
}
