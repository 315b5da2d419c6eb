//! Gathers what libcontainer logs as errors. Its errors cross its own processes as short texts
//! ("failed to prepare rootfs"); the cause stands only in its log, so that is what is reported.

use std::fmt::{Debug, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Room for what is gathered; more is cut off.
const ROOM: usize = 4_096;

/// Takes down errors of this process and those it forks.
pub(super) struct Trace {
    read: OwnedFd,
}

struct Writer {
    write: OwnedFd,
}

impl Trace {
    /// Starts gathering.
    pub(super) fn start() -> nix::Result<Trace> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A second one cannot be set: then the first goes on gathering.
        let _ = tracing::subscriber::set_global_default(Writer { write });
        Ok(Trace { read })
    }

    /// The first, and so innermost, error of those gathered.
    pub(super) fn first(&self) -> Option<String> {
        let mut text = [0u8; ROOM];
        let n = read(&self.read, &mut text).ok()?;
        let text = String::from_utf8_lossy(&text[..n]);
        text.lines().next().map(str::to_owned)
    }
}

impl Subscriber for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace(['\r', '\t'], " ");
        // SAFETY: pointer and length are those of the text. A full pipe loses the rest.
        unsafe { libc::write(self.write.as_raw_fd(), text.as_ptr().cast(), text.len()) };
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
