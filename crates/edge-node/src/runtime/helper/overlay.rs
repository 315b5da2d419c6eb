//! A container's root: the image's layers, read-only, under a directory of the container's own.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_classic};

use super::Failure;
use crate::runtime::files::Request;

/// Longest options of mount(2): a page, with its closing NUL, on the smallest of pages.
const LONGEST: usize = 4_095;

/// `linux/mount.h`, which libc does not carry for all targets.
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// Mounts the root of the container at the request's `rootfs`.
pub(super) fn mount(request: &Request, layers: Vec<OwnedFd>) -> Result<(), Failure> {
    let upper = request.data.join("upper");
    let work = request.data.join("work");
    // Layers are named by open descriptors: short whatever their paths are, free of the colons
    // and commas that options cannot hold, and the container does not get to see the paths.
    let mut names: Vec<String> =
        layers.iter().rev().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    if names.is_empty() {
        let empty = request.data.join("empty");
        fs::create_dir_all(&empty).map_err(|e| explain(e, request))?;
        names.push(empty.display().to_string());
    }
    let mounted = classic(&names, &upper, &work, &request.rootfs, true)
        // A kernel before 5.10 does not know `volatile`.
        .or_else(|e| match e {
            Errno::EINVAL => classic(&names, &upper, &work, &request.rootfs, false),
            e => Err(e),
        })
        .or_else(|e| match e {
            Errno::E2BIG => {
                modern(&names, &upper, &work, &request.rootfs).map_err(|_| Errno::E2BIG)
            }
            e => Err(e),
        });
    mounted.map_err(|e| explain(io::Error::from(e), request))
}

/// With mount(2), on every kernel. `volatile` spares the flash: the upper directory is never
/// synced, and a container's root is never used again after the board went down.
fn classic(
    layers: &[String],
    upper: &Path,
    work: &Path,
    target: &Path,
    volatile: bool,
) -> Result<(), Errno> {
    let mut options = format!("lowerdir={}", layers.join(":"));
    options.push_str(&format!(",upperdir={},workdir={}", escape(upper), escape(work)));
    if volatile {
        options.push_str(",volatile");
    }
    if options.len() > LONGEST {
        return Err(Errno::E2BIG);
    }
    mount_classic(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(&*options))
}

/// mount(2) splits its options at commas.
fn escape(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:")
}

/// With fsconfig(2), a layer at a time: any number of them, from kernel 6.7 on.
fn modern(layers: &[String], upper: &Path, work: &Path, target: &Path) -> Result<(), Errno> {
    use nix::NixPath;
    use std::os::fd::FromRawFd;
    let fs = target.with_nix_path(|_| {
        // SAFETY: the name is a C string.
        Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), 1) })
    })??;
    // SAFETY: the kernel has just made this descriptor for us.
    let fs = unsafe { OwnedFd::from_raw_fd(fs as i32) };
    for layer in layers {
        configure(&fs, FSCONFIG_SET_STRING, Some("lowerdir+"), Some(layer))?;
    }
    configure(&fs, FSCONFIG_SET_STRING, Some("upperdir"), Some(&upper.display().to_string()))?;
    configure(&fs, FSCONFIG_SET_STRING, Some("workdir"), Some(&work.display().to_string()))?;
    configure(&fs, FSCONFIG_SET_FLAG, Some("volatile"), None)?;
    configure(&fs, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: no memory is passed.
    let made = unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1, 0) };
    // SAFETY: the kernel has just made this descriptor for us.
    let made = unsafe { OwnedFd::from_raw_fd(Errno::result(made)? as i32) };
    target.with_nix_path(|path| {
        // SAFETY: both names are C strings that outlive the call.
        let moved = unsafe {
            let (from, flags) = (made.as_raw_fd(), MOVE_MOUNT_F_EMPTY_PATH);
            let at = libc::AT_FDCWD;
            libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), at, path.as_ptr(), flags)
        };
        Errno::result(moved).map(drop)
    })?
}

fn configure(
    fs: &OwnedFd,
    command: libc::c_uint,
    key: Option<&str>,
    value: Option<&str>,
) -> Result<(), Errno> {
    let key = key.map(std::ffi::CString::new).transpose().map_err(|_| Errno::EINVAL)?;
    let value = value.map(std::ffi::CString::new).transpose().map_err(|_| Errno::EINVAL)?;
    let pointer =
        |s: &Option<std::ffi::CString>| s.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
    // SAFETY: both strings are C strings or absent, as each command has it, and outlive the call.
    let done = unsafe {
        let (fd, key, value) = (fs.as_raw_fd(), pointer(&key), pointer(&value));
        libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0)
    };
    Errno::result(done).map(drop)
}

/// Says what a board lacks, where the kernel only gives a number.
fn explain(error: io::Error, request: &Request) -> Failure {
    let data = request.data.display();
    let hint = match error.raw_os_error() {
        Some(libc::ENODEV) => {
            ": this kernel has no overlayfs; load its module (modprobe overlay) or use a kernel \
             built with CONFIG_OVERLAY_FS"
                .to_owned()
        }
        Some(libc::EINVAL) => format!(
            ": the file system under {data} may not serve as an overlay's upper directory; put \
             --data-dir on ext4, xfs, btrfs or f2fs"
        ),
        Some(libc::E2BIG) => {
            format!(
                ": the image has {} layers, too many for this kernel",
                request.spec.layers.len()
            )
        }
        _ => String::new(),
    };
    Failure::Create(format!("mount the root on {data}: {error}{hint}"))
}
