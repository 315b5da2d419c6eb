//! Every bound of the store under a name, so that its memory and its files can be reasoned about.

use std::time::Duration;

/// The largest value: etcd's default request limit, which Kubernetes clients are used to.
pub const VALUE_BYTES_MAX: usize = 1536 * 1024;

/// The longest key: what LMDB takes on any page size, and enough for every Kubernetes name.
pub const KEY_BYTES_MAX: usize = 511;

/// The most operations in one command.
pub(crate) const COMMAND_OPS_MAX: usize = 1024;

/// The largest command, all its operations together.
pub(crate) const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Events kept for watches and for lists at a past revision.
pub const HISTORY_EVENTS_MAX: usize = 4096;

/// Bytes those events may hold; an event's previous value counts, shared or not.
pub const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an event is counted as holding beside its bytes.
pub(crate) const EVENT_OVERHEAD: usize = 192;

/// Proposals that wait for the writer thread.
pub(crate) const PROPOSALS_MAX: usize = 512;

/// Bytes of proposals that wait for the writer thread.
pub(crate) const PROPOSAL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a waiting proposal is counted as holding beside its bytes.
pub(crate) const PROPOSAL_OVERHEAD: usize = 256;

/// A batch is closed once it holds this much, so that one write stays short.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The size of a log segment, unless a batch needs a larger one.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// The overlay is committed to LMDB once it holds this much.
pub(crate) const OVERLAY_BYTES_SOFT: usize = 2 * 1024 * 1024;

/// Above this, writes wait for a commit, or are refused while commits fail.
pub(crate) const OVERLAY_BYTES_HARD: usize = 4 * OVERLAY_BYTES_SOFT;

/// What an overlay entry is counted as holding beside its bytes.
pub(crate) const OVERLAY_OVERHEAD: usize = 128;

/// An idle store commits after this long, if the overlay holds `IDLE_COMMIT_BYTES`.
pub(crate) const IDLE_COMMIT_AFTER: Duration = Duration::from_secs(5);

/// Below this an idle store does not commit at all: replaying so little takes no time, and the
/// flash is spared.
pub(crate) const IDLE_COMMIT_BYTES: usize = 256 * 1024;

/// How long a failed commit is left alone before it is tried again.
pub(crate) const COMMIT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The smallest LMDB map; it grows by doubling.
pub(crate) const MAP_BYTES_MIN: usize = 64 * 1024 * 1024;

/// The largest LMDB map: a 32-bit board has little address space.
#[cfg(target_pointer_width = "32")]
pub(crate) const MAP_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The largest LMDB map: kernels with 39-bit addresses have 256 GiB for a process.
#[cfg(not(target_pointer_width = "32"))]
pub(crate) const MAP_BYTES_MAX: usize = 64 * 1024 * 1024 * 1024;

/// How far revisions jump when an operator accepts the loss of log entries: their numbers may
/// be known to clients, and are never given out again.
pub(crate) const LOSS_GAP: u64 = 1_000_000;

/// The same where a backup is brought back, which may be years older than the last write: more
/// than a busy cluster's writes of some years, and far below what JSON's numbers can hold.
pub(crate) const RESTORE_GAP: u64 = 1_000_000_000;

/// Messages from other members that wait for the brain; more are dropped, and sent again.
pub(crate) const MESSAGES_MAX: usize = 1024;

/// Bytes of such messages.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads, changes and hints that wait for the brain.
pub(crate) const REQUESTS_MAX: usize = 4096;

/// Entries on their way to log and state may hold so much; above, messages of other members are
/// dropped until the disk has caught up.
pub(crate) const BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An applied entry waits for a commit when the overlay holds this much: followers can't refuse.
pub(crate) const OVERLAY_BYTES_STALL: usize = 2 * OVERLAY_BYTES_HARD;

/// A linearizable read fails after so many ticks.
pub(crate) const READ_TICKS: u64 = 20;

/// … and after so many when nobody has led for long: a client asks several times.
pub(crate) const READ_TICKS_UNLED: u64 = 5;

/// Room in a segment that proposals leave to elections, so that a full disk does not keep a
/// restarted member from leading.
pub(crate) const SLACK_BYTES: u64 = 16 * 1024;
