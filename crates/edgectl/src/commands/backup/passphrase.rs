//! Where a passphrase comes from: a file, the environment, or the person; never an argument, which
//! everybody on the machine can see.

use super::file;
use super::vault::{self, Key};
use crate::fault::Fault;
use crate::session::Session;
use crate::terminal::Raw;
use edge_api::backup::Cover;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Where it may stand beside a file.
const VARIABLE: &str = "EDGED_BACKUP_PASSPHRASE";
/// Longer ones are cut off by nobody, but are no passphrases.
const BYTES_MAX: usize = 4096;

/// A passphrase, and the key that was made of it last: that takes a board seconds.
pub(super) struct Secret {
    bytes: Vec<u8>,
    made: Mutex<Option<(Cover, Key)>>,
}

impl Secret {
    /// The key for a file with this cover.
    pub(super) fn key(&self, cover: &Cover) -> io::Result<Key> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = made.as_ref().filter(|(of, _)| of == cover) {
            return Ok(*key);
        }
        let key = vault::derive(&self.bytes, cover)?;
        *made = Some((cover.clone(), key));
        Ok(key)
    }

    /// One to encrypt with: from the file, the environment, or typed twice.
    pub(super) fn chosen(file: Option<&Path>, session: &mut Session) -> Result<Secret, Fault> {
        if let Some(given) = given(file)? {
            return Ok(given);
        }
        let mut lines = Lines::of(session)?;
        let first = lines.ask("Passphrase: ", session)?;
        let again = lines.ask("Again: ", session)?;
        match first == again {
            true => Secret::of(first, "what was typed"),
            false => Err(Fault::text("these are not the same: nothing was done")),
        }
    }

    fn of(bytes: Vec<u8>, shown: &str) -> Result<Secret, Fault> {
        match bytes.len() {
            0 => Err(Fault::text(format!("{shown} holds no passphrase"))),
            1..=BYTES_MAX => Ok(Secret { bytes, made: Mutex::default() }),
            _ => Err(Fault::text(format!("{shown} is too long for a passphrase"))),
        }
    }
}

/// The one to open this file with, if it needs one.
pub(super) fn for_file(
    backup: &Path,
    file: Option<&Path>,
    session: &mut Session,
) -> Result<Option<Secret>, Fault> {
    if !file::is_sealed(backup)? {
        return Ok(None);
    }
    match given(file)? {
        None if session.io.in_terminal => {
            let typed = Lines::of(session)?.ask("Passphrase: ", session)?;
            Secret::of(typed, "what was typed").map(Some)
        }
        given => Ok(given),
    }
}

/// That of the file, else that of the environment. The end of a line does not belong to it.
fn given(file: Option<&Path>) -> Result<Option<Secret>, Fault> {
    let (bytes, shown) = match (file, std::env::var_os(VARIABLE)) {
        (Some(path), _) => {
            let shown = path.display().to_string();
            let read = std::fs::read(path);
            (read.map_err(|e| Fault::io(format!("read {shown}"), e))?, shown)
        }
        (None, Some(text)) => (text.into_encoded_bytes(), VARIABLE.to_owned()),
        (None, None) => return Ok(None),
    };
    let ends = |byte: &u8| !matches!(byte, b'\n' | b'\r');
    let end = bytes.iter().rposition(ends).map_or(0, |at| at + 1);
    Secret::of(bytes[..end].to_vec(), &shown).map(Some)
}

/// What a person types, unseen.
struct Lines(Box<dyn Read + Send>);

impl Lines {
    fn of(session: &mut Session) -> Result<Lines, Fault> {
        match session.io.in_terminal {
            true => Ok(Lines(session.io.take_input())),
            false => Err(Fault::text(format!(
                "nobody is there to ask for a passphrase: give --passphrase-file or {VARIABLE}"
            ))),
        }
    }

    fn ask(&mut self, words: &str, session: &mut Session) -> Result<Vec<u8>, Fault> {
        session.io.write_err(words.as_bytes());
        let raw = Raw::enter().map_err(|e| Fault::io("hide what is typed", e))?;
        let typed = line(&mut self.0);
        drop(raw);
        session.io.write_err(b"\n");
        typed.ok_or_else(|| Fault::text("nothing was typed: nothing was done"))
    }
}

/// Keys up to the one that ends a line; `None` when the person gives up.
fn line(input: &mut dyn Read) -> Option<Vec<u8>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    let (mut typed, mut byte) = (Vec::new(), [0]);
    while typed.len() <= BYTES_MAX && input.read(&mut byte).is_ok_and(|count| count == 1) {
        match byte[0] {
            b'\r' | b'\n' => return Some(typed),
            INTERRUPT | END => return None,
            // A whole character, whatever its bytes.
            8 | 127 => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte => typed.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        for (keys, typed) in [
            ("abc\r", Some("abc")),
            ("abx\u{7f}c\n", Some("abc")),
            ("a\u{e4}\u{7f}b\r", Some("ab")),
            ("\u{7f}\r", Some("")),
            ("abc\u{3}", None),
            ("abc", None),
        ] {
            let line = line(&mut keys.as_bytes());
            assert_eq!(line.as_deref(), typed.map(str::as_bytes), "{keys:?}");
        }
    }

    #[test]
    fn a_file_holds_a_line_or_nothing() {
        let path = std::env::temp_dir().join(format!("edgectl-phrase-{}", std::process::id()));
        for (text, phrase) in [("a b\r\n", Some("a b")), ("a", Some("a")), ("\n", None)] {
            std::fs::write(&path, text).unwrap();
            let found = given(Some(&path)).ok().flatten().map(|secret| secret.bytes);
            assert_eq!(found.as_deref(), phrase.map(str::as_bytes));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(given(Some(&path)).is_err());
    }
}
