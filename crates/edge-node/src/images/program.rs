//! What a running program consists of: its own file and, if it is linked dynamically, its loader
//! and libraries, found where the kernel has them mapped. So an image can be made of a development
//! build as well as of a static one.

use super::build::{Content, Item};
use super::error::ImageError;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// More program headers than this are no program of ours.
const HEADERS_MAX: u64 = 128;
const INTERPRETER: u32 = 3;

/// The files for an image in which this very process' program is at `path`.
pub(super) fn items(executable: &Path, path: &str) -> Result<Vec<Item>, ImageError> {
    let failed = |e: io::Error| ImageError::file("examine", executable, &e);
    let mut items =
        vec![Item { path: path.to_string(), content: Content::Program(executable.to_path_buf()) }];
    let Some(loader) = interpreter(executable).map_err(failed)? else { return Ok(items) };
    let real = fs::canonicalize(executable).map_err(failed)?;
    for library in mapped().map_err(failed)?.into_iter().filter(|library| *library != real) {
        for alias in aliases(&library).map_err(failed)? {
            items.push(alias);
        }
        let path = library.to_string_lossy().into_owned();
        items.push(Item { path, content: Content::Program(library) });
    }
    // The program names its loader by a path that is often a link.
    let target = fs::canonicalize(&loader).map_err(|e| ImageError::file("find", &loader, &e))?;
    let known = |path: &Path| items.iter().any(|item| Path::new(&item.path) == path);
    if !known(&target) {
        let path = target.to_string_lossy().into_owned();
        items.push(Item { path, content: Content::Program(target.clone()) });
    }
    if !items.iter().any(|item| Path::new(&item.path) == loader) {
        let path = loader.to_string_lossy().into_owned();
        let content = Content::Link(target.to_string_lossy().into_owned());
        items.push(Item { path, content });
    }
    Ok(items)
}

/// All shared objects that this process has mapped.
fn mapped() -> io::Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let paths: BTreeSet<PathBuf> = paths.map(PathBuf::from).collect();
    Ok(paths.into_iter().filter(|path| is_elf(path)).collect())
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

/// Links beside a library that lead to it: programs ask for `libc.so.6`, whatever the file's name.
fn aliases(library: &Path) -> io::Result<Vec<Item>> {
    let (Some(dir), Some(name)) = (library.parent(), library.file_name()) else {
        return Ok(Vec::new());
    };
    let stem = name.to_string_lossy();
    let stem = stem.split(['.', '-']).next().unwrap_or_default().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let alias = entry.file_name();
        let related = alias.to_string_lossy().starts_with(&stem) && alias != name;
        if related
            && entry.file_type()?.is_symlink()
            && fs::canonicalize(entry.path()).is_ok_and(|target| target == library)
        {
            let path = entry.path().to_string_lossy().into_owned();
            let content = Content::Link(name.to_string_lossy().into_owned());
            found.push(Item { path, content });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The loader that an ELF file asks for; `None` if it is static.
fn interpreter(path: &Path) -> io::Result<Option<PathBuf>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is no ELF program of this board");
    let mut file = File::open(path)?;
    let mut head = [0u8; 64];
    file.read_exact(&mut head)?;
    let wide = match (&head[..4], head[4], head[5]) {
        (b"\x7fELF", 1, 1) => false,
        (b"\x7fELF", 2, 1) => true,
        _ => return Err(bad()),
    };
    let (table, size, count) = if wide {
        (number(&head[32..40]), number(&head[54..56]), number(&head[56..58]))
    } else {
        (number(&head[28..32]), number(&head[42..44]), number(&head[44..46]))
    };
    let expected = if wide { 56 } else { 32 };
    if count > HEADERS_MAX || size != expected {
        return Err(bad());
    }
    for index in 0..count {
        let mut header = vec![0u8; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(table + index * size))?;
        file.read_exact(&mut header)?;
        if number(&header[..4]) != u64::from(INTERPRETER) {
            continue;
        }
        let (offset, length) = if wide {
            (number(&header[8..16]), number(&header[32..40]))
        } else {
            (number(&header[4..8]), number(&header[16..20]))
        };
        let mut name = Vec::new();
        file.seek(SeekFrom::Start(offset))?;
        file.by_ref().take(length.min(4096)).read_to_end(&mut name)?;
        let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
        return String::from_utf8(name).map(|name| Some(PathBuf::from(name))).map_err(|_| bad());
    }
    Ok(None)
}

/// Little-endian, up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
