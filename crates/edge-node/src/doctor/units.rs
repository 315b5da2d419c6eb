//! edged's own systemd units on the board, beside those that the running program carries.

use std::path::Path;

use edge_core::doctor::{UnitFile, UnitsOf};
use nix::sys::statvfs::{FsFlags, statvfs};

/// There when a package owns the files.
const PACKAGE: &str = "var/lib/dpkg/info/edged.list";
/// Where they are.
const UNITS: &str = "usr/lib/systemd/system";

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
    let image = statvfs(&root.join(UNITS)).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY));
    let whose = match root.join(PACKAGE).exists() {
        true => UnitsOf::Package,
        false if image => UnitsOf::Image,
        false => UnitsOf::Install,
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
        fs::write(root.join(PACKAGE), "").unwrap();
        assert_eq!(gather(&root, &CARRIED), Some((UnitsOf::Package, vec![CARRIED[1]])));
        fs::remove_dir_all(&root).unwrap();
    }
}
