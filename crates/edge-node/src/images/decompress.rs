//! Layers and archives come plain, gzipped (several members in a row, too) or as zstd frames; which
//! one is seen from the first bytes, since media types are often wrong.

use super::error::{ImageError, smuggle};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::BlockDecodingStrategy;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use std::io::{self, BufRead, BufReader, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames have magics 0x184D2A50 to 0x184D2A5F; zstd:chunked starts with none.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const BUFFER: usize = 64 * 1024;

/// A reader of the uncompressed bytes of `inner`.
pub(crate) enum Decompressor<R: Read> {
    Plain(BufReader<Prefixed<R>>),
    Gzip(Box<MultiGzDecoder<BufReader<Prefixed<R>>>>),
    Zstd(Box<Frames<BufReader<Prefixed<R>>>>),
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes and decides.
    pub(crate) fn new(mut inner: R) -> io::Result<Decompressor<R>> {
        let mut head = [0u8; 4];
        let mut have = 0;
        while have < head.len() {
            match inner.read(&mut head[have..])? {
                0 => break,
                n => have += n,
            }
        }
        let source = BufReader::with_capacity(BUFFER, Prefixed { head, have, at: 0, inner });
        let skippable = head[1..] == SKIPPABLE && head[0] & 0xf0 == 0x50;
        Ok(if head[..2] == GZIP {
            Decompressor::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if head == ZSTD || skippable {
            Decompressor::Zstd(Box::new(Frames::new(source)))
        } else {
            Decompressor::Plain(source)
        })
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressor::Plain(inner) => inner.read(buf),
            Decompressor::Gzip(inner) => inner.read(buf),
            Decompressor::Zstd(inner) => inner.read(buf),
        }
    }
}

/// The sniffed bytes, then the rest.
pub(crate) struct Prefixed<R> {
    head: [u8; 4],
    have: usize,
    at: usize,
    inner: R,
}

impl<R: Read> Read for Prefixed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at < self.have {
            let n = buf.len().min(self.have - self.at);
            buf[..n].copy_from_slice(&self.head[self.at..self.at + n]);
            self.at += n;
            return Ok(n);
        }
        self.inner.read(buf)
    }
}

/// Zstd frames one after the other, skippable ones skipped.
pub(crate) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Frames<R> {
        Frames { source, decoder: FrameDecoder::new(), open: false }
    }

    /// Opens the next frame; false at the end of the input.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let wanted = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(wanted), &mut io::sink())?;
                    if skipped != wanted {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(bad_frame(&error)),
            }
        }
    }
}

fn bad_frame(error: &FrameDecoderError) -> io::Error {
    smuggle(ImageError::malformed("zstd data", error.to_string()))
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                if !self.advance()? {
                    return Ok(0);
                }
                self.open = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(BUFFER);
                self.decoder
                    .decode_blocks(&mut self.source, strategy)
                    .map_err(|error| bad_frame(&error))?;
            }
            let n = self.decoder.read(buf)?;
            if n > 0 {
                return Ok(n);
            }
            self.open = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressor::new(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn all_forms_come_out_plain() {
        let a = vec![b'a'; 200_000];
        let b: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let both = [a.clone(), b.clone()].concat();
        assert_eq!(read(&both).unwrap(), both);
        assert_eq!(read(&[gzip(&a), gzip(&b)].concat()).unwrap(), both);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let frames = [zstd(&a), skippable.clone(), zstd(&b), skippable.clone()].concat();
        assert_eq!(read(&frames).unwrap(), both);
        assert_eq!(read(&[skippable, zstd(&a)].concat()).unwrap(), a);
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"ab").unwrap(), b"ab");
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let a: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
        for whole in [gzip(&a), zstd(&a)] {
            for cut in [5, whole.len() / 2, whole.len() - 1] {
                assert!(read(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
            }
        }
    }
}
