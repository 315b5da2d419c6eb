//! What the overlay lies over: LMDB, or, for the simulator, a map in memory.

pub(crate) mod memory;

use crate::entry::Revision;
use crate::env::{self, Changes, Env};
use crate::error::StateError;
use crate::meta::Meta;

use self::memory::{Content, MemoryBase};

/// The committed state.
pub(crate) enum Base {
    /// On the disk.
    Lmdb(Env),
    /// In memory.
    Memory(MemoryBase),
}

/// A consistent view of the committed state.
pub(crate) enum View<'b> {
    Lmdb(env::Snapshot<'b>),
    Memory(std::sync::Arc<Content>),
}

/// One object of a scan: key, revision and value.
pub(crate) type Found<'s> = Result<(&'s str, Revision, &'s [u8]), StateError>;

impl Base {
    /// Begins to read.
    pub(crate) fn read(&self) -> Result<View<'_>, StateError> {
        Ok(match self {
            Base::Lmdb(env) => View::Lmdb(env.read()?),
            Base::Memory(memory) => View::Memory(memory.content()),
        })
    }

    /// Bytes that it takes on the disk.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Base::Lmdb(env) => env.size(),
            Base::Memory(_) => 0,
        }
    }

    /// Writes `changes` and what they lead to; durable when it returns.
    pub(crate) fn commit(&self, changes: &Changes, meta: &Meta) -> Result<(), StateError> {
        match self {
            Base::Lmdb(env) => env.commit(changes, meta),
            Base::Memory(memory) => {
                memory.commit(changes, meta);
                Ok(())
            }
        }
    }
}

impl View<'_> {
    /// What the last commit said of itself; `None` if there was none.
    pub(crate) fn meta(&self) -> Result<Option<Meta>, StateError> {
        match self {
            View::Lmdb(snapshot) => snapshot.meta(),
            View::Memory(content) => Ok(content.meta.clone()),
        }
    }

    /// Reads one object.
    pub(crate) fn get(&self, key: &str) -> Result<Option<(Revision, &[u8])>, StateError> {
        match self {
            View::Lmdb(snapshot) => snapshot.get(key),
            View::Memory(content) => Ok(content.get(key)),
        }
    }

    /// Reads the objects whose keys begin with `prefix` and come after `after`, in order.
    pub(crate) fn scan<'s>(
        &'s self,
        prefix: &'s str,
        after: Option<&str>,
    ) -> Result<Box<dyn Iterator<Item = Found<'s>> + 's>, StateError> {
        Ok(match self {
            View::Lmdb(snapshot) => Box::new(snapshot.scan(prefix, after)?),
            View::Memory(content) => Box::new(content.scan(prefix, after)),
        })
    }
}
