//! What `edged doctor --fix` does. Each repair may be done again, and changes what it names only.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use edge_core::doctor::{Facts, Fix};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::files::Files;
use super::kernel::module_of;
use crate::net::survey;
use crate::opened::opened;
use crate::runtime::calls;

/// The file beside one that was changed, as it was before the first change.
pub(super) const BACKUP: &str = "before-edged";
pub(super) const MODULES: &str = "etc/modules-load.d/edged.conf";
pub(super) const SETTINGS: &str = "etc/sysctl.d/90-edged.conf";
/// What NetworkManager reads about Wi-Fi; it would put the link to sleep again.
pub(super) const MANAGER: &str = "etc/NetworkManager/conf.d";
pub(super) const AWAKE: &str = "[connection]\nwifi.powersave = 2\n";
pub(super) const WIFI_FILE: &str = "90-edged-wifi.conf";
/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the module itself.
const COMPRESSED: libc::c_uint = 4;
/// What rules of Services use beside the module itself.
pub(super) const WITH_RULES: [&str; 7] = [
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_numgen",
    "nft_reject_ipv4",
    "nft_fib_ipv4",
];

/// A repair that failed.
#[derive(Debug)]
pub struct FixError {
    operation: &'static str,
    object: String,
    why: String,
}

impl fmt::Display for FixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.object, self.why)
    }
}

impl std::error::Error for FixError {}

fn failed<E: fmt::Display>(
    operation: &'static str,
    object: impl fmt::Display,
) -> impl FnOnce(E) -> FixError {
    let object = object.to_string();
    move |error| FixError { operation, object, why: error.to_string() }
}

/// Carries one repair out on the board at `root`; says what was done.
///
/// # Errors
/// Names what could not be done, and why.
pub fn repair(root: &Path, fix: &Fix) -> Result<String, FixError> {
    let files = Files(root);
    match fix {
        Fix::Cmdline { path, text } => {
            let file = files.at(path);
            let write = || {
                let kept = back_up(&file)?;
                replace(&file, text.as_bytes()).map(|()| kept)
            };
            let done = opened(&file, write).map_err(failed("write", file.display()))?;
            let kept = done.value.display();
            let open = done.left_open.map_or(String::new(), |open| format!("; {open}"));
            Ok(format!("wrote {path} (as it was: {kept}); reboot for it to take effect{open}"))
        }
        Fix::Module(name) => module(&files, name),
        Fix::WifiAwake(link) => awake(&files, link),
        Fix::SwapOff(path) => {
            calls::swap_off(&files.at(path)).map_err(failed("stop swapping to", path))?;
            Ok(format!("stopped swapping to {path}; it comes back at the next boot"))
        }
        Fix::Sysctl { name, value } => {
            let file = files.at(&format!("proc/sys/{name}"));
            fs::write(&file, value).map_err(failed("set", file.display()))?;
            let setting = name.replace('/', ".");
            let line = format!("{setting} = {value}");
            let kept = files.at(SETTINGS);
            add_line(&kept, &line).map_err(failed("write", kept.display()))?;
            Ok(format!("set {setting} to {value}, and in /{SETTINGS} for the next boots"))
        }
        Fix::Private(path) => {
            let private = Permissions::from_mode(0o600);
            fs::set_permissions(path, private).map_err(failed("close", path))?;
            Ok(format!("{path} is for its owner alone now"))
        }
        Fix::Units(units) => {
            for unit in units {
                let file = files.at(unit.path);
                replace(&file, unit.text.as_bytes()).map_err(failed("write", file.display()))?;
            }
            let paths: Vec<String> = units.iter().map(|unit| format!("/{}", unit.path)).collect();
            Ok(format!("wrote {}, for edged's next start", paths.join(", ")))
        }
    }
}

/// Keeps what the file was before we touched it the first time.
fn back_up(file: &Path) -> io::Result<PathBuf> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(BACKUP);
    let kept = file.with_file_name(name);
    if !kept.exists() {
        replace(&kept, &fs::read(file)?)?;
    }
    Ok(kept)
}

/// Writes a file whole or not at all, over power cuts as well. Its mode stays.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mode = fs::metadata(&file).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = file.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut new = options.write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    new.write_all(bytes).and_then(|()| new.sync_all()).inspect_err(|_| {
        // What was begun would only take room, which may be what is missing.
        let _ = fs::remove_file(&fresh);
    })?;
    fs::rename(&fresh, &file)?;
    // On vfat a file's length is in its directory's entry, which has moved: a cut must not find
    // the new name on what the fresh one was.
    new.sync_all()?;
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Sees to it that a file has this line.
fn add_line(file: &Path, line: &str) -> io::Result<()> {
    let mut text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    if text.lines().any(|found| found == line) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    replace(file, text.as_bytes())
}

fn module(files: &Files<'_>, name: &'static str) -> Result<String, FixError> {
    let others: &[&str] = if name == "nf_tables" { &WITH_RULES } else { &[] };
    let kept = files.at(MODULES);
    // Kernels differ in which of the others there are.
    let others = others.iter().filter(|other| on_disk(files, other).is_some());
    let all: Vec<&str> = std::iter::once(name).chain(others.copied()).collect();
    for one in &all {
        add_line(&kept, one).map_err(failed("write", kept.display()))?;
    }
    if files.0 != Path::new("/") {
        return Ok(format!("wrote {name} to /{MODULES} for the next boots"));
    }
    for one in &all {
        load(files, one).map_err(failed("load the module", one))?;
    }
    Ok(format!("loaded {name}, and wrote it to /{MODULES} for the next boots"))
}

/// The file of a module and those that it needs, the last one first, as `modules.dep` has them.
fn on_disk(files: &Files<'_>, name: &str) -> Option<Vec<PathBuf>> {
    let release = files.line("proc/sys/kernel/osrelease")?;
    let dir = format!("lib/modules/{release}");
    let list = files.text(&format!("{dir}/modules.dep"))?;
    let line = list.lines().find(|line| module_of(line) == name)?;
    let (own, needs) = line.split_once(':')?;
    let paths = needs.split_ascii_whitespace().rev().chain([own]);
    Some(paths.map(|path| files.at(&format!("{dir}/{path}"))).collect())
}

/// Loads a module after those that it needs (finit_module(2)).
fn load(files: &Files<'_>, name: &str) -> io::Result<()> {
    let Some(paths) = on_disk(files, name) else {
        return Err(io::Error::other("it is not on the disk"));
    };
    for path in paths {
        let file = File::open(&path)?;
        let plain = path.extension().is_some_and(|extension| extension == "ko");
        let flags = if plain { 0 } else { COMPRESSED };
        let flags = ModuleInitFlags::from_bits_retain(flags);
        match finit_module(&file, &CString::default(), flags) {
            // It is there already.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                let path = path.display();
                let hint = if plain { "" } else { " (this kernel may not unpack modules)" };
                let why = format!("{path}: {}{hint}; it is loaded at the next boot", errno.desc());
                return Err(io::Error::other(why));
            }
        }
    }
    Ok(())
}

/// Keeps links of Wi-Fi awake that sleep between packets, as a board that serves must: the kernel's
/// drivers begin with that after each boot. Where NetworkManager is, it is its matter, until a
/// person asks for `--fix`. Gives what is to be said of each; a driver may refuse, or agree and
/// sleep all the same, and whoever asks again says only what is new.
pub fn keep_awake(root: &Path, facts: &Facts) -> Vec<String> {
    let files = Files(root);
    let asleep = facts.wifi.iter().filter(|wifi| wifi.power_save == Some(true));
    let kept = asleep.filter(|_| !files.at(MANAGER).is_dir()).map(|wifi| {
        match stay_awake(&files, &wifi.link) {
            Ok(()) => format!("{} is told to stay awake between packets", wifi.link),
            Err(error) => format!("{error}: answers may take a second and more"),
        }
    });
    kept.collect()
}

fn stay_awake(files: &Files<'_>, link: &str) -> Result<(), FixError> {
    let number = files.number(&format!("sys/class/net/{link}/ifindex")).unwrap_or(0);
    let kept = survey::Wifi::open().and_then(|mut wifi| wifi.stay_awake(number, link));
    kept.map_err(failed("keep awake", link))
}

fn awake(files: &Files<'_>, link: &str) -> Result<String, FixError> {
    stay_awake(files, link)?;
    if !files.at(MANAGER).is_dir() {
        return Ok(format!("{link} stays awake; after each boot edged sees to it"));
    }
    let file = files.at(MANAGER).join(WIFI_FILE);
    if fs::read_to_string(&file).is_ok_and(|text| text == AWAKE) {
        return Ok(format!("{link} stays awake"));
    }
    replace(&file, AWAKE.as_bytes()).map_err(failed("write", file.display()))?;
    Ok(format!("{link} stays awake, and with /{MANAGER}/{WIFI_FILE} after each boot"))
}
