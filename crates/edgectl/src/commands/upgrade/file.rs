//! Programs on the person's disk, or in memory when they were packed or fetched: looked into
//! without being run.

use crate::commands::packed::{self, Packing};
use crate::fault::Fault;
use bytes::Bytes;
use edge_api::release::{Look, Version};
use ring::digest;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

/// The longest signature file.
pub(super) const SIGNATURE_BYTES: u64 = 4096;
/// The longest program that boards take.
const MOST_BYTES: u64 = 256 << 20;
/// The longest program that is held in memory here, since it was packed or fetched.
pub(super) const HELD_BYTES: u64 = 128 << 20;

/// Where a program's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// On the disk.
    File(PathBuf),
    /// Here.
    Held(Bytes),
}

/// What can be read from any place on.
pub(super) trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// A program for one kind of board.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// What it is called when it is spoken of.
    pub(super) shown: String,
    pub(super) content: Content,
    pub(super) version: Version,
    pub(super) arch: String,
    pub(super) bytes: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
    /// The text of its `.minisig` file.
    pub(super) signature: Option<String>,
}

impl Program {
    /// Looks into a program.
    ///
    /// # Errors
    /// When it is no edged, or can't be read.
    pub(super) fn look(
        shown: String,
        content: Content,
        signature: Option<String>,
    ) -> Result<Program, Fault> {
        let mut sha256 = digest::Context::new(&digest::SHA256);
        let mut source = content.open(&shown)?;
        let look = Look::through(|piece| source.read(piece), |piece| sha256.update(piece));
        let look = look.map_err(|error| Fault::io(format!("read {shown}"), error))?;
        let found = look.found().map_err(|error| Fault::text(format!("{shown}: {error}")))?;
        let sha256 = sha256.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Program {
            shown,
            content,
            version: found.version,
            arch: found.arch.to_owned(),
            bytes: found.bytes,
            sha256,
            signature,
        })
    }
}

impl Content {
    /// Its bytes, to be read; `shown` names it.
    pub(super) fn open(&self, shown: &str) -> Result<Box<dyn Source>, Fault> {
        Ok(match self {
            Content::Held(bytes) => Box::new(Cursor::new(bytes.clone())),
            Content::File(path) => {
                let file = File::open(path);
                Box::new(file.map_err(|error| Fault::io(format!("read {shown}"), error))?)
            }
        })
    }
}

/// Unpacks a program, of so many bytes at most.
pub(super) fn unpacked(
    shown: &str,
    source: impl BufRead + 'static,
    most: u64,
) -> Result<Bytes, Fault> {
    let mut bytes = Vec::new();
    let mut limited = packed::unpack(shown, source)?.take(most + 1);
    limited.read_to_end(&mut bytes).map_err(|error| packed::broken(shown, &error))?;
    if bytes.len() as u64 > most {
        let most = most >> 20;
        let line = format!("{shown}: it unpacks to more than {most} MiB: it is no edged");
        return Err(Fault::text(line));
    }
    Ok(bytes.into())
}

/// All programs that were named: of one version, each for another kind of board.
pub(super) fn load(named: &[PathBuf]) -> Result<Vec<Program>, Fault> {
    let mut programs: Vec<Program> = Vec::new();
    for path in named {
        if path.is_dir() {
            let found = inside(path)?;
            if found.is_empty() {
                return Err(Fault::text(format!("{} holds no edged", path.display())));
            }
            for file in found {
                programs.push(read(&file)?);
            }
        } else {
            programs.push(read(path)?);
        }
    }
    agree(&programs)?;
    Ok(programs)
}

/// All are of one version, each for another kind of board.
fn agree(programs: &[Program]) -> Result<(), Fault> {
    for (at, program) in programs.iter().enumerate() {
        let (first, shown) = (&programs[0], &program.shown);
        if program.version != first.version {
            return Err(Fault::text(format!(
                "{} is edged {} and {shown} is {}: bring one version at a time",
                first.shown, first.version, program.version
            )));
        }
        if let Some(other) = programs[..at].iter().find(|other| other.arch == program.arch) {
            let (other, arch) = (&other.shown, &program.arch);
            return Err(Fault::text(format!("{other} and {shown} are both for {arch}")));
        }
    }
    Ok(())
}

/// The programs in a directory: those that begin as one, and what is packed and called edged,
/// unless it lies there unpacked too.
fn inside(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let doing = |error| Fault::io(format!("read {}", dir.display()), error);
    let mut found: Vec<(PathBuf, Packing)> = Vec::new();
    for entry in fs::read_dir(dir).map_err(doing)? {
        let path = entry.map_err(doing)?.path();
        let mut head = [0; 4];
        // Asked first: to open a pipe waits for whoever writes to it.
        let Some(Ok(mut file)) = path.is_file().then(|| File::open(&path)) else { continue };
        if file.read_exact(&mut head).is_err() {
            continue;
        }
        let name = path.file_name().unwrap_or_default();
        let called = name.as_encoded_bytes().starts_with(b"edged");
        match Packing::of(&head) {
            Packing::Plain if head == *b"\x7fELF" => found.push((path, Packing::Plain)),
            packing @ (Packing::Zstd | Packing::Gzip) if called => found.push((path, packing)),
            _ => {}
        }
    }
    let plain = |path: &Path| {
        let bare = path.with_extension("");
        found.iter().any(|(other, packing)| *packing == Packing::Plain && *other == bare)
    };
    let wanted = found.iter().filter(|(path, packing)| *packing == Packing::Plain || !plain(path));
    let mut wanted: Vec<PathBuf> = wanted.map(|(path, _)| path.clone()).collect();
    wanted.sort();
    Ok(wanted)
}

/// Reads one file, packed or not.
pub(super) fn read(path: &Path) -> Result<Program, Fault> {
    let shown = path.display().to_string();
    let doing = |error| Fault::io(format!("read {shown}"), error);
    // Before it is opened: to open a pipe waits for whoever writes to it.
    let about = fs::metadata(path).map_err(doing)?;
    if !about.is_file() {
        return Err(Fault::text(format!("{shown}: it is no file")));
    }
    if about.len() > MOST_BYTES {
        let (has, most) = (about.len().div_ceil(1 << 20), MOST_BYTES >> 20);
        return Err(Fault::text(format!("{shown} has {has} MiB, edged at most {most}")));
    }
    let (mut file, mut head) = (File::open(path).map_err(doing)?, Vec::new());
    file.by_ref().take(8).read_to_end(&mut head).map_err(doing)?;
    file.rewind().map_err(doing)?;
    match Packing::of(&head) {
        Packing::Plain => Program::look(shown, Content::File(path.to_owned()), signature(path)?),
        _ => {
            let bytes = unpacked(&shown, BufReader::new(file), HELD_BYTES)?;
            let signature = signature_of_packed(path)?;
            Program::look(shown, Content::Held(bytes), signature)
        }
    }
}

/// `path` with `.minisig` behind it.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".minisig");
    beside.into()
}

/// The signature of a program that lies here packed, which is that of the program.
fn signature_of_packed(path: &Path) -> Result<Option<String>, Fault> {
    let (bare, packed) = (path.with_extension(""), beside(path));
    match signature(&bare)? {
        None if packed.exists() => Err(Fault::text(format!(
            "{} signs what is packed, and boards verify the program: sign that, as {}",
            packed.display(),
            beside(&bare).display()
        ))),
        found => Ok(found),
    }
}

/// What stands in the file's `.minisig`, if there is one.
fn signature(path: &Path) -> Result<Option<String>, Fault> {
    let beside = beside(path);
    let doing = |error| Fault::io(format!("read {}", beside.display()), error);
    match fs::metadata(&beside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(doing(error)),
        Ok(found) if found.len() > SIGNATURE_BYTES || !found.is_file() => {
            Err(Fault::text(format!("{} is no signature of minisign", beside.display())))
        }
        Ok(_) => fs::read_to_string(&beside).map(Some).map_err(doing),
    }
}

#[cfg(test)]
#[path = "file/tests.rs"]
pub(super) mod tests;
