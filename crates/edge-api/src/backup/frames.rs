//! A stream's frames, read from whatever pieces it comes in. Nothing is believed: no length before
//! it was looked at, no order but the one that is right, and no end that is not the last byte.

use super::Broken;

/// Bytes of a frame before its body.
pub const FRAME_HEAD: usize = 5;
/// The longest body: a head with long certificates and many servers fits, and so does a piece.
pub const BODY_MAX: usize = 128 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// The first one.
    Head,
    /// A piece of the store's export.
    State,
    /// The last one.
    End,
}

impl Letter {
    fn byte(self) -> u8 {
        match self {
            Letter::Head => b'H',
            Letter::State => b'S',
            Letter::End => b'E',
        }
    }

    fn of(byte: u8) -> Option<Letter> {
        [Letter::Head, Letter::State, Letter::End].into_iter().find(|it| it.byte() == byte)
    }
}

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub letter: Letter,
    /// All its bytes; the body follows the first [`FRAME_HEAD`].
    pub bytes: Vec<u8>,
}

impl Frame {
    /// What it says.
    pub fn body(&self) -> &[u8] {
        &self.bytes[FRAME_HEAD..]
    }
}

/// Writes a frame; the body has at most [`BODY_MAX`] bytes.
pub fn frame(letter: Letter, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(FRAME_HEAD + body.len());
    out.push(letter.byte());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Finds the frames in what is fed.
#[derive(Debug, Default)]
pub struct Frames {
    waiting: Vec<u8>,
    last: Option<Letter>,
}

impl Frames {
    /// Takes more bytes; call [`Frames::take`] until it has no more, then feed again.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// When what was fed is no backup's.
    pub fn take(&mut self) -> Result<Option<Frame>, Broken> {
        if self.last == Some(Letter::End) {
            return if self.waiting.is_empty() { Ok(None) } else { Err(Broken::Long) };
        }
        let Some(&first) = self.waiting.first() else { return Ok(None) };
        let wrong = || match self.last {
            None => Broken::Foreign,
            Some(_) => Broken::Damaged("its frames"),
        };
        let letter = Letter::of(first).ok_or_else(wrong)?;
        if (letter == Letter::Head) != self.last.is_none() {
            return Err(wrong());
        }
        let Some(length) = self.waiting.get(1..FRAME_HEAD) else { return Ok(None) };
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > BODY_MAX {
            return Err(wrong());
        }
        if self.waiting.len() < FRAME_HEAD + length {
            return Ok(None);
        }
        let rest = self.waiting.split_off(FRAME_HEAD + length);
        let bytes = std::mem::replace(&mut self.waiting, rest);
        self.last = Some(letter);
        Ok(Some(Frame { letter, bytes }))
    }

    /// Whether what was fed is all of it; to be asked when no more comes.
    ///
    /// # Errors
    /// When it ends too early.
    pub fn whole(&self) -> Result<(), Broken> {
        match (self.last, self.waiting.is_empty()) {
            (Some(Letter::End), true) => Ok(()),
            (Some(Letter::End), false) => Err(Broken::Long),
            _ => Err(Broken::Short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<Vec<Frame>, Broken> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(step) {
            frames.feed(piece);
            while let Some(frame) = frames.take()? {
                found.push(frame);
            }
        }
        frames.whole().map(|()| found)
    }

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_pieces() {
        let parts = [(Letter::Head, "{}"), (Letter::State, "abc"), (Letter::End, "{}")];
        let bytes: Vec<u8> =
            parts.iter().flat_map(|(letter, body)| frame(*letter, body.as_bytes())).collect();
        for step in 1..=bytes.len() {
            let found = read(&bytes, step).unwrap();
            let found: Vec<_> = found.iter().map(|f| (f.letter, f.body())).collect();
            let wanted = parts.map(|(letter, body)| (letter, body.as_bytes()));
            assert_eq!(found, wanted, "{step}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut], 3), Err(Broken::Short), "{cut}");
        }
        assert_eq!(read(&[&bytes[..], b"x"].concat(), 4), Err(Broken::Long));
    }

    #[test]
    fn hostile_lengths_and_orders_are_refused_before_anything_is_kept() {
        let head = frame(Letter::Head, b"{}");
        let (state, end) = (frame(Letter::State, b"s"), frame(Letter::End, b"{}"));
        let huge = [b'H', 0xff, 0xff, 0xff, 0xff];
        for bad in [&b"hello"[..], &state, &end, &huge, b"\x1f\x8b\0\0\0", b"{\"kind\": 1}"] {
            assert_eq!(read(bad, 8), Err(Broken::Foreign), "{bad:?}");
        }
        let long = [b'S', 0, 0, 0, 1];
        for bad in [&head[..], b"X....", &long] {
            let both = [&head[..], bad].concat();
            assert!(matches!(read(&both, 8), Err(Broken::Damaged(_))), "{bad:?}");
        }
        assert_eq!(read(&[&head[..], &end, &state].concat(), 100), Err(Broken::Long));
    }
}
