//! The guests' kernel: Debian's for virtual machines, unpacked beside the built programs and never
//! installed here; and its modules, in an order in which each one finds what it needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::board::command::{must, run};

/// The package whose only dependency is the kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel with its modules.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// Finds the kernel, or fetches it by Debian's own tools. `EDGED_GUEST_KERNEL` names another
    /// directory with `boot` and `lib/modules`.
    pub(crate) fn find() -> Kernel {
        let named = std::env::var_os("EDGED_GUEST_KERNEL").map(PathBuf::from);
        let dir = named.unwrap_or_else(fetched);
        let image = only(&dir.join("boot"), "vmlinuz-");
        let mut modules = BTreeMap::new();
        collect(&dir.join("lib/modules"), &mut modules);
        Kernel { image, modules }
    }

    /// These modules and all that they need, in the order in which they can be loaded.
    pub(crate) fn modules(&self, names: &[&str]) -> Vec<&Path> {
        let mut found = Vec::new();
        for name in names {
            self.need(name, &mut found);
        }
        found
    }

    fn need<'a>(&'a self, name: &str, found: &mut Vec<&'a Path>) {
        let name = name.replace('-', "_");
        let path = self.modules.get(&name).unwrap_or_else(|| panic!("no kernel module {name}"));
        if found.contains(&path.as_path()) {
            return;
        }
        let content = std::fs::read(path).expect("a module can be read");
        for other in depends(&content) {
            self.need(&other, found);
        }
        found.push(path);
    }
}

/// What a module says that it needs, in its own list of `name=value` texts.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let text = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn collect(dir: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of modules").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "ko") {
            let name = path.file_stem().expect("a name").to_string_lossy().replace('-', "_");
            found.insert(name, path);
        }
    }
}

fn only(dir: &Path, start: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths = entries.flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
    };
    paths.find(named).unwrap_or_else(|| panic!("no {start}… in {}", dir.display()))
}

/// Fetches the kernel's package once and unpacks it.
fn fetched() -> PathBuf {
    let exe = std::env::current_exe().expect("this test has a path");
    let dir = exe.ancestors().nth(3).expect("target").join("guest-kernel");
    if dir.join("whole").exists() {
        return dir;
    }
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory beside the programs");
    let depends = must("apt-cache", &["depends", PACKAGE]);
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image"));
    let name = name.unwrap_or_else(|| panic!("{PACKAGE} needs no kernel: {depends}"));
    let mut download = std::process::Command::new("apt-get");
    download.args(["download", "-qq", &format!("linux-image{name}")]).current_dir(&dir);
    run(download).ok();
    let package = only(&dir, "linux-image").display().to_string();
    must("dpkg-deb", &["-x", &package, &dir.display().to_string()]);
    std::fs::remove_file(package).expect("a file of ours");
    std::fs::write(dir.join("whole"), "").expect("a mark");
    dir
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"junk\0license=GPL\0depends=udp_tunnel,libchacha\0name=x\0";
        assert_eq!(super::depends(module), ["udp_tunnel", "libchacha"]);
        assert!(super::depends(b"\0depends=\0").is_empty());
        assert!(super::depends(b"nothing").is_empty());
    }
}
