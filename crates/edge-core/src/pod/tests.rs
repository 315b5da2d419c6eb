//! Whole lives of pods, played on a board of the mind: actions are carried out by a script, time
//! jumps from wake to wake, and what the API would see is compared with what Kubernetes shows.

mod board;
mod deletion;
mod images;
mod init;
mod lives;
mod off;
mod probing;
