//! A file system that keeps no more than it promises. Bytes of a file count from its sync on, a
//! name from the sync of its directory on; of everything else any part may be there after a cut,
//! in any order, and writes may be torn at any sector. Real file systems are kinder: ext4 keeps
//! the order of names, and brings a new file's name with the file's sync.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::calls::Call;
use super::disk::SECTOR;

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// A change of names.
#[derive(Clone, Debug)]
enum Naming {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// A change of a file's bytes.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length { length: usize, grows: bool },
}

/// Something that a cut may lose.
#[derive(Clone, Debug)]
pub(super) struct Loose {
    /// The number of its call.
    call: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Name(Naming),
    Bytes(usize, Change),
}

impl Loose {
    /// Sectors of a write; 0 for what is no write.
    pub(super) fn sectors(&self) -> usize {
        match &self.what {
            What::Bytes(_, Change::Write { at, bytes }) => {
                (at + bytes.len()).div_ceil(SECTOR) - at / SECTOR
            }
            _ => 0,
        }
    }
}

/// The files: what is durable, and what is not yet.
#[derive(Clone, Default)]
pub(super) struct Files {
    calls: usize,
    names: BTreeMap<PathBuf, Node>,
    contents: Vec<Arc<Vec<u8>>>,
    pub(super) loose: Vec<Loose>,
}

impl Files {
    /// Nothing but a directory that is there and durable.
    pub(super) fn new(root: &Path) -> Files {
        let names = BTreeMap::from([(root.to_owned(), Node::Dir)]);
        Files { names, ..Files::default() }
    }

    /// One more call has ended.
    pub(super) fn take(&mut self, call: &Call) {
        let mut loose = |what| self.loose.push(Loose { call: self.calls, what });
        match call {
            Call::Create { path } => {
                let node = Node::File(self.contents.len());
                self.contents.push(Arc::default());
                loose(What::Name(Naming::Add(path.clone(), node)));
            }
            Call::MakeDir { path } => {
                loose(What::Name(Naming::Add(path.clone(), Node::Dir)));
            }
            Call::Remove { path } => loose(What::Name(Naming::Remove(path.clone()))),
            Call::Rename { from, to } => {
                loose(What::Name(Naming::Rename(from.clone(), to.clone())));
            }
            Call::Write { file, at, bytes, durable } => {
                let change = Change::Write { at: *at as usize, bytes: bytes.clone() };
                if *durable {
                    alter(Arc::make_mut(&mut self.contents[*file]), &change, |_| true);
                } else {
                    loose(What::Bytes(*file, change));
                }
            }
            Call::Length { file, length, grows } => {
                let change = Change::Length { length: *length as usize, grows: *grows };
                loose(What::Bytes(*file, change));
            }
            Call::Sync { file, covers } => self.keep(|loose| {
                loose.call < *covers && matches!(loose.what, What::Bytes(of, _) if of == *file)
            }),
            Call::SyncDir { path, covers } => self.keep(|loose| {
                let What::Name(naming) = &loose.what else { return false };
                loose.call < *covers && naming.is_in(path)
            }),
            Call::Said(_) => {}
        }
        self.calls += 1;
    }

    /// Makes durable what is named.
    fn keep(&mut self, which: impl Fn(&Loose) -> bool) {
        let (kept, loose) = std::mem::take(&mut self.loose).into_iter().partition(which);
        self.loose = loose;
        for loose in &kept {
            self.apply(loose, |_| true);
        }
    }

    fn apply(&mut self, loose: &Loose, came: impl FnMut(usize) -> bool) {
        match &loose.what {
            What::Bytes(file, change) => {
                alter(Arc::make_mut(&mut self.contents[*file]), change, came);
            }
            What::Name(naming) => naming.apply(&mut self.names),
        }
    }

    /// What a cut leaves when `fate` says, of each loose thing by its number and of each of its
    /// sectors, whether it came through. Things without sectors have one.
    pub(super) fn left(&self, mut fate: impl FnMut(usize, usize) -> bool) -> Files {
        let mut left = self.clone();
        for (number, loose) in self.loose.iter().enumerate() {
            if loose.sectors() > 0 {
                left.apply(loose, |sector| fate(number, sector));
            } else if fate(number, 0) {
                left.apply(loose, |_| true);
            }
        }
        left
    }

    /// Makes these files in a directory, in place of `root`.
    pub(super) fn make(&self, root: &Path, dir: &Path) -> std::io::Result<()> {
        let mut made = BTreeSet::from([root.parent()]);
        for (path, node) in &self.names {
            // A name may be durable in a directory whose own name is not.
            if !made.contains(&path.parent()) {
                continue;
            }
            made.insert(Some(path));
            let Ok(path) = path.strip_prefix(root) else { continue };
            let path = dir.join(path);
            match node {
                Node::Dir => fs::create_dir_all(&path)?,
                Node::File(number) => fs::write(&path, self.contents[*number].as_slice())?,
            }
        }
        Ok(())
    }
}

impl Naming {
    /// Whether the sync of a directory makes it durable.
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Naming::Add(path, _) | Naming::Remove(path) | Naming::Rename(_, path) => {
                path.parent() == Some(dir)
            }
        }
    }

    /// Changes the names, if there is what it takes.
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Naming::Add(path, node) => drop(names.insert(path.clone(), *node)),
            Naming::Remove(path) => names.retain(|other, _| !other.starts_with(path)),
            Naming::Rename(from, to) => {
                if !names.contains_key(from) {
                    return;
                }
                let moved: Vec<_> =
                    names.iter().filter(|(path, _)| path.starts_with(from)).collect();
                let moved: Vec<_> = moved
                    .into_iter()
                    .filter_map(|(path, node)| Some((path.strip_prefix(from).ok()?, *node)))
                    .map(|(rest, node)| {
                        // Joining nothing would end the path with a slash.
                        let whole = rest.as_os_str().is_empty();
                        (if whole { to.clone() } else { to.join(rest) }, node)
                    })
                    .collect();
                names.retain(|path, _| !path.starts_with(from) && !path.starts_with(to));
                names.extend(moved);
            }
        }
    }
}

/// Changes a file's bytes, of a write the sectors that came through.
fn alter(content: &mut Vec<u8>, change: &Change, mut came: impl FnMut(usize) -> bool) {
    match change {
        Change::Length { length, grows } => {
            if !grows || *length > content.len() {
                content.resize(*length, 0);
            }
        }
        Change::Write { at, bytes } => {
            let (end, mut from, mut sector) = (at + bytes.len(), *at, 0);
            while from < end {
                let to = (from / SECTOR * SECTOR + SECTOR).min(end);
                if came(sector) {
                    if content.len() < to {
                        content.resize(to, 0);
                    }
                    content[from..to].copy_from_slice(&bytes[from - at..to - at]);
                }
                (from, sector) = (to, sector + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Files, Node};
    use std::path::{Path, PathBuf};

    #[test]
    fn what_was_not_synced_may_be_lost() {
        let path = |name: &str| PathBuf::from("/d").join(name);
        let mut files = Files::new(Path::new("/d"));
        files.take(&Call::Create { path: path("a.new") });
        let bytes = vec![7; 1024];
        files.take(&Call::Write { file: 0, at: 0, bytes, durable: false });
        assert_eq!(files.loose.iter().map(super::Loose::sectors).collect::<Vec<_>>(), [0, 2]);
        let left = files.left(|number, sector| number == 0 || sector == 1);
        assert_eq!(*left.contents[0], [vec![0; 512], vec![7; 512]].concat());
        files.take(&Call::Sync { file: 0, covers: 2 });
        files.take(&Call::Rename { from: path("a.new"), to: path("a") });
        assert_eq!(files.left(|_, _| false).names.len(), 1, "nothing has a durable name");
        assert!(files.left(|_, _| true).names.contains_key(&path("a")));
        assert!(files.left(|number, _| number == 0).names.contains_key(&path("a.new")));
        files.take(&Call::SyncDir { path: "/d".into(), covers: 4 });
        assert!(files.loose.is_empty());
        assert_eq!(files.names.get(&path("a")), Some(&Node::File(0)));
    }
}
