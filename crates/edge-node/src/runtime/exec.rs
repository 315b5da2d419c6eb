//! Commands in a running container, for `kubectl exec` and probes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4,
    bind, listen, recvmsg, socket,
};
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;

use super::cgroup;
use super::error::RuntimeError;
use super::files::{self, UNKNOWN};
use super::helper::{self, ExecRequest, LIFE_FD};
use super::spawn::{self, Child};
use super::start::blocking;
use super::{Runtime, Stream};
use crate::shim::{EXE_FD, REPORT_FD};

/// Longest name of a socket.
const SOCKET_NAME: usize = 107;

/// A command to run in a container, as the container's user, in its environment.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    /// Argument vector, never empty.
    pub args: Vec<String>,
    /// `NAME=value`, over the container's own.
    pub env_extra: Vec<String>,
    /// Gives the command a terminal: then its output is one stream, and input is always open.
    pub tty: bool,
    /// Opens standard input; without it the command reads an end at once.
    pub stdin: bool,
    /// Opens standard output; without it output is dropped.
    pub stdout: bool,
    /// As `stdout`.
    pub stderr: bool,
}

/// A command that runs. Dropping it kills the command.
#[derive(Debug)]
pub struct ExecSession {
    /// To the command; drop it to end the command's input.
    pub stdin: Option<Stream>,
    /// From the command.
    pub stdout: Option<Stream>,
    /// From the command.
    pub stderr: Option<Stream>,
    terminal: Option<Stream>,
    report: Lines<BufReader<pipe::Receiver>>,
    helper: Option<Child>,
    _life: OwnedFd,
}

/// Our ends of a command's streams, and its own.
#[derive(Default)]
struct Pipes {
    ours: [Option<OwnedFd>; 3],
    given: [Option<OwnedFd>; 3],
}

impl Runtime {
    /// Runs a command in a container, and returns when it runs.
    pub async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<ExecSession, RuntimeError> {
        self.running(id)?;
        if spec.args.first().is_none_or(String::is_empty) {
            let message = "you must specify at least one command for the container".into();
            return Err(RuntimeError::Exec { id: id.to_owned(), message, code: 126 });
        }
        let (runtime, name, wanted) = (self.clone(), id.to_owned(), spec.clone());
        let inner = self.inner.clone();
        drop(tokio::task::spawn_blocking(move || cgroup::hurry(&inner.layout)));
        let mut launched = blocking(move || runtime.launch_exec(&name, &wanted)).await?;
        let failed = |message: String| RuntimeError::Exec { id: id.to_owned(), message, code: 126 };
        let line = launched.session.report.next_line().await;
        let line = line.ok().flatten().unwrap_or_default();
        if !line.starts_with("ok ") {
            launched.session.reap().await;
            return Err(match line.is_empty() {
                true => failed("the command's helper ended without a word".into()),
                false => helper::parse_failure(id, &line),
            });
        }
        let mut session = launched.session;
        if let Some(console) = launched.console {
            let terminal = receive_terminal(&console)
                .and_then(Stream::new)
                .and_then(|t| Ok((t.try_clone()?, t.try_clone()?, t)))
                .map_err(|e| failed(format!("receive the terminal: {e}")))?;
            let (input, output, control) = terminal;
            session.stdin = spec.stdin.then_some(input);
            session.stdout = Some(output);
            session.terminal = Some(control);
        }
        Ok(session)
    }

    fn launch_exec(&self, id: &str, spec: &ExecSpec) -> Result<LaunchedExec, RuntimeError> {
        /// Tells the requests of one process apart.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let home = self.home(id);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = home.run.join(format!("exec-{}-{number}", std::process::id()));
        let socket = file.with_extension("sock");
        let request = ExecRequest {
            run: home.run.clone(),
            args: spec.args.clone(),
            env: spec.env_extra.clone(),
            console: spec.tty.then(|| socket.clone()),
        };
        let bytes =
            serde_json::to_vec(&request).map_err(|e| RuntimeError::io("serialise", &file, e))?;
        files::write_private(&file, &bytes)?;
        self.spawn_exec(&file, spec.tty.then_some(&*socket), spec).map_err(|e| {
            let _ = fs::remove_file(&file);
            RuntimeError::io("start a command in", &home.run, e)
        })
    }

    fn spawn_exec(
        &self,
        file: &Path,
        socket: Option<&Path>,
        spec: &ExecSpec,
    ) -> io::Result<LaunchedExec> {
        let console = socket.map(Console::listen).transpose()?;
        let pipes = if spec.tty { Pipes::default() } else { Pipes::open(spec)? };
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let (report, written) = pipe2(OFlag::O_CLOEXEC)?;
        let (life, held) = pipe2(OFlag::O_CLOEXEC)?;
        let given = |n: usize| pipes.given[n].as_ref().map_or(null.as_fd(), AsFd::as_fd);
        let fds = [
            (given(0), 0),
            (given(1), 1),
            (given(2), 2),
            (self.inner.exe.fd.as_fd(), EXE_FD),
            (written.as_fd(), REPORT_FD),
            (life.as_fd(), LIFE_FD),
        ];
        let args = ["runtime".into(), "exec".into(), file.as_os_str().to_owned()];
        let child = spawn::spawn(&self.inner.exe, &args, &fds)?;
        nix::fcntl::fcntl(&report, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let report = pipe::Receiver::from_owned_fd(report)?;
        let [stdin, stdout, stderr] = pipes.ours;
        let stream = |fd: Option<OwnedFd>| fd.map(Stream::new).transpose();
        let session = ExecSession {
            stdin: stream(stdin)?,
            stdout: stream(stdout)?,
            stderr: stream(stderr)?,
            terminal: None,
            report: BufReader::new(report).lines(),
            helper: Some(child),
            _life: held,
        };
        Ok(LaunchedExec { session, console })
    }
}

struct LaunchedExec {
    session: ExecSession,
    console: Option<Console>,
}

impl ExecSession {
    /// Tells the command's terminal its size; nothing without a terminal.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |t| t.resize(width, height))
    }

    /// Waits for the command's end: its status, or 128 + n when signal n ended it. Read its
    /// streams to their ends as well, or it may not come to an end.
    pub async fn wait(&mut self) -> i32 {
        let line = self.report.next_line().await.ok().flatten().unwrap_or_default();
        let code = line.strip_prefix("end ").and_then(|c| c.parse().ok()).unwrap_or(UNKNOWN);
        self.reap().await;
        code
    }

    async fn reap(&mut self) {
        if let Some(child) = self.helper.take() {
            // It has said its last word.
            let _ = tokio::task::spawn_blocking(move || waitpid(child.pid, None)).await;
        }
    }
}

impl Drop for ExecSession {
    fn drop(&mut self) {
        if let Some(child) = self.helper.take() {
            // The helper kills the command when our end of its pipe closes, just after this.
            std::thread::spawn(move || waitpid(child.pid, None));
        }
    }
}

impl Pipes {
    fn open(spec: &ExecSpec) -> io::Result<Pipes> {
        let mut pipes = Pipes::default();
        for (n, wanted) in [spec.stdin, spec.stdout, spec.stderr].into_iter().enumerate() {
            if wanted {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                let (ours, given) = if n == 0 { (write, read) } else { (read, write) };
                (pipes.ours[n], pipes.given[n]) = (Some(ours), Some(given));
            }
        }
        Ok(pipes)
    }
}

/// A socket that takes one terminal.
struct Console {
    fd: OwnedFd,
    path: PathBuf,
}

impl Console {
    fn listen(path: &Path) -> io::Result<Console> {
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // A longer name is bound through a descriptor of its directory.
        let dir = fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default();
        let near = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        let bound = if path.as_os_str().len() > SOCKET_NAME { &*near } else { path };
        bind(fd.as_raw_fd(), &UnixAddr::new(bound)?)?;
        let console = Console { fd, path: path.into() };
        listen(&console.fd, Backlog::new(1)?)?;
        Ok(console)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the terminal. The command runs already, so it has been sent.
fn receive_terminal(console: &Console) -> io::Result<OwnedFd> {
    nix::fcntl::fcntl(&console.fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let socket = accept4(console.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 has just made this descriptor, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut space = nix::cmsg_space!(i32);
    let mut bytes = [0u8; 64];
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us alone.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
