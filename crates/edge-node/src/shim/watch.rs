//! The shim's life: it moves the container's output into the log, reaps what ends, and when the
//! container's init ends records how, before anybody else can see that it did.

use std::cell::UnsafeCell;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, close, read};

use super::log::{Log, MAX_TEXT, Source};
use super::start::{self, Streams};
use super::{EXE_FD, LOCK_FD, REPORT_FD, Task};

/// Name of the file in which `edged runtime create` leaves init's pid and start time.
pub(crate) const INIT_FILE: &str = "init";
/// Name of the file that records the end.
pub(crate) const EXIT_FILE: &str = "exit";
/// Rounds of killing what is left in the cgroup after init's end.
const KILL_ROUNDS: u32 = 50;

/// Room for one line and the byte that shows that it is over-long. It lies in pages that start
/// out unbacked, and only those that a container's output fills are ever paid for.
struct Room(UnsafeCell<[u8; MAX_TEXT + 1]>);
// SAFETY: the shim has one thread.
unsafe impl Sync for Room {}
static ROOM_STDOUT: Room = Room(UnsafeCell::new([0; MAX_TEXT + 1]));
static ROOM_STDERR: Room = Room(UnsafeCell::new([0; MAX_TEXT + 1]));

/// One of the container's output streams and the unfinished line on it.
struct Stream {
    source: Source,
    fd: Option<OwnedFd>,
    room: &'static mut [u8; MAX_TEXT + 1],
    filled: usize,
}

impl Stream {
    /// Reads what there is and logs its whole lines; false when nothing was to be had.
    fn pump(&mut self, log: &mut Log) -> bool {
        let Some(fd) = &self.fd else { return false };
        match read(fd, &mut self.room[self.filled..]) {
            Ok(n) if n > 0 => {
                self.filled += n;
                let used = log.write(self.source, &self.room[..self.filled]);
                self.room.copy_within(used..self.filled, 0);
                self.filled -= used;
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            // The end, or EIO from a terminal whose last user has gone.
            _ => {
                self.fd = None;
                false
            }
        }
    }

    /// Takes what is still in the pipe once all writers are dead, and closes the line.
    fn drain(&mut self, log: &mut Log) {
        if let Some(fd) = &self.fd {
            let _ = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        }
        while self.pump(log) {}
        log.finish(self.source, &self.room[..self.filled]);
        self.filled = 0;
    }
}

/// What has been seen of the container's processes.
#[derive(Default)]
struct Processes {
    helper: Option<Pid>,
    init: Option<Pid>,
    started_ms: i64,
    end: Option<WaitStatus>,
    failed: bool,
}

/// Runs the container to its end.
pub(super) fn run(task: &Task) -> i32 {
    close_on_exec();
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let prepared = start::detach(task).and_then(|()| {
        mask.thread_block()?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok((children, start::launch(task)?))
    });
    let Ok((children, (helper, streams))) = prepared else { return 1 };
    // Only the helper holds the report and the executable now: their ends are its end.
    let _ = close(REPORT_FD);
    let _ = close(EXE_FD);
    let mut log = Log::open(&task.log, task.log_max_bytes, task.log_max_files);
    let mut processes = Processes { helper: Some(helper), ..Processes::default() };
    let code = follow(task, &children, streams, &mut processes, &mut log);
    drop(log);
    code
}

fn follow(
    task: &Task,
    children: &SignalFd,
    streams: Streams,
    processes: &mut Processes,
    log: &mut Log,
) -> i32 {
    let Streams { stdout, stderr, stdin: _stdin, mut console } = streams;
    // SAFETY: each room is borrowed here only, once, by the only thread.
    let (first, second) = unsafe { (&mut *ROOM_STDOUT.0.get(), &mut *ROOM_STDERR.0.get()) };
    let mut out = Stream { source: Source::Stdout, fd: stdout, room: first, filled: 0 };
    let mut err = Stream { source: Source::Stderr, fd: stderr, room: second, filled: 0 };
    while processes.end.is_none() && !processes.failed {
        let ready = wait(children.as_fd(), out.fd.as_ref(), err.fd.as_ref(), console.as_ref());
        if ready[1] {
            out.pump(log);
        }
        if ready[2] {
            err.pump(log);
        }
        if ready[3] {
            out.fd = console.take().and_then(|socket| receive_terminal(&socket));
        }
        if ready[0] {
            while let Ok(Some(_)) = children.read_signal() {}
            processes.reap(&task.run);
        }
    }
    kill_rest(&task.cgroup);
    if let Some(socket) = console.take() {
        out.fd = receive_terminal(&socket);
    }
    out.drain(log);
    err.drain(log);
    match processes.end {
        Some(status) => {
            record_end(task, processes.started_ms, status);
            0
        }
        None => 1,
    }
}

/// Which of the four descriptors have something to say; sleeps until one has.
fn wait(
    children: BorrowedFd<'_>,
    out: Option<&OwnedFd>,
    err: Option<&OwnedFd>,
    console: Option<&OwnedFd>,
) -> [bool; 4] {
    let absent = || PollFd::new(children, PollFlags::empty());
    let on = |fd: Option<&OwnedFd>| match fd {
        // SAFETY: the descriptor outlives this call, which is all that the borrow is used for.
        Some(fd) => {
            let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
            PollFd::new(fd, PollFlags::POLLIN)
        }
        None => absent(),
    };
    let mut fds = [PollFd::new(children, PollFlags::POLLIN), on(out), on(err), on(console)];
    if poll(&mut fds, PollTimeout::NONE).is_err() {
        return [false; 4];
    }
    let ready = |n: usize| fds[n].any() == Some(true);
    [ready(0), out.is_some() && ready(1), err.is_some() && ready(2), console.is_some() && ready(3)]
}

impl Processes {
    /// Collects every child that has ended: the helper first, since init becomes our child only
    /// by the helper's end.
    fn reap(&mut self, run: &Path) {
        if let Some(helper) = self.helper {
            match waitpid(helper, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return,
                Ok(WaitStatus::Exited(_, 0)) => match read_init(run) {
                    Some((pid, started_ms)) => {
                        (self.init, self.started_ms) = (Some(pid), started_ms);
                        super::trim::trim();
                    }
                    None => self.failed = true,
                },
                _ => self.failed = true,
            }
            self.helper = None;
        }
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(status) if status.pid() == self.init && self.init.is_some() => {
                    self.end = Some(status);
                    return;
                }
                Ok(_) => {}
            }
        }
    }
}

/// `<pid> <started, Unix milliseconds> …`
fn read_init(run: &Path) -> Option<(Pid, i64)> {
    let mut text = [0u8; 64];
    let n = std::fs::File::open(run.join(INIT_FILE)).ok()?.read(&mut text).ok()?;
    let mut fields = std::str::from_utf8(&text[..n]).ok()?.split_ascii_whitespace();
    Some((Pid::from_raw(fields.next()?.parse().ok()?), fields.next()?.parse().ok()?))
}

/// Kills what init left behind: nothing when it had its own pid namespace, but a container on
/// the host's pids can leave any number of processes.
fn kill_rest(cgroup: &Path) {
    let _ = std::fs::write(cgroup.join("cgroup.kill"), b"1");
    for _ in 0..KILL_ROUNDS {
        let Ok(list) = std::fs::read(cgroup.join("cgroup.procs")) else { return };
        let mut any = false;
        for pid in std::str::from_utf8(&list).unwrap_or("").lines().filter_map(|l| l.parse().ok()) {
            any = true;
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if !any {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Writes `<code> <signal or 0> <started> <finished> <oom>` and gives it its name in one step.
fn record_end(task: &Task, started_ms: i64, status: WaitStatus) {
    let (code, signal) = match status {
        WaitStatus::Exited(_, code) => (code, 0),
        WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, signal as i32),
        _ => (255, 0),
    };
    let finished = crate::clock::wall_ms();
    let oom = i32::from(task.oom.as_deref().is_some_and(oom_killed));
    let line = format!("{code} {signal} {started_ms} {finished} {oom}\n");
    // The run directory is another file system: it still has room when the disk is full.
    for place in [&task.exit, &task.run.join(EXIT_FILE)] {
        let temporary = place.with_extension("tmp");
        let written = std::fs::write(&temporary, &line);
        if written.and_then(|()| std::fs::rename(&temporary, place)).is_ok() {
            return;
        }
        let _ = std::fs::remove_file(&temporary);
    }
}

/// True when the line `oom_kill <n>` has counted any.
fn oom_killed(file: &Path) -> bool {
    let text = std::fs::read(file).unwrap_or_default();
    let text = std::str::from_utf8(&text).unwrap_or("");
    text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|n| n.trim() != "0")
}

/// Takes the terminal's master end that libcontainer sends.
fn receive_terminal(listener: &OwnedFd) -> Option<OwnedFd> {
    let _ = fcntl(listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let socket = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?;
    // SAFETY: accept4 has just made this descriptor, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut space = nix::cmsg_space!(RawFd);
    let mut byte = [0u8; 64];
    let mut slices = [std::io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags).ok()?;
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just installed this descriptor for us alone.
            return fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    None
}

/// Closes what a library of `edged` may have left open across exec: a socket that a shim
/// inherited would stay open for as long as its container lives.
pub(crate) fn close_from(first: RawFd) {
    // SAFETY: no memory is passed, and nothing in this process uses descriptors from there on.
    // Kernels before 5.9 have no such call, and only lack the precaution.
    unsafe { libc::syscall(libc::SYS_close_range, first, RawFd::MAX, 0) };
}

/// The helper gets what it needs by name; nothing else may leak into the container.
fn close_on_exec() {
    for fd in [EXE_FD, REPORT_FD, LOCK_FD] {
        // SAFETY: `edged` placed these three; a missing one only makes the call fail.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    close_from(LOCK_FD + 1);
}
