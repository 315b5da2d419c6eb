//! Rules about the tree as a whole: what stands at its top, and that documents do not point
//! at files which are gone.

use super::{none, root};

/// What may stand at the top. Hidden files are settings of tools.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "crates",
    "cross.toml",
    "docs",
    "images",
    "systemd",
    "tests",
    "target",
];

#[test]
fn the_top_level_is_as_the_design_says() {
    let mut offences = Vec::new();
    for entry in std::fs::read_dir(root()).expect("the root can be read").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP.contains(&name.as_str()) {
            offences.push(name);
        }
    }
    none("files at the top level that have no place there", offences);
}

#[test]
fn every_crate_takes_the_shared_lints_and_version() {
    let mut offences = Vec::new();
    let crates = root().join("crates");
    for entry in std::fs::read_dir(crates).expect("crates can be read").flatten() {
        let path = entry.path().join("Cargo.toml");
        let text = std::fs::read_to_string(&path).expect("a manifest");
        for line in ["[lints]\nworkspace = true", "version.workspace = true", "description = "] {
            if !text.contains(line) {
                offences.push(format!("{}: lacks `{}`", path.display(), line.replace('\n', " ")));
            }
        }
    }
    none("manifests", offences);
}

#[test]
fn documents_point_at_files_that_exist() {
    let mut offences = Vec::new();
    let mut documents = vec![root().join("README.md")];
    for dir in ["docs", "docs/adr", "docs/bench"] {
        let Ok(entries) = std::fs::read_dir(root().join(dir)) else { continue };
        documents.extend(entries.flatten().map(|e| e.path()));
    }
    for path in documents.iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for link in links(&text) {
            let target = path.parent().expect("invariant: a file has a parent").join(&link);
            if !target.exists() {
                offences.push(format!("{} → {link}", path.display()));
            }
        }
    }
    none("links to nothing", offences);
}

/// Targets of Markdown links that are paths.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("](").skip(1) {
        let Some(link) = part.split(')').next() else { continue };
        let link = link.split('#').next().unwrap_or_default();
        if !link.is_empty() && !link.contains("://") && !link.contains(' ') {
            found.push(link.to_owned());
        }
    }
    found
}
