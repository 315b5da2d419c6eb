//! Power cuts beneath whole programs: a disk with a write-back cache that remembers all that was
//! written to it, cut at any moment, with whatever of its cache reached the medium.
//!
//! - `disk`: the disk and its record; `cut`: which moments, and what is left of the cache then.
//! - `fuse`: that disk as a loop device of this machine, with a file system on it; `nbd`: the same
//!   disk for a guest of QEMU.
//! - `calls`, `files`, `replay`: the other way, beneath no file system: the system calls of the
//!   store, and what a file system that keeps no more than it promises may leave of them.
//! - `writer`: a program that writes to a store and says what was acknowledged; `images`: the image
//!   store, with `leftovers` as its judge; `peers`: SQLite and etcd.
//!
//! What CI runs is a sample; `docs/power.md` has the commands of the long runs, and their counts.

mod calls;
mod cut;
mod disk;
mod files;
mod fuse;
mod images;
pub(crate) mod leftovers;
mod nbd;
mod peers;
mod replay;
mod store;
mod writer;

pub(crate) use cut::{Cutter, Fate};
pub(crate) use disk::{Disk, Record};
pub(crate) use fuse::{Left, can_run, empty};
pub(crate) use nbd::serve;
pub(crate) use writer::body;

/// How many cuts a test makes: so many in CI, more with `EDGED_POWER_CUTS`.
fn cuts(usual: usize) -> usize {
    let named = std::env::var("EDGED_POWER_CUTS").ok();
    named.map_or(usual, |text| text.parse().expect("EDGED_POWER_CUTS is a number"))
}

/// The seed of all chance here: `EDGED_POWER_SEED`, or always the same.
pub(crate) fn seed() -> u64 {
    let named = std::env::var("EDGED_POWER_SEED").ok();
    named.map_or(0x5eed_0f00, |text| text.parse().expect("EDGED_POWER_SEED is a number"))
}
