//! The file: a cover, and the stream behind it, packed and perhaps encrypted. It is written beside
//! its name, for its owner alone, and is only a backup once it was read back.

use super::fault;
use super::passphrase::Secret;
use super::vault::{Opener, Sealer, fresh_cover};
use crate::fault::Fault;
use edge_api::backup::{Broken, COVER_BYTES, Cover, End, Head, Reader, Sum};
use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;
use ring::digest;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// SHA-256 by ring.
#[derive(Clone)]
pub(super) struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256(digest::Context::new(&digest::SHA256))
    }
}

impl Sum for Sha256 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn hex(&self) -> String {
        let digest = self.0.clone().finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a backup holds, once it is known to be whole.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) end: End,
    /// The file's size.
    pub(super) bytes: u64,
    /// That of the stream in it.
    pub(super) plain: u64,
    pub(super) sealed: bool,
}

/// A file in the making.
pub(super) struct Draft {
    path: PathBuf,
    packer: ZlibEncoder<Out>,
}

enum Out {
    Plain(BufWriter<File>),
    Sealed(Box<Sealer<BufWriter<File>>>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::Plain(out) => out.write(bytes),
            Out::Sealed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft {
    /// Begins a file that only its owner may read, in place of what an earlier attempt left.
    pub(super) fn begin(path: &Path, secret: Option<&Secret>) -> Result<Draft, Fault> {
        let doing = |error| Fault::io(format!("write {}", path.display()), error);
        let _ = std::fs::remove_file(path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = BufWriter::new(options.open(path).map_err(doing)?);
        let out = match secret {
            None => {
                file.write_all(&Cover { lock: None }.write()).map_err(doing)?;
                Out::Plain(file)
            }
            Some(secret) => {
                let sealer = fresh_cover().and_then(|cover| {
                    let key = secret.key(&cover)?;
                    Sealer::begin(&key, &cover, file)
                });
                Out::Sealed(Box::new(sealer.map_err(doing)?))
            }
        };
        let packer = ZlibEncoder::new(out, Compression::default());
        Ok(Draft { path: path.to_owned(), packer })
    }

    /// More of the stream.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let doing = |error| Fault::io(format!("write {}", self.path.display()), error);
        self.packer.write_all(bytes).map_err(doing)
    }

    /// All of it is on the disk when this returns.
    pub(super) fn end(self) -> Result<(), Fault> {
        let doing = |error| Fault::io(format!("write {}", self.path.display()), error);
        let file = match self.packer.finish().map_err(doing)? {
            Out::Plain(file) => file,
            Out::Sealed(sealer) => sealer.end().map_err(doing)?,
        };
        let file = file.into_inner().map_err(|error| doing(error.into_error()))?;
        file.sync_all().map_err(doing)
    }
}

/// Gives what was written its name, which is on the disk as well when this returns.
pub(super) fn keep(part: &Path, file: &Path) -> io::Result<()> {
    std::fs::rename(part, file)?;
    sync_directory_of(file)
}

/// Has the disk know the names in the directory of this file.
pub(super) fn sync_directory_of(file: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(dir)?.sync_all() {
        // Some that are mounted over a network can't do that; the server there sees to it.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        done => done,
    }
}

/// The stream in a file.
pub(super) struct Plain(ZlibDecoder<BufReader<Opener<BufReader<File>>>>);

impl Read for Plain {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(out).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                io::Error::other(Broken::Damaged("it does not unpack"))
            }
            ErrorKind::UnexpectedEof => io::Error::other(Broken::Short),
            _ => error,
        })?;
        // What is packed has an end of its own, and nothing may follow it.
        if count == 0 && !out.is_empty() && !self.0.get_mut().fill_buf()?.is_empty() {
            return Err(io::Error::other(Broken::Long));
        }
        Ok(count)
    }
}

/// Opens the stream in a file; also says whether it is encrypted.
pub(super) fn open(path: &Path, secret: Option<&Secret>) -> Result<(Plain, bool), Fault> {
    let (file, cover) = cover(path)?;
    let sealed = cover.lock.is_some();
    let opener = match (&cover.lock, secret) {
        (None, _) => Opener::plain(file),
        (Some(_), Some(secret)) => {
            let key = secret.key(&cover);
            let opener = key.and_then(|key| Opener::sealed(&cover, &key, file));
            opener.map_err(|e| fault(path, &e.into()))?
        }
        (Some(_), None) => return Err(fault(path, &Broken::Locked.into())),
    };
    Ok((Plain(ZlibDecoder::new(BufReader::new(opener))), sealed))
}

fn reading(path: &Path, error: io::Error) -> Fault {
    Fault::io(format!("read {}", path.display()), error)
}

/// Whether a file needs a passphrase.
pub(super) fn is_sealed(path: &Path) -> Result<bool, Fault> {
    Ok(cover(path)?.1.lock.is_some())
}

fn cover(path: &Path) -> Result<(BufReader<File>, Cover), Fault> {
    let mut file = BufReader::new(File::open(path).map_err(|e| reading(path, e))?);
    let mut take = |count: usize, short: Broken| {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => fault(path, &short.into()),
            _ => reading(path, error),
        })?;
        Ok::<_, Fault>(bytes)
    };
    let told = |broken: Broken| fault(path, &broken.into());
    let mut bytes = take(COVER_BYTES, Broken::Foreign)?;
    bytes.extend(take(Cover::rest(&bytes).map_err(told)?, Broken::Short)?);
    let cover = Cover::read(&bytes).map_err(told)?;
    Ok((file, cover))
}

/// Reads a backup to its end, and believes nothing that it does not prove; `each` gets the bytes of
/// every piece.
pub(super) fn look(
    path: &Path,
    secret: Option<&Secret>,
    each: &mut dyn FnMut(usize),
) -> Result<Found, Fault> {
    let bytes = std::fs::metadata(path).map_err(|e| reading(path, e))?.len();
    let (plain, sealed) = open(path, secret)?;
    let counted = Counted { inner: plain, count: 0, each };
    let mut reader = Reader::begin(counted, Sha256::default()).map_err(|e| fault(path, &e))?;
    let end = reader.finish(|_| {}).map_err(|e| fault(path, &e))?;
    let (inner, head) = reader.into_parts();
    Ok(Found { head, end, bytes, plain: inner.count, sealed })
}

/// Counts what is read.
struct Counted<'a> {
    inner: Plain,
    count: u64,
    each: &'a mut dyn FnMut(usize),
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.count += count as u64;
        (self.each)(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_in_whichever_directory() {
        let name = format!("edgectl-keep-{}", std::process::id());
        // Also without a word for the directory, which is where we are then.
        for file in [std::env::temp_dir().join(&name), PathBuf::from(&name)] {
            let part = file.with_extension("part");
            std::fs::write(&part, "whole").unwrap();
            keep(&part, &file).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), b"whole");
            assert!(!part.exists());
            std::fs::remove_file(&file).unwrap();
        }
        assert!(keep(Path::new("/nowhere/a"), Path::new("/nowhere/b")).is_err());
    }
}
