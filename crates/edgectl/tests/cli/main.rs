//! The CLI against the real API server, with a board that only pretends: everything but the
//! containers is real. No root needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails shall say so")]

mod backups;
mod board;
mod keyboard;
mod nodes;
mod reading;
mod restores;
mod streams;
mod words;
mod world;
mod writing;
