//! A person at a terminal: the real program on a pseudo-terminal, what it shows, and keys.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a person waits for a prompt.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal on which a command runs.
pub(crate) struct Terminal {
    keys: File,
    child: Child,
    shows: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Types a command; words are separated by spaces.
    pub(crate) fn run(kubeconfig: &Path, line: &str) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgectl"));
        command.env_remove("EDGED_BACKUP_PASSPHRASE").arg("--kubeconfig").arg(kubeconfig);
        command.args(line.split_whitespace());
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap());
        let child = command.stderr(slave).spawn().unwrap();
        // The program's ends are only its own from here on.
        drop(command);
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (tell, shows) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            // Its end is an error, once nobody has the other side.
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                if tell.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keys, child, shows, seen: String::new() }
    }

    /// Waits until the screen ends with a prompt, then types.
    pub(crate) fn answer(mut self, prompt: &str, keys: &str) -> Terminal {
        let end = Instant::now() + PATIENCE;
        while !self.seen.ends_with(prompt) {
            let left = end.saturating_duration_since(Instant::now());
            let piece = self.shows.recv_timeout(left);
            let piece = piece.unwrap_or_else(|_| panic!("no {prompt:?} in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        self.seen.push('\n');
        // Keys that come before the terminal is told to hide them would be shown.
        while self.echoes() {
            assert!(Instant::now() < end, "what is typed is not hidden");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.keys.write_all(keys.as_bytes()).unwrap();
        self
    }

    fn echoes(&self) -> bool {
        let now = rustix::termios::tcgetattr(&self.keys).unwrap();
        now.local_modes.contains(rustix::termios::LocalModes::ECHO)
    }

    /// What was on the screen, and the exit status.
    pub(crate) fn end(mut self) -> (String, i32) {
        while let Ok(piece) = self.shows.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        let status = self.child.wait().unwrap();
        (self.seen, status.code().unwrap_or(-1))
    }
}
