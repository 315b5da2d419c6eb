//! Reads a stream from anywhere, and tells its head, its pieces and, only if all of it was as it
//! was written, its end.

use super::{Broken, End, FRAME_HEAD, Frames, Head, Letter};
use std::fmt;
use std::io::{self, Read};

/// Bytes that are read at a time.
const READ_BYTES: usize = 32 * 1024;

/// A SHA-256 in the making, whosever it is.
pub trait Sum: Clone {
    /// Takes more bytes.
    fn update(&mut self, bytes: &[u8]);
    /// What it is so far, in hex.
    fn hex(&self) -> String;
}

/// Why a backup was not read to its end.
#[derive(Debug)]
pub enum ReadError {
    /// It is none that can be used.
    Broken(Broken),
    /// It could not be read.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Broken(broken) => write!(f, "{broken}"),
            ReadError::Io(error) => write!(f, "it cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<Broken> for ReadError {
    fn from(broken: Broken) -> ReadError {
        ReadError::Broken(broken)
    }
}

impl From<io::Error> for ReadError {
    /// A reader beneath may have found out that it is broken.
    fn from(error: io::Error) -> ReadError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Broken>()) {
            Some(broken) => ReadError::Broken(broken.clone()),
            None => ReadError::Io(error),
        }
    }
}

/// A stream that is being read.
pub struct Reader<R, S> {
    inner: R,
    sum: S,
    frames: Frames,
    /// What it begins with.
    pub head: Head,
    /// What it ended with, once it has.
    pub end: Option<End>,
    piece: io::Cursor<Vec<u8>>,
}

impl<R: Read, S: Sum> Reader<R, S> {
    /// Reads the head.
    ///
    /// # Errors
    /// When there is none.
    pub fn begin(inner: R, sum: S) -> Result<Reader<R, S>, ReadError> {
        let piece = io::Cursor::default();
        let (frames, head) = (Frames::default(), Head::default());
        let mut reader = Reader { inner, sum, frames, head, end: None, piece };
        let frame = reader.frame()?;
        let damaged = |_| Broken::Damaged("its head");
        reader.head = serde_json::from_slice(&frame[FRAME_HEAD..]).map_err(damaged)?;
        Ok(reader)
    }

    /// The bytes of the next frame, which is not the end; the end's are kept, and it is empty then.
    fn frame(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(frame) = self.frames.take()? {
                if frame.letter == Letter::End {
                    self.close(frame.body(), &mut buffer)?;
                    return Ok(Vec::new());
                }
                self.sum.update(&frame.bytes);
                return Ok(frame.bytes);
            }
            match self.inner.read(&mut buffer) {
                Ok(0) => return Err(self.frames.whole().err().unwrap_or(Broken::Short).into()),
                Ok(count) => self.frames.feed(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn close(&mut self, body: &[u8], buffer: &mut [u8]) -> Result<(), ReadError> {
        let end: End = serde_json::from_slice(body).map_err(|_| Broken::Damaged("its end"))?;
        if end != End::of(self.sum.clone(), end.revision, end.objects) {
            return Err(Broken::Damaged("its checksum does not fit").into());
        }
        let more = self.inner.read(buffer)?;
        self.frames.feed(&buffer[..more]);
        self.frames.whole()?;
        self.end = Some(end);
        Ok(())
    }

    /// What it read from, and the head.
    pub fn into_parts(self) -> (R, Head) {
        (self.inner, self.head)
    }

    /// Reads to the end, and keeps nothing; calls `each` with the bytes of every piece.
    ///
    /// # Errors
    /// When not all of it is as it was written.
    pub fn finish(&mut self, mut each: impl FnMut(usize)) -> Result<End, ReadError> {
        loop {
            if let Some(end) = &self.end {
                return Ok(end.clone());
            }
            each(self.frame()?.len());
        }
    }
}

impl<R: Read, S: Sum> Read for Reader<R, S> {
    /// The store's export, without what is around it.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(out)? {
                0 if self.end.is_none() && !out.is_empty() => {
                    let bytes = self.frame().map_err(|error| match error {
                        ReadError::Broken(broken) => io::Error::other(broken),
                        ReadError::Io(error) => error,
                    })?;
                    self.piece = io::Cursor::new(bytes);
                    self.piece.set_position(FRAME_HEAD as u64);
                }
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;

    /// No SHA-256, but other for other bytes.
    #[derive(Clone, Default)]
    struct Count(u64);

    impl Sum for Count {
        fn update(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = self.0.rotate_left(5) ^ u64::from(*byte).wrapping_mul(0x9e37_79b9);
            }
        }

        fn hex(&self) -> String {
            format!("{:x}", self.0)
        }
    }

    fn stream(pieces: &[&str]) -> Vec<u8> {
        let head = Head { server: "s1".to_owned(), ..Head::default() };
        let mut out = frame(Letter::Head, serde_json::to_string(&head).unwrap().as_bytes());
        for piece in pieces {
            out.extend(frame(Letter::State, piece.as_bytes()));
        }
        let mut sum = Count::default();
        sum.update(&out);
        let end = End::of(sum, 7, 2);
        out.extend(frame(Letter::End, serde_json::to_string(&end).unwrap().as_bytes()));
        out
    }

    fn read(bytes: &[u8]) -> Result<(String, End), ReadError> {
        let mut reader = Reader::begin(bytes, Count::default())?;
        assert_eq!(reader.head.server, "s1");
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        Ok((text, reader.finish(|_| {})?))
    }

    #[test]
    fn a_stream_is_read_whole_or_not_at_all() {
        let good = stream(&["ab", "", "cde"]);
        let (text, end) = read(&good).unwrap();
        assert_eq!((text.as_str(), end.revision, end.objects), ("abcde", 7, 2));
        for cut in 0..good.len() {
            let why = read(&good[..cut]).unwrap_err().to_string();
            assert!(why.contains("ends too early"), "{cut}: {why}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            let Ok(mut reader) = Reader::begin(&bad[..], Count::default()) else { continue };
            let why = reader.finish(|_| {}).map(|_| at).unwrap_err().to_string();
            assert!(!why.contains('\n'), "{why}");
        }
        let more = [&good[..], b"x"].concat();
        assert!(read(&more).unwrap_err().to_string().contains("follows"));
        assert!(matches!(read(b"hello"), Err(ReadError::Broken(Broken::Foreign))));
        assert!(matches!(read(b""), Err(ReadError::Broken(Broken::Short))));
    }
}
