//! Whether systemd runs edged as the program that runs wants to be run: `edgectl upgrade` brings a
//! program and no units.

use super::{Facts, Finding, Fix, UnitsOf};

const ID: &str = "units";

pub(super) fn judge(facts: &Facts, found: &mut Vec<Finding>) {
    let Some((whose, others)) = &facts.units else { return };
    if others.is_empty() {
        return found.push(Finding::ok(ID, "systemd's units are of the edged that runs"));
    }
    let paths: Vec<String> = others.iter().map(|unit| format!("/{}", unit.path)).collect();
    let todo = match whose {
        UnitsOf::Install => "`edged doctor --fix` writes them, for edged's next start",
        UnitsOf::Package => "install the package of this version (`edged version`): it has them",
        UnitsOf::Image => "flash partitions 1 and 2 of this version's image: it has them",
        UnitsOf::Closed => {
            "/usr is read-only: its disk may have failed, look at `dmesg`; once it can be written, \
             `edged doctor --fix` writes them"
        }
    };
    let finding = Finding::warning(
        ID,
        format!("of another version than the edged that runs: {}", paths.join(", ")),
        "an upgrade brings the program alone: what its own units would do is not done",
        todo,
    );
    found.push(match whose {
        UnitsOf::Install => finding.with(Fix::Units(others.clone())),
        UnitsOf::Package | UnitsOf::Image | UnitsOf::Closed => finding,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{UnitFile, judge};

    #[test]
    fn units_of_another_version_are_told_and_written_where_they_are_ours() {
        let found = |whose, others: &[UnitFile]| {
            let units = Some((whose, others.to_vec()));
            let found = judge(&Facts { units, ..Facts::default() });
            found.into_iter().find(|finding| finding.id == ID).expect("a finding")
        };
        let old = UnitFile { path: "usr/lib/systemd/system/edged.service", text: "[Unit]" };
        let ours = found(UnitsOf::Install, &[old]);
        assert!(
            ours.is_bad() && ours.what.ends_with("runs: /usr/lib/systemd/system/edged.service")
        );
        assert_eq!(ours.fix, Some(Fix::Units(vec![old])));
        for (whose, words) in [
            (UnitsOf::Package, "the package"),
            (UnitsOf::Image, "flash"),
            (UnitsOf::Closed, "dmesg"),
        ] {
            let theirs = found(whose, &[old]);
            assert!(theirs.fix.is_none() && theirs.todo.contains(words), "{}", theirs.todo);
        }
        assert!(!found(UnitsOf::Package, &[]).is_bad());
        assert!(judge(&Facts::default()).iter().all(|finding| finding.id != ID));
    }
}
