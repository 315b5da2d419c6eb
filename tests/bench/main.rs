//! The bench room: what edged promises in numbers, measured side by side with its peers in one
//! run. Prints a table (median, p99, ratio) and writes it as JSON under `docs/bench/`.
//!
//! `cargo run --profile bench -p edge-tests --bin edge-bench -- [cluster] [--quick] [--out NAME]`,
//! as root; `cluster` measures boards together, with `--only leaders|writes|agents|image` a part;
//! `edge-bench lab 3 2` only starts three servers and two agents and says how to reach them.
//! `edge-bench lose again 50` loses edged's leader so often (again, kill, cable, pause, …).
//! EDGED_BIN_DIR names the directory of the binaries to measure.
//!
//! `edge-bench ingress [--quick] [--out NAME]` compares our proxy with nginx and haproxy, likewise.
//! `edge-bench broker [--quick] [--out NAME]` compares our broker with Mosquitto, without root.
//! `edge-bench traffic` and `edge-bench dns` compare Services and names with those of others.

#[path = "../board/mod.rs"]
#[allow(dead_code, unused_imports)]
mod board;
mod broker;
#[path = "../bus/client.rs"]
#[allow(dead_code)]
mod client;
mod cluster;
mod dns;
mod footprint;
mod ingress;
#[path = "../lab/mod.rs"]
#[allow(dead_code, unused_imports)]
mod lab;
mod peers;
#[path = "../bus/pki.rs"]
#[allow(dead_code)]
mod pki;
mod starts;
mod table;
mod traffic;

use board::machine::{Board, built};
use table::Table;

/// How much is measured.
pub(crate) struct Effort {
    /// Starts of each kind.
    pub(crate) starts: usize,
    /// Seconds of rest over which CPU is counted.
    pub(crate) idle_cpu_s: u64,
    /// Seconds of rest over which written bytes are counted.
    pub(crate) idle_write_s: u64,
    /// Pods created at once.
    pub(crate) many: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|a| a == "--quick");
    let value = |flag| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1)).cloned();
    if args.get(1).is_some_and(|word| word == "cluster") {
        let only = value("--only");
        let table = cluster::run(quick, only.as_deref());
        let name = value("--out").unwrap_or_else(|| "cluster".into());
        finish(&table, &name, quick || only.is_some());
        return;
    }
    match args.get(1).map(String::as_str) {
        Some("broker") => {
            let name = value("--out").unwrap_or_else(|| "broker".into());
            return finish(&broker::compare(quick), &name, quick);
        }
        Some("traffic") => {
            let (only, name) = (value("--only"), value("--out").unwrap_or("traffic".into()));
            let table = traffic::compare(quick, only.as_deref());
            return finish(&table, &name, quick || only.is_some());
        }
        Some("dns") => {
            let name = value("--out").unwrap_or("dns".into());
            return finish(&dns::compare(quick), &name, quick);
        }
        Some("broker-alone") => return broker::alone(args[2].as_ref()),
        Some("ingress") => {
            let name = value("--out").unwrap_or_else(|| "ingress".into());
            return finish(&ingress::compare(quick), &name, quick);
        }
        Some("ingress-alone") => return ingress::alone(&args[2..]),
        _ => {}
    }
    if args.get(1).is_some_and(|word| word == "lab") {
        let count =
            |at: usize, or| args.get(at).map_or(or, |n: &String| n.parse().expect("a number"));
        return lab::cluster::hold(count(2, 3), count(3, 2));
    }
    if args.get(1).is_some_and(|word| word == "lose") {
        let times = args.get(3).map_or(10, |n| n.parse().expect("a number"));
        return cluster::lose(args.get(2).map_or("", String::as_str), times).print();
    }
    let table = one_board(quick);
    finish(&table, &value("--out").unwrap_or_else(|| "one-board".into()), quick);
}

/// What one board costs.
fn one_board(quick: bool) -> Table {
    let effort = if quick {
        Effort { starts: 10, idle_cpu_s: 10, idle_write_s: 20, many: 20 }
    } else {
        Effort { starts: 40, idle_cpu_s: 60, idle_write_s: 300, many: 50 }
    };
    let mut table = Table::new();
    footprint::sizes(&mut table, &[("edged", 12e6), ("edgectl", 5e6)]);
    footprint::ready(&mut table, effort.starts.min(10));
    let board = Board::start("bench");
    board.load_example();
    footprint::at_rest(&mut table, &board, &effort);
    starts::side_by_side(&mut table, &board, effort.starts);
    starts::many(&mut table, &board, effort.many);
    footprint::loaded(&mut table, &board, effort.many);
    drop(board);
    table
}

/// Shows a table, and writes it unless it is only a part.
fn finish(table: &Table, name: &str, is_part: bool) {
    table.print();
    let out = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bench");
    if is_part {
        println!("a part, or --quick: nothing is written");
    } else {
        let path = format!("{out}/{name}.json");
        std::fs::write(&path, table.json()).expect("docs/bench can be written");
        println!("written {path}: {}", built("edged").display());
    }
}
