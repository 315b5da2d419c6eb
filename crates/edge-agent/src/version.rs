//! This program's version, in the one place of its file where it can be found without running it.

use edge_api::release::{MARK_BYTES, Version, mark, said};

#[used]
static MARK: [u8; MARK_BYTES] = mark(env!("CARGO_PKG_VERSION"));

/// The version as the file says it. Read when the program runs, so that it is not what was
/// compiled but what is there.
pub(crate) fn text() -> &'static str {
    said(std::hint::black_box(&MARK)).unwrap_or_default()
}

/// The version.
pub(crate) fn own() -> Version {
    Version::parse(text()).expect("invariant: the mark is made of this crate's own version")
}

/// The version as a Node says it: that of Kubernetes which is spoken here, and ours.
pub(crate) fn kubelet() -> String {
    format!("v1.33.0+edged.{}", own())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mark_says_the_crates_version() {
        assert_eq!(super::text(), env!("CARGO_PKG_VERSION"));
    }
}
