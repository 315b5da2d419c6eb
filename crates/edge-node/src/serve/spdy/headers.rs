//! Header blocks of SPDY/3: names and values, compressed in one zlib stream per direction with a
//! preset dictionary. We inflate with a window that holds the dictionary already.

use std::collections::BTreeMap;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::dictionary::{LENGTH, dictionary};

/// How far back deflate reaches.
const WINDOW: usize = 32 << 10;
/// Bytes of the zlib header, and of the dictionary's checksum that may follow it.
const ZLIB_HEADER: usize = 2;
const CHECKSUM: usize = 4;
/// A bit of the header's second byte: the checksum follows.
const HAS_CHECKSUM: u8 = 0x20;
/// The largest header block that we take.
const BLOCK: usize = 64 << 10;

/// Reads header blocks.
pub(in crate::serve) struct Inflater {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    /// True once the zlib header has been passed over.
    begun: bool,
}

impl Inflater {
    pub(in crate::serve) fn new() -> Inflater {
        let mut window = vec![0; WINDOW];
        window[..LENGTH].copy_from_slice(&dictionary());
        Inflater { state: Box::default(), window, at: LENGTH, begun: false }
    }

    /// The headers of one block.
    pub(in crate::serve) fn read(
        &mut self,
        mut bytes: &[u8],
    ) -> Result<BTreeMap<String, String>, &'static str> {
        if !self.begun {
            let has_checksum = bytes.get(1).is_some_and(|flags| flags & HAS_CHECKSUM != 0);
            let skipped = ZLIB_HEADER + if has_checksum { CHECKSUM } else { 0 };
            bytes = bytes.get(skipped..).ok_or("a header block is cut short")?;
            self.begun = true;
        }
        let mut out = Vec::new();
        loop {
            let flags = TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) =
                decompress(&mut self.state, bytes, &mut self.window, self.at, flags);
            out.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            bytes = &bytes[read..];
            match status {
                TINFLStatus::HasMoreOutput if out.len() < BLOCK => {}
                TINFLStatus::NeedsMoreInput | TINFLStatus::Done => break,
                _ => return Err("a header block can't be inflated"),
            }
        }
        pairs(&out).ok_or("a header block is cut short")
    }
}

fn pairs(mut bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let number = |bytes: &mut &[u8]| {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        usize::try_from(u32::from_be_bytes(*head)).ok()
    };
    let text = |bytes: &mut &[u8]| {
        let length = number(bytes)?;
        let (head, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(String::from_utf8_lossy(head).into_owned())
    };
    let count = number(&mut bytes)?;
    let mut out = BTreeMap::new();
    for _ in 0..count {
        let name = text(&mut bytes)?;
        out.insert(name, text(&mut bytes)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn blocks_of_zlib_itself() {
        let mut inflater = Inflater::new();
        let first =
            inflater.read(&hex("78f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff"));
        assert_eq!(first.unwrap()["streamtype"], "error");
        let second = inflater.read(&hex("c22a054ccc29f9a52500000000ffff"));
        assert_eq!(second.unwrap()["streamtype"], "stdout");
        assert!(inflater.read(&[0xff; 20]).is_err());
    }

    #[test]
    fn blocks_without_a_dictionary() {
        use edge_client::spdy::block;
        let mut inflater = Inflater::new();
        for first in [true, false] {
            let read = inflater.read(&block(first, &[("port", "80"), ("a", "")])).unwrap();
            assert_eq!((read["port"].as_str(), read["a"].as_str()), ("80", ""));
        }
    }

    #[test]
    fn our_blocks_are_zlib() {
        use edge_client::spdy::block;
        use std::io::Read;
        let bytes = [block(true, &[]), block(false, &[])].concat();
        let mut out = [0xff; 8];
        flate2::read::ZlibDecoder::new(&bytes[..]).read_exact(&mut out).unwrap();
        assert_eq!(out, [0; 8]);
    }
}
