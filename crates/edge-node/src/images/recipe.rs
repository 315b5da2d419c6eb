//! How to make a layer's tar stream again, byte for byte, from its unpacked tree: what the tree
//! doesn't hold (headers, padding, entries that left no file) is noted while the layer is unpacked,
//! and for the rest it says which file's bytes go there. So a layer can be handed to another board,
//! which checks the whole against the digest in the image's configuration, and the card holds each
//! file once. (The idea is tar-split's, by Vincent Batts.)

use super::unpack::open_file;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::rc::Rc;

/// Begins every recipe; another version would begin otherwise.
const MAGIC: &[u8; 8] = b"edrecip1";
/// Noted bytes are cut into pieces of this size.
const PIECE: usize = 32 * 1024;
/// No path in a layer is longer, and none in a recipe.
const PATH_MAX: u64 = 8 * 1024;
const COPY_BUFFER: usize = 64 * 1024;

const END: u8 = 0;
const NOTED: u8 = 1;
const CONTENT: u8 = 2;

/// Takes the notes; clones write into the same recipe.
#[derive(Clone)]
pub(super) struct Notes(Rc<RefCell<Writer>>);

struct Writer {
    out: DeflateEncoder<BufWriter<File>>,
    noted: Vec<u8>,
    /// Bytes to come that are in the tree.
    content: u64,
    spoilt: bool,
    failed: Option<io::Error>,
}

impl Notes {
    /// Begins a recipe in a new file.
    pub(super) fn create(path: &Path) -> io::Result<Notes> {
        let mut file = BufWriter::new(File::create_new(path)?);
        file.write_all(MAGIC)?;
        let out = DeflateEncoder::new(file, Compression::default());
        let noted = Vec::with_capacity(PIECE);
        let writer = Writer { out, noted, content: 0, spoilt: false, failed: None };
        Ok(Notes(Rc::new(RefCell::new(writer))))
    }

    /// The next `length` bytes of the stream stand in the tree's file at `path`, from `offset`.
    pub(super) fn content(&self, path: &[u8], offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let writer = &mut *self.0.borrow_mut();
        writer.flush();
        let mut segment = vec![CONTENT];
        number(&mut segment, path.len() as u64);
        segment.extend_from_slice(path);
        number(&mut segment, offset);
        number(&mut segment, length);
        writer.write(&segment);
        writer.content = length;
    }

    /// Something that was referred to is no longer in the tree.
    pub(super) fn spoil(&self) {
        self.0.borrow_mut().spoilt = true;
    }

    /// Ends the recipe; false if it can't be followed.
    pub(super) fn finish(&self) -> io::Result<bool> {
        let writer = &mut *self.0.borrow_mut();
        writer.flush();
        writer.write(&[END]);
        if let Some(error) = writer.failed.take() {
            return Err(error);
        }
        writer.out.try_finish()?;
        writer.out.get_mut().flush()?;
        Ok(!writer.spoilt)
    }
}

impl Writer {
    fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.content > 0 {
                let known = usize::try_from(self.content).unwrap_or(usize::MAX).min(bytes.len());
                self.content -= known as u64;
                bytes = &bytes[known..];
                continue;
            }
            let taken = bytes.len().min(PIECE - self.noted.len());
            self.noted.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.noted.len() == PIECE {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.noted.is_empty() {
            return;
        }
        let mut head = vec![NOTED];
        number(&mut head, self.noted.len() as u64);
        self.write(&head);
        let noted = std::mem::take(&mut self.noted);
        self.write(&noted);
        self.noted = noted;
        self.noted.clear();
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() && !self.spoilt {
            self.failed = self.out.write_all(bytes).err();
        }
    }
}

/// Seven bits a byte, the lowest first.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// A reader that shows all that passes to the notes.
pub(super) struct Noting<R> {
    inner: R,
    notes: Notes,
}

impl<R: Read> Noting<R> {
    pub(super) fn new(inner: R, notes: Notes) -> Noting<R> {
        Noting { inner, notes }
    }
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.notes.0.borrow_mut().saw(&buf[..n]);
        Ok(n)
    }
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a layer's recipe: {text}"))
}

/// Makes the stream again, without its first `skip` bytes; `give` takes it piece by piece, and
/// ends it by answering false.
pub(super) fn follow(
    recipe: &Path,
    tree: &Path,
    mut skip: u64,
    mut give: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut file = BufReader::new(File::open(recipe)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(bad("it is of another version"));
    }
    let root = super::unpack::open_root(tree)?;
    let mut segments = DeflateDecoder::new(file);
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        match byte(&mut segments)? {
            END => return Ok(()),
            NOTED => {
                let length = bounded(&mut segments, PIECE as u64)?;
                segments.read_exact(&mut buffer[..length])?;
                let from = usize::try_from(skip).unwrap_or(usize::MAX).min(length);
                skip -= from as u64;
                if from < length && !give(&buffer[from..length]) {
                    return Ok(());
                }
            }
            CONTENT => {
                let mut path = vec![0; bounded(&mut segments, PATH_MAX)?];
                segments.read_exact(&mut path)?;
                let (offset, length) = (read_number(&mut segments)?, read_number(&mut segments)?);
                let from = skip.min(length);
                skip -= from;
                if from < length {
                    let file = open_file(&root, &path)?;
                    let mut at = offset.checked_add(from).ok_or_else(|| bad("an offset"))?;
                    let mut left = length - from;
                    while left > 0 {
                        let want = usize::try_from(left).unwrap_or(COPY_BUFFER).min(COPY_BUFFER);
                        let n =
                            std::os::unix::fs::FileExt::read_at(&file, &mut buffer[..want], at)?;
                        if n == 0 {
                            return Err(bad("a file is shorter than it was"));
                        }
                        if !give(&buffer[..n]) {
                            return Ok(());
                        }
                        at += n as u64;
                        left -= n as u64;
                    }
                }
            }
            _ => return Err(bad("it is damaged")),
        }
    }
}

fn byte(source: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    source.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn read_number(source: &mut impl Read) -> io::Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(source)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(bad("a number beyond any"))
}

fn bounded(source: &mut impl Read, most: u64) -> io::Result<usize> {
    let value = read_number(source)?;
    if value > most {
        return Err(bad("a length beyond any"));
    }
    usize::try_from(value).map_err(|_| bad("a length beyond any"))
}
