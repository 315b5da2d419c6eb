//! The store: where a cluster's objects live, and the only place that makes them durable.
//!
//! A checksummed segment log in front is the durable truth; LMDB behind it holds the state that
//! the log's entries lead to. A write is acknowledged when its log entry is synced and applied.
//! One revision is one log index, so every member that applies the same log answers with the same
//! revisions. The rooms:
//!
//! - `command`: what can be asked of the state, and how it looks in the log;
//! - `log`: segments, records, recovery after a power cut;
//! - `machine`: the deterministic step from (state, command) to state, on an in-memory `overlay`
//!   over a `base`;
//! - `history` and `watch`: the bounded past that watches and lists at a revision read;
//! - `mind`: the half of a member that decides, on `edge_core::consensus`; `replica`: the half
//!   that waits for disks, with `hand`, which works on it; `brain` and `writer`: their threads,
//!   `event` what they say to each other;
//! - `snapshot`: the logical export that replication and backup use; `install`: how one takes a
//!   state's place, in a `home` of its own;
//! - `open`, `force`: how log and state are brought together, and what is left to do when the
//!   majority is lost;
//! - `env`: LMDB, and the only `unsafe` of the crate.

mod base;
mod brain;
mod command;
mod entry;
mod env;
mod error;
mod event;
mod force;
mod hand;
mod history;
mod home;
mod install;
mod limits;
mod log;
mod machine;
mod mailbox;
mod meta;
mod mind;
mod open;
mod overlay;
mod read;
mod replica;
mod shared;
#[doc(hidden)]
pub mod sim;
mod snapshot;
mod store;
mod watch;
mod writer;

pub use command::{Applied, Command, Expect, Op};
pub use entry::{Change, Entry, Event, ListOptions, Listing, Revision, stamp};
pub use env::free_bytes;
pub use error::{
    BarrierError, ChangeError, Damage, Gone, OpenError, ProposeError, ReadError, SnapshotError,
    StateError, WatchEnd,
};
pub use force::{Report, recover_force};
pub use install::{Fate, restore, restore_later, restore_needs};
pub use limits::SEGMENT_BYTES;
pub use limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use log::disk::{Disk, DiskFile, RealDisk};
pub use store::{Founding, NoPeers, Options, Peers, Stats, Store};
pub use watch::Watch;
