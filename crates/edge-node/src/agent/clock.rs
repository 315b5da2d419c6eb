//! The wall clock as the agent reads it.

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    crate::clock::wall_ms()
}
