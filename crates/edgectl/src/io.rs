//! Where a command reads and writes: the real streams, or buffers in tests. One place decides
//! what is a terminal, so that a pipe stays quiet.

use crate::fault::Fault;
use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, Read, Write};

/// The streams of one run.
pub struct Io {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    input: Box<dyn Read + Send>,
    /// Whether output goes to a person.
    pub out_terminal: bool,
    /// Whether messages go to a person.
    pub err_terminal: bool,
    /// Whether input comes from a person.
    pub in_terminal: bool,
}

impl Io {
    /// The process's own streams.
    pub fn real() -> Io {
        Io {
            out: Box::new(BufWriter::new(std::io::stdout())),
            err: Box::new(std::io::stderr()),
            input: Box::new(std::io::stdin()),
            out_terminal: std::io::stdout().is_terminal(),
            err_terminal: std::io::stderr().is_terminal(),
            in_terminal: std::io::stdin().is_terminal(),
        }
    }

    /// Any streams, none of them a terminal.
    pub fn over(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        input: impl Read + Send + 'static,
    ) -> Io {
        Io {
            out: Box::new(out),
            err: Box::new(err),
            input: Box::new(input),
            out_terminal: false,
            err_terminal: false,
            in_terminal: false,
        }
    }

    /// Writes to the output.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Fault> {
        self.write(text.as_bytes())
    }

    /// Writes a line to the output.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Fault> {
        writeln!(self.out, "{text}").map_err(|error| Fault::io("write output", error))
    }

    /// Writes bytes to the output.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.out.write_all(bytes).map_err(|error| Fault::io("write output", error))
    }

    /// Writes what has been buffered.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        self.out.flush().map_err(|error| Fault::io("write output", error))
    }

    /// Writes a line for the person, beside the output. That it cannot be read is no failure.
    pub(crate) fn say(&mut self, text: impl Display) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{text}");
    }

    /// Writes bytes beside the output.
    pub(crate) fn write_err(&mut self, bytes: &[u8]) {
        let _ = self.err.write_all(bytes).and_then(|()| self.err.flush());
    }

    /// Reads the whole input.
    pub(crate) fn read_all(&mut self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.input
            .read_to_end(&mut bytes)
            .map_err(|error| Fault::io("read standard input", error))?;
        Ok(bytes)
    }

    /// Takes the input away, for a thread that reads it.
    pub(crate) fn take_input(&mut self) -> Box<dyn Read + Send> {
        std::mem::replace(&mut self.input, Box::new(std::io::empty()))
    }
}
