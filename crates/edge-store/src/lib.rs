//! The store: where a cluster's objects live, and the only place that makes them durable.
//!
//! A checksummed segment log in front is the durable truth; LMDB behind it holds the state that
//! the log's entries lead to. A write is acknowledged when its log entry is synced and applied.
//! One revision is one log index, so every member that applies the same log answers with the same
//! revisions. The rooms:
//!
//! - `command`: what can be asked of the state, and how it looks in the log;
//! - `log`: segments, records, recovery after a power cut;
//! - `machine`: the deterministic step from (state, command) to state, on an in-memory `overlay`;
//! - `history` and `watch`: the bounded past that watches and lists at a revision read;
//! - `writer`: the one thread that writes, with group commit;
//! - `snapshot`: the logical export that replication and backup use;
//! - `env`: LMDB, and the only `unsafe` of the crate.

mod command;
mod entry;
mod env;
mod error;
mod history;
mod limits;
mod log;
mod machine;
mod overlay;
mod read;
mod snapshot;
mod store;
mod watch;
mod writer;

pub use command::{Applied, Command, Expect, Op};
pub use entry::{Change, Entry, Event, ListOptions, Listing, Revision, stamp};
pub use error::{
    Damage, Gone, OpenError, ProposeError, ReadError, SnapshotError, StateError, WatchEnd,
};
pub use limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use log::disk::{Disk, RealDisk};
pub use snapshot::restore;
pub use store::{Options, Stats, Store};
pub use watch::Watch;
