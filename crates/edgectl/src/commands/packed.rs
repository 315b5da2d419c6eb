//! Files that are packed with zstd or gzip, read unpacked as they come.

use crate::fault::Fault;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fmt::Display;
use std::io::{self, BufRead, Read};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Packings that are known and not unpacked here, and what unpacks them.
const OTHERS: [(&[u8], &str); 3] =
    [(b"\xfd7zXZ", "xz -d"), (b"PK\x03\x04", "unzip"), (b"BZh", "bzip2 -d")];

/// Bytes that are unpacked at a time.
const STEP: usize = 256 << 10;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all, as far as is known here.
    Plain,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
    /// Otherwise: what unpacks it.
    Other(&'static str),
}

impl Packing {
    /// That of a file that begins so.
    pub(super) fn of(head: &[u8]) -> Packing {
        match OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
            Some((_, tool)) => Packing::Other(tool),
            None if head.starts_with(GZIP) => Packing::Gzip,
            None if head.starts_with(ZSTD) => Packing::Zstd,
            None => Packing::Plain,
        }
    }
}

/// Reads a file unpacked; `shown` names it.
///
/// # Errors
/// When it can't be read, or is packed in a way that is not known here.
pub(super) fn unpack<R: BufRead + 'static>(
    shown: impl Display,
    mut source: R,
) -> Result<Box<dyn Read>, Fault> {
    let head = source.fill_buf().map_err(|e| Fault::io(format!("read {shown}"), e))?;
    Ok(match Packing::of(head) {
        Packing::Plain => Box::new(source),
        Packing::Gzip => Box::new(MultiGzDecoder::new(source)),
        Packing::Zstd => Box::new(Zstd { source, decoder: FrameDecoder::new(), open: false }),
        Packing::Other(tool) => {
            let what = format!("it is packed in a way that is not known here: `{tool}` it");
            return Err(Fault::text(format!("{shown}: {what}")));
        }
    })
}

/// The file ends, or is nonsense, in the middle.
pub(super) fn broken(shown: impl Display, error: &io::Error) -> Fault {
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            format!("it is damaged ({error})")
        }
        _ => return Fault::io(format!("read {shown}"), io::Error::other(error.to_string())),
    };
    Fault::text(format!("{shown}: {what}: get it again"))
}

/// Frames of zstd, one after the other, each with its checksum.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Zstd<R> {
    /// What the decoder says does not tell an end from nonsense; the source does.
    fn wrong(&mut self, error: impl Display) -> io::Error {
        match self.source.fill_buf() {
            Ok([]) => io::ErrorKind::UnexpectedEof.into(),
            _ => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.open {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                let reset = self.decoder.reset(&mut self.source);
                reset.map_err(|e| self.wrong(e))?;
                self.open = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(STEP);
                let decoded = self.decoder.decode_blocks(&mut self.source, strategy);
                decoded.map_err(|e| self.wrong(e))?;
            }
            let n = self.decoder.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let told = self.decoder.get_checksum_from_data();
            if told.is_some() && told != self.decoder.get_calculated_checksum() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is another"));
            }
            self.open = false;
        }
    }
}
