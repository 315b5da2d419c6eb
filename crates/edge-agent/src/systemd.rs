//! Asks the service manager what `systemctl` would ask it: over its own socket, in D-Bus's words
//! (the D-Bus specification, "Message Protocol"), since edged calls no programs. Only what
//! installing, uninstalling and ending need: calls with texts, switches and lists of texts.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// There when systemd runs the machine (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// Where it listens for root.
const SOCKET: &str = "/run/systemd/private";
/// What stands in its place for tests: a variable that only debug builds know.
const TEST_SOCKET: &str = "EDGED_TEST_SYSTEMD";
/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest that it may take to say whether the machine goes off, which edged asks as it ends.
const AT_THE_END: Duration = Duration::from_secs(2);
/// The state of a machine that is being switched off or restarted (`systemctl is-system-running`).
const STOPPING: &str = "stopping";
/// The longest answer that is read.
const LONGEST: usize = 1 << 20;

/// An argument of a call.
pub(crate) enum Word<'a> {
    Text(&'a str),
    Switch(bool),
    Texts(&'a [&'a str]),
}

/// The manager itself, and what it says of units.
const MANAGER: &str = "/org/freedesktop/systemd1";
/// What the manager says of itself.
const OWN: &str = "org.freedesktop.systemd1.Manager";
/// What a unit says of itself.
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// Whom a call is for, and what is called.
struct Call<'a> {
    path: &'a str,
    interface: &'a str,
    method: &'a str,
}

/// The manager, listening.
pub(crate) struct Systemd {
    stream: UnixStream,
    serial: u32,
}

impl Systemd {
    /// Reaches it; `None` on a machine that systemd does not run.
    ///
    /// # Errors
    /// When it is there and does not answer.
    pub(crate) fn reach() -> Result<Option<Systemd>, String> {
        Systemd::reach_within(PATIENCE)
    }

    fn reach_within(patience: Duration) -> Result<Option<Systemd>, String> {
        let test = std::env::var_os(TEST_SOCKET).filter(|_| cfg!(debug_assertions));
        if test.is_none() && !Path::new(BOOTED).is_dir() {
            return Ok(None);
        }
        let socket = test.map_or_else(|| PathBuf::from(SOCKET), PathBuf::from);
        let open = || {
            let stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            greet(stream)
        };
        let socket = socket.display();
        let stream = open().map_err(|e: std::io::Error| format!("ask systemd at {socket}: {e}"))?;
        Ok(Some(Systemd { stream, serial: 0 }))
    }

    /// Calls a method of its manager.
    ///
    /// # Errors
    /// What it answers, or that it does not.
    pub(crate) fn call(&mut self, method: &str, words: &[Word<'_>]) -> Result<(), String> {
        self.ask(&Call { path: MANAGER, interface: OWN, method }, words).map(drop)
    }

    /// The state of a unit: `active`, `deactivating`, `inactive` and so on. One that there is not
    /// is inactive.
    ///
    /// # Errors
    /// When it does not say.
    pub(crate) fn state(&mut self, unit: &str) -> Result<String, String> {
        self.text_of(&path_of(unit), UNIT, "ActiveState")
    }

    /// What a part of it says of itself.
    fn text_of(&mut self, path: &str, part: &str, name: &str) -> Result<String, String> {
        let interface = "org.freedesktop.DBus.Properties";
        let call = Call { path, interface, method: "Get" };
        let body = self.ask(&call, &[Word::Text(part), Word::Text(name)])?;
        // A variant: the signature of a text, and the text where numbers may begin.
        match body.get(4..) {
            Some(text) if body.starts_with(b"\x01s\0") => Ok(first_text(text)),
            _ => Err(format!("ask systemd for {name} of {path}: it is not understood")),
        }
    }

    fn ask(&mut self, call: &Call<'_>, words: &[Word<'_>]) -> Result<Vec<u8>, String> {
        self.serial += 1;
        let message = message(self.serial, call, words);
        let told = self.stream.write_all(&message).and_then(|()| answer(&mut self.stream));
        let method = call.method;
        let said = told.map_err(|e| format!("ask systemd for {method}: {e}"))?;
        said.map_err(|why| format!("systemd refuses {method}: {why}"))
    }
}

/// Whether the whole machine is being switched off or restarted, and not edged alone. Where nobody
/// says so in time, it is edged alone.
pub(crate) fn goes_off() -> bool {
    let state = match Systemd::reach_within(AT_THE_END) {
        Ok(Some(mut systemd)) => systemd.text_of(MANAGER, OWN, "SystemState"),
        Ok(None) => return false,
        Err(error) => Err(error),
    };
    let state = state.inspect_err(|error| tracing::debug!("whether the board goes off: {error}"));
    state.is_ok_and(|state| state == STOPPING)
}

/// Where a unit is on the bus: other signs than letters and digits in hex.
fn path_of(unit: &str) -> String {
    unit.bytes().fold(format!("{MANAGER}/unit/"), |path, byte| match byte {
        b if b.is_ascii_alphanumeric() => path + char::from(b).encode_utf8(&mut [0; 4]),
        b => format!("{path}_{b:02x}"),
    })
}

/// Lets itself in: the socket's own credentials say who we are. All at once, as `systemctl` does:
/// to a `BEGIN` that comes on its own, systemd 252 never answers.
fn greet(mut stream: UnixStream) -> std::io::Result<UnixStream> {
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
    let mut lines = Vec::new();
    let mut byte = [0];
    while lines.len() < 512 {
        stream.read_exact(&mut byte)?;
        lines.push(byte[0]);
        match lines.as_slice() {
            [b'D', b'A', b'T', b'A', b'\r', b'\n'] => lines.clear(),
            [b'O', b'K', b' ', .., b'\r', b'\n'] => return Ok(stream),
            [.., b'\r', b'\n'] => break,
            _ => {}
        }
    }
    Err(std::io::Error::other("it does not let us in"))
}

/// A message being written: every value lies at a multiple of its own size.
struct Bytes(Vec<u8>);

impl Bytes {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn short(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// Writes the length of what came since `from` into the four bytes at `at`.
    fn length(&mut self, at: usize, from: usize) {
        let length = (self.0.len() - from) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

fn message(serial: u32, call: &Call<'_>, words: &[Word<'_>]) -> Vec<u8> {
    let mut body = Bytes(Vec::new());
    let mut signature = String::new();
    for word in words {
        match word {
            Word::Text(text) => {
                signature.push('s');
                body.text(text);
            }
            Word::Switch(on) => {
                signature.push('b');
                body.number(u32::from(*on));
            }
            Word::Texts(texts) => {
                signature.push_str("as");
                body.number(0);
                let start = body.0.len();
                texts.iter().for_each(|text| body.text(text));
                body.length(start - 4, start);
            }
        }
    }
    // Little endian, a call, no flags, version 1.
    let mut all = Bytes(vec![b'l', 1, 0, 1]);
    all.number(body.0.len() as u32);
    all.number(serial);
    all.number(0);
    let start = all.0.len();
    let fields = [
        (1, "o", call.path),
        (2, "s", call.interface),
        (3, "s", call.method),
        (6, "s", "org.freedesktop.systemd1"),
        (8, "g", signature.as_str()),
    ];
    for (code, kind, value) in fields.into_iter().filter(|(_, _, value)| !value.is_empty()) {
        all.align(8);
        all.0.push(code);
        all.short(kind);
        if kind == "g" { all.short(value) } else { all.text(value) }
    }
    all.length(start - 4, start);
    all.align(8);
    all.0.extend(body.0);
    all.0
}

/// Reads what comes until it is the answer; an error's own words if it is one.
fn answer(stream: &mut impl Read) -> std::io::Result<Result<Vec<u8>, String>> {
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let number = |at: usize| {
            u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize
        };
        let (fields, body) = (number(12).next_multiple_of(8), number(4));
        if head[0] != b'l' || fields > LONGEST || body > LONGEST {
            return Err(std::io::Error::other("its answer is not understood"));
        }
        let mut rest = vec![0; fields + body];
        stream.read_exact(&mut rest)?;
        match head[1] {
            2 => return Ok(Ok(rest.split_off(fields))),
            3 => return Ok(Err(first_text(&rest[fields..]))),
            _ => {}
        }
    }
}

fn first_text(body: &[u8]) -> String {
    let text = body.first_chunk::<4>().and_then(|length| {
        let length = u32::from_le_bytes(*length) as usize;
        body.get(4..4_usize.checked_add(length)?)
    });
    text.map(|text| String::from_utf8_lossy(text).into_owned())
        .unwrap_or_else(|| "it does not say why".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let words = [Word::Texts(&["a", "bc"]), Word::Switch(true), Word::Text("d")];
        let call = Call { path: MANAGER, interface: "I", method: "M" };
        let message = message(7, &call, &words);
        // The array's 4 bytes, "a", padding, "bc", padding, the switch, "d".
        let body = b"\x0f\0\0\0\x01\0\0\0a\0\0\0\x02\0\0\0bc\0\0\x01\0\0\0\x01\0\0\0d\0";
        assert!(message.ends_with(body), "{message:?}");
        assert_eq!(&message[..12], b"l\x01\0\x01\x1e\0\0\0\x07\0\0\0");
        let fields = u32::from_le_bytes(message[12..16].try_into().unwrap()) as usize;
        assert_eq!(16 + fields.next_multiple_of(8) + body.len(), message.len());
    }

    #[test]
    fn the_machines_state_is_asked_for() {
        let (stream, mut manager) = UnixStream::pair().unwrap();
        let mut told = vec![b'l', 2, 0, 1];
        for number in [17u32, 9, 0] {
            told.extend(number.to_le_bytes());
        }
        told.extend(b"\x01s\0\0\x08\0\0\0stopping\0");
        manager.write_all(&told).unwrap();
        let said = Systemd { stream, serial: 0 }.text_of(MANAGER, OWN, "SystemState");
        assert_eq!(said.as_deref(), Ok(STOPPING));
        let mut asked = Vec::new();
        manager.read_to_end(&mut asked).unwrap();
        let text = String::from_utf8_lossy(&asked);
        assert!(text.contains("Properties") && text.contains("SystemState"), "{text:?}");
    }

    #[test]
    fn units_have_a_place_on_the_bus() {
        let place = "/org/freedesktop/systemd1/unit/edged_2dpods_2eservice";
        assert_eq!(path_of("edged-pods.service"), place);
    }

    #[test]
    fn answers_are_told_apart() {
        let message = |kind: u8, body: &[u8]| {
            let mut all = vec![b'l', kind, 0, 1];
            for number in [body.len() as u32, 9, 5] {
                all.extend(number.to_le_bytes());
            }
            all.extend([0; 8]);
            all.extend(body);
            all
        };
        let signal = message(4, b"x");
        let mut bytes = [signal.clone(), message(2, b"")].concat();
        assert_eq!(answer(&mut &bytes[..]).unwrap(), Ok(Vec::new()));
        bytes = [signal, message(3, b"\x02\0\0\0no\0")].concat();
        assert_eq!(answer(&mut &bytes[..]).unwrap(), Err("no".to_owned()));
        bytes = message(3, b"\xff\xff\xff\xff");
        assert_eq!(answer(&mut &bytes[..]).unwrap(), Err("it does not say why".to_owned()));
        assert!(answer(&mut &b"l"[..]).is_err());
        let mut huge = message(2, b"");
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(answer(&mut &huge[..]).is_err());
    }
}
