//! The import rules between the crates, read from `cargo metadata`: an edge that the
//! architecture does not name fails, so the house can't be rewired by accident.

use std::collections::BTreeMap;
use std::process::Command;

use super::{none, root};

/// Crate → the crates of ours that it may use. The design, section 5.
const ALLOWED: &[(&str, &[&str])] = &[
    ("edge-api", &[]),
    ("edge-core", &["edge-api"]),
    ("edge-store", &["edge-api", "edge-core"]),
    ("edge-bus", &["edge-api", "edge-core"]),
    ("edge-client", &["edge-api"]),
    ("edge-ingress", &["edge-api", "edge-core", "edge-client"]),
    ("edge-node", &["edge-api", "edge-core", "edge-client", "edge-ingress"]),
    ("edge-server", &["edge-api", "edge-core", "edge-store"]),
    ("edgectl", &["edge-api", "edge-client"]),
    (
        "edge-agent",
        &[
            "edge-api",
            "edge-core",
            "edge-store",
            "edge-bus",
            "edge-client",
            "edge-ingress",
            "edge-node",
            "edge-server",
            "edgectl",
        ],
    ),
    // Stands in for a library of that name: docs/adr/0027-a-small-regex.md.
    ("regex", &[]),
];

/// Libraries that only one crate may name, so that each can be replaced in one place.
const ONLY: &[(&str, &[&str])] = &[
    ("libcontainer", &["edge-node"]),
    ("heed", &["edge-store"]),
    ("netlink-sys", &["edge-node"]),
    ("netlink-packet-route", &["edge-node"]),
    // edge-ingress: the certificate that stands in for an Ingress' missing one.
    ("rcgen", &["edge-ingress", "edge-server", "edge-tests"]),
    ("clap", &["edge-agent", "edgectl"]),
    (
        "tokio",
        &[
            "edge-store",
            "edge-client",
            "edge-ingress",
            "edge-node",
            "edge-server",
            "edge-agent",
            "edgectl",
            "edge-tests",
            "edge-bus",
        ],
    ),
];

/// Crate → its direct dependencies of the normal kind.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name").to_owned();
        let uses = package["dependencies"].as_array().expect("dependencies").iter();
        let uses = uses.filter(|d| d["kind"].is_null());
        found.insert(name, uses.filter_map(|d| d["name"].as_str().map(Into::into)).collect());
    }
    found
}

#[test]
fn crates_import_only_what_the_design_allows() {
    let mut offences = Vec::new();
    for (name, uses) in dependencies() {
        if name == "edge-tests" {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| *n == name) else {
            offences.push(format!("{name} is not in the table of crates"));
            continue;
        };
        for used in uses.iter().filter(|u| u.starts_with("edge")) {
            if !allowed.contains(&used.as_str()) {
                offences.push(format!("{name} → {used}"));
            }
        }
    }
    none("imports that the design does not allow", offences);
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut offences = Vec::new();
    for (name, uses) in dependencies() {
        for (library, rooms) in ONLY {
            if uses.iter().any(|u| u == library) && !rooms.contains(&name.as_str()) {
                offences.push(format!("{name} uses {library}, which belongs to {rooms:?}"));
            }
        }
    }
    none("libraries outside their rooms", offences);
}

/// The libraries that a target's build of `edgectl` is made of.
fn tree_of_the_cli(target: &str) -> Vec<String> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["tree", "-p", "edgectl", "-e", "normal", "--prefix", "none", "--locked"])
        .args(["--target", target])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(tree.contains("edge-client"), "no tree: {}", String::from_utf8_lossy(&output.stderr));
    tree.lines().map(Into::into).collect()
}

#[test]
fn the_cli_builds_for_laptops() {
    let laptops = ["x86_64-apple-darwin", "aarch64-apple-darwin", "x86_64-pc-windows-gnu"];
    let foreign = [
        "libcontainer",
        "libcgroups",
        "netlink",
        "heed",
        "lmdb",
        "nix ",
        "seccompiler",
        "oci-spec",
        "procfs",
        "caps ",
        "prctl",
        "inotify",
        "linux-raw-sys",
        "pathrs",
    ];
    let mut offences = Vec::new();
    for target in laptops {
        let found = tree_of_the_cli(target).into_iter();
        let found = found.filter(|line| foreign.iter().any(|name| line.starts_with(name)));
        offences.extend(found.map(|line| format!("{target}: {line}")));
    }
    none("Linux-only crates in edgectl's tree", offences);
}
