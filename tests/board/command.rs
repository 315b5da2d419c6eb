//! Runs programs and holds them to their word: what they printed, how they ended, how long
//! they may take.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest that one command of a test may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        || std::path::Path::new("/usr/sbin").join(program).is_file()
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails unless the command succeeded; gives what it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Fails if the command succeeded; gives what it complained about.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert_ne!(self.status, 0, "should have failed; stdout: {}", self.stdout);
        self.stderr
    }
}

/// Runs a command to its end, within bounds.
pub(crate) fn run(mut command: Command) -> Outcome {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("start {shown}: {e}"));
    let mut out = child.stdout.take().expect("piped");
    let mut err = child.stderr.take().expect("piped");
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text)
    });
    let read_errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| text)
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("{shown} did not end within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |bytes: std::io::Result<Vec<u8>>| {
        String::from_utf8_lossy(&bytes.expect("a pipe can be read")).into_owned()
    };
    Outcome {
        status: status.code().unwrap_or(-1),
        stdout: text(read.join().expect("the reader ends")),
        stderr: text(read_errors.join().expect("the reader ends")),
    }
}

/// Runs a program of the machine that must succeed.
#[track_caller]
pub(crate) fn must(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args);
    let output: Output = command.output().unwrap_or_else(|e| panic!("start {program}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks until `ask` gives a value; fails with `what` and the last complaint.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(value) => return value,
            Err(why) if Instant::now() > end => panic!("{what}: not within the time: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
