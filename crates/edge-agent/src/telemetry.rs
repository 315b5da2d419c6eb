//! What the process says of itself, on standard error: systemd's journal or a terminal reads it.
//! A board that is in trouble for a week must not write the same line for a week.

mod repeats;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::level_filters::LevelFilter;

use repeats::{Repeats, Verdict};

/// Starts the log at `level`. A second call changes nothing.
pub(crate) fn start(level: LevelFilter) {
    let terminal = std::io::stderr().is_terminal();
    let bounded = level <= LevelFilter::INFO;
    let state = Arc::new(Mutex::new((Repeats::default(), Instant::now())));
    let writer = move || Line(bounded.then(|| state.clone()));
    // The journal stamps lines itself; on a terminal the colour of a level helps.
    let subscriber = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(terminal)
        .with_target(false)
        .with_max_level(level)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes one line, if it may be written: whoever wants to see all asks for more than `info`.
struct Line(Option<Arc<Mutex<(Repeats, Instant)>>>);

impl Write for Line {
    /// A line comes in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        let Some(state) = &self.0 else { return stderr.write_all(line).map(|()| line.len()) };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.1.elapsed();
        let verdict = state.0.judge(without_time(line), now);
        match verdict {
            Verdict::Drop => {}
            Verdict::Write { also: None } => stderr.write_all(line)?,
            Verdict::Write { also: Some(also) } => {
                let end = line.len() - usize::from(line.ends_with(b"\n"));
                let mut whole = line[..end].to_vec();
                whole.extend_from_slice(format!(" ({also})\n").as_bytes());
                stderr.write_all(&whole)?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line begins with its time.
fn without_time(line: &[u8]) -> &[u8] {
    line.iter().position(|byte| *byte == b' ').map_or(line, |at| &line[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_at_any_time() {
        let lines = ["2026-11-22T08:00:00.1Z  WARN away", "2026-11-22T09:00:00.2Z  WARN away"];
        let [first, second] = lines.map(|line| without_time(line.as_bytes()).to_vec());
        assert_eq!(first, second);
        assert_eq!(without_time(b"word"), b"word");
    }
}
