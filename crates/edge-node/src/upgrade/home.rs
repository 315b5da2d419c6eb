//! `<data-dir>/upgrade`: the state, the slots, and what is still arriving. All is written beside
//! its place, synced, and put there by one rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use edge_core::upgrade::{Installed, Life, Moment, Slot, State, Target};
use ring::digest;

/// A state that is longer than this is none.
const STATE_BYTES: u64 = 64 * 1024;
/// Bytes of a program that are read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// The directory of a board's programs.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// That of this data directory. Nothing is made yet.
    pub fn of(data_dir: &Path) -> Home {
        Home(data_dir.join("upgrade"))
    }

    /// Whether there was ever an upgrade.
    pub fn exists(&self) -> bool {
        self.file().exists()
    }

    /// The state's file.
    pub fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// A slot's program.
    pub fn program(&self, slot: Slot) -> PathBuf {
        self.0.join(slot.name()).join("edged")
    }

    /// Where a program arrives.
    pub(super) fn arriving(&self) -> PathBuf {
        self.0.join("arriving")
    }

    /// The directory, made if it is not there.
    pub(super) fn made(&self) -> io::Result<&Path> {
        fs::create_dir_all(&self.0)?;
        Ok(&self.0)
    }

    /// The state. What is not there, or damaged, says that the base runs.
    pub fn read(&self) -> State {
        let mut bytes = Vec::new();
        let read =
            File::open(self.file()).and_then(|file| file.take(STATE_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => State::read(&bytes).unwrap_or_default(),
            Err(_) => State::default(),
        }
    }

    /// Keeps the state; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it is not, and what was there still is.
    pub fn write(&self, state: &State) -> io::Result<()> {
        let beside = self.made()?.join("state.json.new");
        let _ = fs::remove_file(&beside);
        let options = &mut OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o644).open(&beside)?;
        file.write_all(&state.write())?;
        file.sync_all()?;
        fs::rename(&beside, self.file())?;
        File::open(&self.0)?.sync_all()
    }

    /// Changes what is kept, one change at a time, and keeps it where `change` says so.
    ///
    /// # Errors
    /// When it is not kept, and what was there still is.
    pub fn change(&self, change: impl FnOnce(&mut State) -> bool) -> io::Result<()> {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.read();
        if change(&mut state) { self.write(&state) } else { Ok(()) }
    }

    /// Puts what has arrived into a slot. What the slot held is gone.
    pub(super) fn settle(&self, slot: Slot) -> io::Result<()> {
        let (from, to) = (self.arriving(), self.program(slot));
        let dir = self.0.join(slot.name());
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755))?;
        File::open(&from)?.sync_all()?;
        fs::rename(&from, &to)?;
        File::open(&dir)?.sync_all()?;
        File::open(&self.0)?.sync_all()
    }

    /// Removes what a slot held.
    pub fn empty(&self, slot: Slot) {
        // What stays is overwritten by the next upgrade.
        let _ = fs::remove_file(self.program(slot));
    }

    /// Whether a slot still holds what was put there: cards rot, and what has changed in one place
    /// may well run until it comes to that.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn expect_whole(&self, slot: Slot, program: &Installed) -> Result<(), String> {
        let damaged = |what: &str| Err(format!("its file on the disk is damaged: {what}"));
        let mut sha256 = digest::Context::new(&digest::SHA256);
        let read = File::open(self.program(slot)).and_then(|mut file| {
            let bytes = file.metadata()?.len();
            let mut piece = vec![0; PIECE_BYTES];
            let mut left = bytes == program.bytes;
            while left {
                let count = file.read(&mut piece)?;
                sha256.update(&piece[..count]);
                left = count > 0;
            }
            Ok(bytes)
        });
        match read {
            Ok(bytes) if bytes != program.bytes => {
                damaged(&format!("it has {bytes} bytes of {}", program.bytes))
            }
            Ok(_) if hex(&sha256.finish()) != program.digest => damaged("its digest is another"),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("its file can't be read: {error}")),
        }
    }

    /// Which program the calling process is.
    pub fn place(&self) -> Target {
        let id = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
        let own = id(Path::new("/proc/self/exe"));
        let of = |slot: &Slot| own.is_some() && id(&self.program(*slot)) == own;
        [Slot::A, Slot::B].into_iter().find(of).map_or(Target::Base, Target::Slot)
    }
}

/// The time since this board booted; a board whose kernel does not say counts starts only.
pub fn now() -> Moment {
    let up = text("/proc/uptime");
    let seconds = up.split('.').next().and_then(|whole| whole.parse().ok());
    Moment { boot: boot(), up_s: seconds.unwrap_or(0) }
}

/// The calling process, which stays the same when it becomes another program.
pub fn life() -> Life {
    Life { boot: boot(), began: began("self").unwrap_or(0), pid: std::process::id() }
}

/// Whether this is a process other than the calling one, and runs.
pub fn runs_beside(life: &Life) -> bool {
    let other = life.pid != 0 && life.pid != std::process::id();
    other && life.boot == boot() && began(&life.pid.to_string()) == Some(life.began)
}

/// When a process began, in ticks since the boot.
fn began(process: &str) -> Option<u64> {
    // What stands in brackets before may have blanks of its own (`proc_pid_stat(5)`, field 22).
    let stat = text(&format!("/proc/{process}/stat"));
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok())
}

fn boot() -> String {
    text("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A digest as it is written.
pub(super) fn hex(digest: &digest::Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
