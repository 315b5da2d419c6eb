//! Kernel settings below `/proc/sys`, of the calling thread's network namespace. A board may
//! have them read-only; then what they already say decides whether that matters.

use std::path::Path;

/// Sets what isn't yet as wanted; answers a sentence for each setting that stays otherwise.
/// A setting that this kernel doesn't have is passed over.
pub(super) fn set<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, wanted) in settings {
        let path = Path::new("/proc/sys").join(name);
        let Ok(found) = std::fs::read_to_string(&path) else { continue };
        if found.split_whitespace().eq(wanted.split_whitespace()) {
            continue;
        }
        if let Err(error) = std::fs::write(&path, wanted) {
            complaints.push(format!(
                "can't set {} to {wanted:?} (it is {:?}): {error}",
                name.replace('/', "."),
                found.trim()
            ));
        }
    }
    complaints
}
