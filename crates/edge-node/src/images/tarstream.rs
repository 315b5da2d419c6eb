//! Reads a tar stream entry by entry: ustar, GNU and PAX, sparse files of all four kinds. The
//! header fields are parsed by the `tar` crate; the iteration is ours, so that a stranger's archive
//! can't make us hold a gigabyte of name in memory, and every parser difference that has been used
//! to smuggle entries (a PAX size beside a header size) is settled as Go's reader settles it.

use super::pax::{Pax, Sparse};
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

const BLOCK: usize = 512;
/// Long names, link targets and PAX records larger than this are refused.
const EXTENSION_MAX: u64 = 1 << 20;
/// More data runs than this in one sparse file are refused.
pub(super) const SPARSE_MAX: usize = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry; its data, if any, is read from the [`TarReader`] before the next is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Size of the file once unpacked, holes included.
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of each run of data; `None` for an ordinary file.
    pub(crate) runs: Option<Vec<(u64, u64)>>,
}

/// The reader. After [`TarReader::next`] gave an entry, reading gives the entry's stored data.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Bytes of the current entry's data not yet read.
    left: u64,
    /// Filler after it, up to the next block.
    pad: u64,
    done: bool,
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Pax,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> TarReader<R> {
        TarReader { inner, left: 0, pad: 0, done: false }
    }

    /// The source, to drain what follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if extended {
                    return Err(bad("the archive ends after an extension header"));
                }
                return Ok(None);
            };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|_| bad("a header has no readable size"))?;
            match kind {
                EntryType::GNULongName => {
                    extensions.path = Some(until_nul(self.extension(size)?));
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(until_nul(self.extension(size)?));
                }
                EntryType::XHeader => {
                    let records = self.extension(size)?;
                    extensions.pax = Pax::parse(&records)?;
                }
                EntryType::XGlobalHeader => {
                    self.extension(size)?;
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
            extended = kind != EntryType::XGlobalHeader;
        }
    }

    /// One checked header; `None` at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut zeros = 0;
        loop {
            let mut header = Header::new_old();
            if self.done || !self.block(header.as_mut_bytes())? {
                self.done = true;
                return Ok(None);
            }
            if header.as_bytes().iter().all(|b| *b == 0) {
                zeros += 1;
                if zeros == 2 {
                    self.done = true;
                    return Ok(None);
                }
                continue;
            }
            if zeros > 0 {
                return Err(bad("a lone block of zeros stands between two entries"));
            }
            let sum: u32 = header.as_bytes()[..148]
                .iter()
                .chain(&header.as_bytes()[156..])
                .fold(8 * 32, |sum, byte| sum + u32::from(*byte));
            if header.cksum().ok() != Some(sum) {
                return Err(bad(
                    "a header's checksum is wrong: this is no tar archive, or damaged",
                ));
            }
            return Ok(Some(header));
        }
    }

    /// Fills a block; false when the input ends cleanly before it.
    fn block(&mut self, block: &mut [u8]) -> io::Result<bool> {
        let mut have = 0;
        while have < BLOCK {
            match self.inner.read(&mut block[have..BLOCK]) {
                Ok(0) if have == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// The whole data of an extension header.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(bad(format!("an extension header of {size} bytes (a name that long?)")));
        }
        self.begin(size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        Ok(data)
    }

    fn begin(&mut self, stored: u64) -> io::Result<()> {
        let padded = stored
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or_else(|| bad("an entry's size is beyond any file"))?;
        self.left = stored;
        self.pad = padded - stored;
        Ok(())
    }

    /// Moves behind the current entry.
    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.pad;
        (self.left, self.pad) = (0, 0);
        if io::copy(&mut (&mut self.inner).take(rest), &mut io::sink())? != rest {
            return Err(truncated());
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> io::Result<Entry> {
        let Extensions { path, link, pax } = extensions;
        let path = pax.path.or(path).unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&path).into_owned();
        let kind = match header.entry_type() {
            EntryType::Regular if header.as_old().linkflag == [0] && path.ends_with(b"/") => {
                Kind::Directory
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let byte = other.as_byte();
                return Err(bad(format!("{shown}: entries of type {byte:#04x} are unknown")));
            }
        };
        let link = pax.link.or(link).or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
        if path.contains(&0) || link.as_ref().is_some_and(|l| l.contains(&0)) {
            return Err(bad(format!("{shown}: a zero byte in a name")));
        }
        let id = |pax: Option<u32>, field: io::Result<u64>, what: &str| match pax {
            Some(id) => Ok(id),
            None => field
                .ok()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| bad(format!("{shown}: no usable {what}"))),
        };
        let mut entry = Entry {
            kind,
            link: link.unwrap_or_default(),
            mode: header.mode().map_err(|_| bad(format!("{shown}: no readable mode")))? & 0o7777,
            uid: id(pax.uid, header.uid(), "owner")?,
            gid: id(pax.gid, header.gid(), "group")?,
            mtime: pax.mtime.unwrap_or_else(|| (seconds(header), 0)),
            size: 0,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: pax.xattrs,
            runs: None,
            path,
        };
        if kind == Kind::File {
            let stored = match pax.size {
                Some(size) => size,
                None => header.entry_size()?,
            };
            self.data(header, &mut entry, stored, pax.sparse)
                .map_err(|e| io::Error::new(e.kind(), format!("{shown}: {e}")))?;
        }
        Ok(entry)
    }

    /// Makes a file's data readable and finds its holes.
    fn data(
        &mut self,
        header: &Header,
        entry: &mut Entry,
        stored: u64,
        sparse: Option<Sparse>,
    ) -> io::Result<()> {
        entry.size = stored;
        if header.entry_type().is_gnu_sparse() {
            let gnu = header.as_gnu().ok_or_else(|| bad("sparse, but no GNU header"))?;
            let mut runs = Vec::new();
            add_runs(&mut runs, &gnu.sparse)?;
            let mut more = gnu.is_extended();
            while more {
                let mut extension = GnuExtSparseHeader::new();
                if !self.block(extension.as_mut_bytes())? {
                    return Err(truncated());
                }
                add_runs(&mut runs, &extension.sparse)?;
                more = extension.is_extended();
            }
            entry.size = gnu.real_size()?;
            entry.runs = Some(runs);
            self.begin(stored)?;
        } else {
            self.begin(stored)?;
            if let Some(sparse) = sparse {
                let (name, size, runs) = sparse.resolve(self)?;
                if let Some(name) = name {
                    entry.path = name;
                }
                entry.size = size;
                entry.runs = Some(runs);
            }
        }
        match &entry.runs {
            None => Ok(()),
            Some(runs) => check_runs(runs, entry.size, self.left),
        }
    }
}

/// Runs must lie in order within the file and take up exactly the stored data.
fn check_runs(runs: &[(u64, u64)], size: u64, stored: u64) -> io::Result<()> {
    let mut end = 0u64;
    let mut total = 0u64;
    for (offset, length) in runs {
        if *offset < end {
            return Err(bad("runs of a sparse file overlap"));
        }
        end = offset.checked_add(*length).ok_or_else(|| bad("a sparse file beyond any size"))?;
        total += length;
    }
    if end > size || total != stored {
        return Err(bad("the map of a sparse file doesn't fit its size"));
    }
    Ok(())
}

fn add_runs(runs: &mut Vec<(u64, u64)>, headers: &[GnuSparseHeader]) -> io::Result<()> {
    for header in headers.iter().filter(|h| !h.is_empty()) {
        if runs.len() == SPARSE_MAX {
            return Err(bad("too many runs in a sparse file"));
        }
        runs.push((header.offset()?, header.length()?));
    }
    Ok(())
}

/// Times before 1970 are two's complement in base 256, which the `tar` crate doesn't take.
fn seconds(header: &Header) -> i64 {
    let field = &header.as_old().mtime;
    if field[0] == 0xff {
        let tail: [u8; 8] = field[4..].try_into().unwrap_or_default();
        return i64::from_be_bytes(tail);
    }
    header.mtime().ok().and_then(|s| i64::try_from(s).ok()).unwrap_or(0)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off in the middle of an entry")
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..want])?;
        if n == 0 {
            return Err(truncated());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
