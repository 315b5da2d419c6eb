//! The card image and the image that pods on it run: made once for all tests of a run, of the
//! binaries that `images/cross-build.sh aarch64` left, or given.
//!
//! `EDGED_CARD_IMAGE` names an image (`.img`) that is there; `EDGED_CARD_BINARIES` a directory with
//! static `edged` and `edgectl` for aarch64.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::board::command::must;
use crate::lab::cargo;

/// Where the boot partition begins, as `mtools` write it.
pub(super) const BOOT: &str = "@@4M";
/// What pods run: a static busybox for arm64.
pub(super) const BOX: &str = "example.org/box:1";

/// Finds the card image, or makes it in `dir`.
pub(super) fn card(dir: &Path) -> PathBuf {
    match std::env::var_os("EDGED_CARD_IMAGE") {
        Some(image) => PathBuf::from(image),
        None => with_kernel(dir, "arm64"),
    }
}

/// Makes the card image in `dir`, with this one of Debian's kernels.
pub(super) fn with_kernel(dir: &Path, kernel: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let image = dir.join(format!("card-{kernel}.img"));
    let mut command = Command::new(root.join("images/card.sh"));
    command.env("EDGED_CARD_KERNEL", kernel);
    if let Some(binaries) = std::env::var_os("EDGED_CARD_BINARIES") {
        command.arg("--edged").arg(binaries);
    }
    let status = command.arg(&image).status().expect("images/card.sh starts");
    assert!(status.success(), "images/card.sh: {status}");
    image
}

/// An archive with the box: the card's own busybox, out of its initramfs.
pub(super) fn archive(card: &Path, dir: &Path) -> PathBuf {
    let packed = dir.join("initrd.zst");
    let from = format!("{}{BOOT}", card.display());
    must("mcopy", &["-n", "-o", "-i", &from, "::initrd.img", &packed.display().to_string()]);
    let line =
        format!("cd {} && zstd -dcq initrd.zst | cpio -id --quiet bin/busybox", dir.display());
    must("sh", &["-c", &line]);
    let program = std::fs::read(dir.join("bin/busybox")).expect("busybox");
    let archive = dir.join("box.tar");
    cargo::program(&archive, BOX, "arm64", &program);
    archive
}
