//! The bench room: what is measured, side by side, in one run.

fn main() {}
