//! edged's own systemd units on the board, beside those that the running program carries.

use std::path::Path;

use edge_core::doctor::{UnitFile, UnitsOf};

use crate::closed::{Closed, closed};

/// The files of the package edged; of one that was removed, what is left of them.
const PACKAGE: &str = "var/lib/dpkg/info/edged.list";
/// The one without which the package is not installed.
const PROGRAM: &str = "/usr/bin/edged";
/// Where they are.
const UNITS: &str = "usr/lib/systemd/system";

/// Whether edged is installed on the board at `root` as a package. One that was removed and not
/// purged is known to dpkg all the same.
#[must_use]
pub fn is_packaged(root: &Path) -> bool {
    let list = std::fs::read_to_string(root.join(PACKAGE)).unwrap_or_default();
    let program = root.join(PROGRAM.trim_start_matches('/'));
    list.lines().any(|line| line == PROGRAM) && program.is_file()
}

/// Whose they are, and which of them differ or are missing; `None` on a board that has none.
pub(super) fn gather(
    root: &Path,
    carried: &'static [UnitFile],
) -> Option<(UnitsOf, Vec<UnitFile>)> {
    let has = |unit: &&UnitFile| std::fs::read(root.join(unit.path)).ok();
    // Presets are for who installs.
    let services = || carried.iter().filter(|unit| unit.path.ends_with(".service"));
    services().find_map(|unit| has(&unit))?;
    let others = services().filter(|unit| has(unit).as_deref() != Some(unit.text.as_bytes()));
    let whose = match closed(&root.join(UNITS)) {
        _ if is_packaged(root) => UnitsOf::Package,
        Some(Closed::Image) => UnitsOf::Image,
        Some(Closed::Disk) => UnitsOf::Closed,
        None => UnitsOf::Install,
    };
    Some((whose, others.copied().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::doctor::Fix;
    use std::fs;

    const CARRIED: [UnitFile; 2] = [
        UnitFile { path: "usr/lib/systemd/system/edged.service", text: "[Unit]\nnew\n" },
        UnitFile { path: "usr/lib/systemd/system/edged-pods.service", text: "[Unit]\n" },
    ];

    #[test]
    fn units_that_differ_are_found_and_written() {
        let root = std::env::temp_dir().join(format!("edged-units-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join(UNITS)).unwrap();
        assert_eq!(gather(&root, &CARRIED), None, "a board without systemd, or in a directory");
        fs::write(root.join(CARRIED[0].path), "[Unit]\nold\n").unwrap();
        let (whose, others) = gather(&root, &CARRIED).unwrap();
        assert_eq!((whose, &others[..]), (UnitsOf::Install, &CARRIED[..]), "one is missing");
        let said = super::super::repair(&root, &Fix::Units(others)).unwrap();
        assert!(said.contains("/usr/lib/systemd/system/edged-pods.service"), "{said}");
        assert_eq!(gather(&root, &CARRIED), Some((UnitsOf::Install, vec![])));
        fs::write(root.join(CARRIED[1].path), "").unwrap();
        fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        fs::write(root.join(PACKAGE), "/.\n/etc\n").unwrap();
        let removed = gather(&root, &CARRIED);
        assert_eq!(removed, Some((UnitsOf::Install, vec![CARRIED[1]])), "the package is gone");
        fs::write(root.join(PACKAGE), "/.\n/usr/bin\n/usr/bin/edged\n").unwrap();
        assert!(!is_packaged(&root), "its program is not there");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/edged"), "").unwrap();
        assert_eq!(gather(&root, &CARRIED), Some((UnitsOf::Package, vec![CARRIED[1]])));
        fs::remove_dir_all(&root).unwrap();
    }
}
