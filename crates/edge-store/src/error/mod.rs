//! Everything that can go wrong, in words that name the operation, the object and what to do.

mod open;
mod read;
mod write;

pub use self::open::{Damage, OpenError, SnapshotError, StateError};
pub use self::read::{BarrierError, Gone, ReadError, WatchEnd};
pub use self::write::{ChangeError, ProposeError};
