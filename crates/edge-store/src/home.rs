//! Where a store's state and log lie, and how a snapshot takes their place.
//!
//! A data directory has one *generation* of state and log that counts: the one that its file
//! `current` names, or the one without a name. A snapshot is made into a new generation, and the
//! renaming of `current` is the moment from which it counts: a kill before leaves the old one, a
//! kill after the new one, and the next start removes what does not count.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::Base;
use crate::base::memory::MemoryBase;
use crate::env::{Env, Lock, sync_dir};
use crate::error::OpenError;

const CURRENT: &str = "current";
const WORDS: &str = "edged store, generation ";

/// A store's place.
#[derive(Clone)]
pub(crate) enum Home {
    /// A directory that this process holds.
    Dir { dir: PathBuf, lock: Arc<Lock>, generation: String },
    /// In memory, for the simulator; the log lies on a disk of its own.
    Memory { base: MemoryBase, generation: String },
}

impl Home {
    /// Takes a directory, and removes what no generation needs.
    pub(crate) fn take(dir: &Path) -> Result<Home, OpenError> {
        fs::create_dir_all(dir).map_err(OpenError::io("creating", dir))?;
        let lock = Arc::new(Lock::take(dir)?);
        let generation = current(dir)?;
        let home = Home::Dir { dir: dir.to_owned(), lock, generation };
        home.sweep()?;
        Ok(home)
    }

    /// A place in memory.
    pub(crate) fn memory(base: MemoryBase) -> Home {
        let generation = base.content().generation.clone();
        Home::Memory { base, generation }
    }

    /// Another generation of the same place.
    pub(crate) fn next(&self, generation: String) -> Home {
        match self {
            Home::Dir { dir, lock, .. } => {
                Home::Dir { dir: dir.clone(), lock: lock.clone(), generation }
            }
            Home::Memory { .. } => Home::Memory { base: MemoryBase::default(), generation },
        }
    }

    /// For messages to people.
    pub(crate) fn dir(&self) -> PathBuf {
        match self {
            Home::Dir { dir, .. } => dir.clone(),
            Home::Memory { .. } => PathBuf::from("memory"),
        }
    }

    fn generation(&self) -> &str {
        let (Home::Dir { generation, .. } | Home::Memory { generation, .. }) = self;
        generation
    }

    fn name(&self, kind: &str) -> String {
        named(kind, self.generation())
    }

    /// Where the log's segments are.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir().join(self.name("log"))
    }

    /// Where the state is.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join(self.name("state"))
    }

    /// Opens or creates the state.
    pub(crate) fn open(&self) -> Result<Base, OpenError> {
        Ok(match self {
            Home::Dir { lock, .. } => Base::Lmdb(Env::open(self.state(), lock.clone())?),
            Home::Memory { base, .. } => Base::Memory(base.clone()),
        })
    }

    /// From here on `next`, which is whole and durable, is what counts. Gives it back as it is
    /// to be used.
    pub(crate) fn give_way(&self, next: Home) -> Result<Home, OpenError> {
        match (self, next) {
            (Home::Dir { dir, .. }, next @ Home::Dir { .. }) => {
                let (path, unfinished) = (dir.join(CURRENT), dir.join("current.new"));
                let written = fs::File::create(&unfinished).and_then(|mut file| {
                    writeln!(file, "{WORDS}{}", next.generation())?;
                    file.sync_all()
                });
                written.map_err(OpenError::io("writing", &unfinished))?;
                sync_dir(dir)?;
                fs::rename(&unfinished, &path).map_err(OpenError::io("renaming", &unfinished))?;
                sync_dir(dir)?;
                Ok(next)
            }
            (Home::Memory { base, .. }, Home::Memory { base: other, generation }) => {
                base.replace(&generation, &other);
                Ok(Home::Memory { base: base.clone(), generation })
            }
            (_, next) => Ok(next),
        }
    }

    /// Removes this generation, which must be one that never counted and that nobody has open.
    pub(crate) fn remove(&self) -> Result<(), OpenError> {
        let Home::Dir { dir, generation, .. } = self else { return Ok(()) };
        if generation.is_empty() || current(dir)? == *generation {
            return Ok(());
        }
        for path in [self.state(), self.log()] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(OpenError::io("removing", &path))?,
            }
        }
        Ok(())
    }

    /// Removes every other generation. What is still in use by readers stays until they end.
    pub(crate) fn sweep(&self) -> Result<(), OpenError> {
        let Home::Dir { dir, .. } = self else { return Ok(()) };
        let kept = [self.name("state"), self.name("log")];
        for entry in fs::read_dir(dir).map_err(OpenError::io("listing", dir))? {
            let path = entry.map_err(OpenError::io("listing", dir))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let kind = name.split_once('-').map_or(&*name, |(kind, _)| kind);
            if ["state", "log"].contains(&kind) && !kept.contains(&name) {
                fs::remove_dir_all(&path).map_err(OpenError::io("removing", &path))?;
            }
        }
        Ok(())
    }
}

/// Which generation counts in a directory; nothing for the one without a name.
fn current(dir: &Path) -> Result<String, OpenError> {
    let path = dir.join(CURRENT);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim_end().strip_prefix(WORDS) {
            Some(word) if is_generation(word) => Ok(word.to_owned()),
            _ => {
                let why = "not what edged writes; restore the whole directory from a copy";
                Err(OpenError::Foreign { path, why: why.to_owned() })
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(OpenError::io("reading", path)(error)),
    }
}

/// Checks, before anything in the directory is made or swept, that the state that counts is there.
///
/// # Errors
/// Names what is missing.
pub(crate) fn expect(dir: &Path) -> Result<(), OpenError> {
    if !dir.exists() {
        return Err(OpenError::Missing { path: dir.to_owned() });
    }
    let path = dir.join(named("state", &current(dir)?));
    let empty = match fs::read_dir(&path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(OpenError::io("listing", path)(error)),
    };
    if empty { Err(OpenError::Missing { path }) } else { Ok(()) }
}

fn named(kind: &str, generation: &str) -> String {
    match generation {
        "" => kind.to_owned(),
        generation => format!("{kind}-{generation}"),
    }
}

fn is_generation(word: &str) -> bool {
    word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}
