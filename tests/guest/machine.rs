//! A guest: its boot, its console, its end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::kernel::Kernel;
use super::lan::Lan;

/// Longest that a boot, or one command on the console, may take. Nothing here has hardware help.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a line rests that is tried again and again: a guest has a single slow processor, which
/// whoever is waited for needs.
const REST: Duration = Duration::from_secs(1);
/// Lines of the console that wait to be read; more than that wait in the guest.
const LINES: usize = 1024;
/// MiB of a guest's memory.
const MEMORY: u32 = 640;
/// What the kernel is told. On a busy machine it would measure its own clock wrongly while it
/// boots, and then its timers stop: it takes the one that QEMU keeps.
const WORDS: &str = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on \
                     no_timer_check tsc=unstable clocksource=hpet";

/// A running guest; it is gone when this is dropped.
pub(crate) struct Guest {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    boot_log: PathBuf,
    /// It has not answered, and what it says now would be about something else.
    lost: bool,
}

impl Guest {
    /// Starts a guest with these network cards: names of taps of `lan`, the first is its `eth0`.
    /// The disk is a file in `dir`. It has not booted when this returns: several boot at a time.
    pub(crate) fn start(
        name: &str,
        kernel: &Kernel,
        disk: &Path,
        lan: &Lan,
        taps: &[&str],
    ) -> Guest {
        Guest::start_with(name, kernel, disk, lan, taps, &[])
    }

    /// The same with more words for QEMU.
    pub(crate) fn start_with(
        name: &str,
        kernel: &Kernel,
        disk: &Path,
        lan: &Lan,
        taps: &[&str],
        more: &[&str],
    ) -> Guest {
        let boot_log = disk.with_file_name(format!("{name}.boot"));
        let mut command = lan.namespace.command("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-nodefaults", "-no-reboot"]);
        command.args(["-display", "none", "-m", &MEMORY.to_string()]);
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(disk);
        command.args(["-append", WORDS]);
        command.arg("-serial").arg(format!("file:{}", boot_log.display()));
        command.args(["-serial", "stdio"]).args(more);
        for (n, tap) in taps.iter().enumerate() {
            let sum: u32 = name.bytes().map(u32::from).sum();
            let mac = format!("52:54:00:00:{:02x}:{n:02x}", sum % 256);
            let card = format!("tap,id=n{n},ifname={tap},script=no,downscript=no");
            command.args(["-netdev", &card]);
            command.args(["-device", &format!("virtio-net-pci,netdev=n{n},mac={mac},romfile=")]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("qemu-system-x86_64 starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Guest { name: name.to_owned(), child, input, lines, boot_log, lost: false }
    }

    /// Waits until the console answers.
    #[track_caller]
    pub(crate) fn booted(&mut self) {
        self.answer("boot");
    }

    /// False once a command has not come to its end, or the guest is gone.
    pub(crate) fn answers(&mut self) -> bool {
        !self.lost && matches!(self.child.try_wait(), Ok(None))
    }

    /// Runs a line of shell; gives its status and all that it printed.
    #[track_caller]
    pub(crate) fn shell(&mut self, line: &str) -> (i32, String) {
        assert!(!line.contains('\n'), "one line: {line}");
        writeln!(self.input, "{line}").expect("the guest runs");
        self.answer(line)
    }

    /// The same of a line that must succeed.
    #[track_caller]
    pub(crate) fn ok(&mut self, line: &str) -> String {
        let (status, text) = self.shell(line);
        assert_eq!(status, 0, "{}: {line}\n{text}", self.name);
        text
    }

    /// Runs a line again and again until what it prints is `good`.
    #[track_caller]
    pub(crate) fn until(&mut self, line: &str, good: impl Fn(&str) -> bool) -> Duration {
        let begin = Instant::now();
        loop {
            let (_, text) = self.shell(line);
            if good(&text) {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < PATIENCE, "{}: {line}\n{text}", self.name);
            std::thread::sleep(REST);
        }
    }

    #[track_caller]
    fn answer(&mut self, what: &str) -> (i32, String) {
        let end = Instant::now() + PATIENCE;
        let mut text = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                self.lost = true;
                let boot = std::fs::read_to_string(&self.boot_log).unwrap_or_default();
                panic!("{}: no answer to {what:?}; so far: {text}\nkernel: {boot}", self.name);
            };
            match line.strip_prefix("@@").and_then(|status| status.trim().parse().ok()) {
                Some(status) => return (status, text.trim().to_owned()),
                None => text = text + &line + "\n",
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
