//! The container runtime against this machine's kernel: real namespaces, cgroups and overlays.
//! It has a main of its own, because the runtime under test starts this executable again as
//! `shim` and as `runtime`.

mod basic;
mod bench;
mod board;
mod exec;
mod hostile;
mod limits;
mod restart;

use std::ffi::OsString;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Names a case by its path.
macro_rules! cases {
    ($($room:ident::$name:ident),* $(,)?) => {
        &[$((concat!(stringify!($room), "::", stringify!($name)), || Box::pin($room::$name()))),*]
    };
}

const CASES: &[Case] = cases![basic::a_container_runs_and_its_end_is_told,];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|a| a.to_str()) {
        Some("shim") => return code(edge_node::shim::main(&args[2..])),
        Some("runtime") => return code(edge_node::runtime::main(&args[2..])),
        Some("agent") => return code(restart::agent(&args[2..])),
        Some("bench") => return code(bench::run(&args[2..])),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: the runtime's tests need root: sudo -E cargo test -p edge-node");
        return ExitCode::SUCCESS;
    }
    let filter = args[1..].iter().filter_map(|a| a.to_str()).find(|a| !a.starts_with('-'));
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in CASES.iter().filter(|(n, _)| filter.is_none_or(|f| n.contains(f))) {
        let since = Instant::now();
        let outcome = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(case());
        });
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", since.elapsed().as_millis());
        match outcome {
            Ok(()) => passed += 1,
            Err(_) => failed.push(*name),
        }
    }
    println!("{passed} passed, {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}
