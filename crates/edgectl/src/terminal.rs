//! The person's terminal: raw while a remote program has it, and how large it is. Nothing of it
//! on systems without termios; there, `exec -it` works line by line.

/// Restores the terminal when it is dropped.
pub(crate) struct Raw {
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

#[cfg(unix)]
mod unix {
    use super::Raw;
    use rustix::termios::{self, OptionalActions};
    use std::io;

    impl Raw {
        /// Gives every key to the remote program.
        pub(crate) fn enter() -> io::Result<Raw> {
            let input = rustix::stdio::stdin();
            let before = termios::tcgetattr(input)?;
            let mut raw = before.clone();
            raw.make_raw();
            termios::tcsetattr(input, OptionalActions::Drain, &raw)?;
            Ok(Raw { before })
        }
    }

    impl Drop for Raw {
        fn drop(&mut self) {
            let input = rustix::stdio::stdin();
            let _ = termios::tcsetattr(input, OptionalActions::Drain, &self.before);
        }
    }

    /// Columns and rows.
    pub(crate) fn size() -> Option<(u16, u16)> {
        let found = termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
        if found.ws_col == 0 { None } else { Some((found.ws_col, found.ws_row)) }
    }

    /// Tells when the size changes.
    pub(crate) struct Resizes(Option<tokio::signal::unix::Signal>);

    impl Resizes {
        pub(crate) fn new() -> Resizes {
            use tokio::signal::unix::{SignalKind, signal};
            Resizes(signal(SignalKind::window_change()).ok())
        }

        /// Returns at the next change.
        pub(crate) async fn next(&mut self) {
            match &mut self.0 {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(not(unix))]
mod other {
    use super::Raw;
    use std::io;

    impl Raw {
        pub(crate) fn enter() -> io::Result<Raw> {
            Ok(Raw {})
        }
    }

    pub(crate) fn size() -> Option<(u16, u16)> {
        None
    }

    pub(crate) struct Resizes;

    impl Resizes {
        pub(crate) fn new() -> Resizes {
            Resizes
        }

        pub(crate) async fn next(&mut self) {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
pub(crate) use other::{Resizes, size};
#[cfg(unix)]
pub(crate) use unix::{Resizes, size};
