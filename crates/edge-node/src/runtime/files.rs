//! Where a container's state lies, and how each file of it is written and read. What a restart
//! of `edged` needs is in the run directory, which is memory; what a restart of the board needs
//! is in the data directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroup::Layout;
use super::error::RuntimeError;
use crate::seams::{ContainerSpec, Exit};
use crate::shim::{CONSOLE_SOCKET, EXIT_FILE, INIT_FILE, SHIM_PID};

/// Exit status of a container whose end nobody saw, as containerd has it.
pub(super) const UNKNOWN: i32 = 255;

/// The two directories of one container.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(super) run: PathBuf,
    pub(super) data: PathBuf,
}

/// All that `edged runtime create` and `exec` need, since they ask nobody.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) spec: ContainerSpec,
    pub(super) layout: Layout,
    /// The container's group, from the root of each hierarchy.
    pub(super) cgroup: PathBuf,
    pub(super) data: PathBuf,
    /// Where the root is mounted, in a mount namespace of the helper's own.
    pub(super) rootfs: PathBuf,
    /// The pod's `/dev/shm`.
    pub(super) shm: PathBuf,
    /// A tree of empty directories to mount the cgroup hierarchies on.
    pub(super) skeleton: PathBuf,
    /// False when no device filter could be put on the containers' cgroup: then nothing may make
    /// device nodes.
    pub(super) device_filter: bool,
}

/// What the disk keeps of a container: no environment, since that may hold secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pod_uid: String,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) spec_hash: String,
    pub(super) image: String,
    pub(super) image_id: String,
    pub(super) boot_id: String,
    pub(super) cgroup: PathBuf,
    pub(super) created_ms: i64,
}

impl Home {
    pub(super) fn new(run_dir: &Path, data_dir: &Path, id: &str) -> Home {
        Home {
            run: run_dir.join("containers").join(id),
            data: data_dir.join("containers").join(id),
        }
    }

    pub(super) fn exit(&self) -> PathBuf {
        self.data.join(EXIT_FILE)
    }

    pub(super) fn record(&self) -> PathBuf {
        self.data.join("record.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    pub(super) fn request(&self) -> PathBuf {
        self.run.join("request.json")
    }

    pub(super) fn init(&self) -> PathBuf {
        self.run.join(INIT_FILE)
    }

    pub(super) fn console(&self) -> PathBuf {
        self.run.join(CONSOLE_SOCKET)
    }

    /// libcontainer's own state.
    pub(super) fn state(&self) -> PathBuf {
        self.run.join("state")
    }

    /// The pid that the shim left.
    pub(super) fn read_shim(&self) -> Option<i32> {
        fs::read_to_string(self.run.join(SHIM_PID)).ok()?.trim().parse().ok()
    }

    /// Init as `edged runtime create` left it.
    pub(super) fn read_init(&self) -> Option<Init> {
        Init::parse(&fs::read_to_string(self.init()).ok()?)
    }

    /// The end as the shim recorded it.
    pub(super) fn read_exit(&self, id: &str) -> Option<Exit> {
        [self.exit(), self.run.join(EXIT_FILE)]
            .iter()
            .find_map(|path| parse_exit(id, &fs::read_to_string(path).ok()?))
    }

    pub(super) fn write_exit(&self, exit: &Exit) -> Result<(), RuntimeError> {
        let text = format!(
            "{} {} {} {} {}\n",
            exit.code,
            exit.signal.unwrap_or(0),
            exit.started_at_ms,
            exit.finished_at_ms,
            i32::from(exit.oom_killed)
        );
        write_private(&self.exit(), text.as_bytes())
    }

    pub(super) fn read_record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record()).ok()?).ok()
    }

    pub(super) fn read_request(&self) -> Result<Request, RuntimeError> {
        let path = self.request();
        let bytes = fs::read(&path).map_err(|e| RuntimeError::io("read", &path, e))?;
        serde_json::from_slice(&bytes).map_err(|e| RuntimeError::io("parse", &path, e))
    }

    /// Deletes both directories; what is not there is no error.
    pub(super) fn delete(&self) -> Result<(), RuntimeError> {
        for dir in [&self.run, &self.data] {
            match fs::remove_dir_all(dir) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RuntimeError::io("delete", dir, e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A container's first process: its pid, and its start in clock ticks after boot, which tells it
/// from a later process of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) pid: i32,
    pub(super) started_ms: i64,
    pub(super) ticks: u64,
}

impl Init {
    pub(super) fn parse(text: &str) -> Option<Init> {
        let mut fields = text.split_ascii_whitespace();
        Some(Init {
            pid: fields.next()?.parse().ok()?,
            started_ms: fields.next()?.parse().ok()?,
            ticks: fields.next()?.parse().ok()?,
        })
    }

    pub(super) fn format(&self) -> String {
        format!("{} {} {}\n", self.pid, self.started_ms, self.ticks)
    }
}

/// Field 22 of `/proc/<pid>/stat`.
pub(super) fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

pub(super) fn parse_exit(id: &str, text: &str) -> Option<Exit> {
    let mut fields = text.split_ascii_whitespace().map(|f| f.parse::<i64>().ok());
    let mut next = || fields.next().flatten();
    let (code, signal, started_at_ms, finished_at_ms) = (next()?, next()?, next()?, next()?);
    Some(Exit {
        id: id.to_owned(),
        code: i32::try_from(code).ok()?,
        signal: i32::try_from(signal).ok().filter(|s| *s != 0),
        started_at_ms,
        finished_at_ms,
        oom_killed: next()? != 0,
    })
}

/// Writes a file that only root may read, whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    let temporary = path.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&temporary)
        .and_then(|mut f| f.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| RuntimeError::io("write", path, e))
}

/// Makes a directory and those above it, closed to all but root.
pub(super) fn make_private_dir(path: &Path) -> Result<(), RuntimeError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| RuntimeError::io("make directory", path, e))
}

/// Tells one boot of the board from the next.
pub(super) fn boot_id() -> Result<String, RuntimeError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|e| RuntimeError::io("read", path, e))?;
    Ok(text.trim().to_owned())
}

/// Unix milliseconds at which the board came up.
pub(super) fn boot_ms() -> i64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    seconds.unwrap_or(0) * 1_000
}

/// Unix milliseconds now.
pub(super) fn now_ms() -> i64 {
    crate::clock::wall_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_file_reads_as_it_was_written() {
        let exit = parse_exit("a", "137 9 100 200 1\n").unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
        assert_eq!(parse_exit("a", "0 0 1 2 0").unwrap().signal, None);
        for torn in ["", "137", "137 9 100", "137 9 100 200", "x 0 1 2 0"] {
            assert_eq!(parse_exit("a", torn), None, "{torn:?}");
        }
    }

    #[test]
    fn the_start_of_this_process_is_found_whatever_its_name() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(own).unwrap() > 0);
        assert_eq!(start_ticks(-1), None);
        let init = Init { pid: 3, started_ms: 4, ticks: 5 };
        assert_eq!(Init::parse(&init.format()), Some(init));
    }
}
