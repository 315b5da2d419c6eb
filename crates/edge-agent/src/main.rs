//! `edged`: the one file on a board. Reads its arguments, settles the configuration once, and
//! hands over to the rooms that do the work; nothing is decided here.

mod brokers;
mod cleanup;
mod cli;
mod clock;
mod config;
mod demo;
mod depart;
mod doctor;
mod example;
mod firstboot;
mod identity;
mod install;
mod join;
mod notify;
mod part;
mod poweroff;
mod restore;
mod systemd;
mod telemetry;
mod token;
mod uninstall;
mod upgrade;
mod version;
mod wire;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Called by the name of the other program, it is that program.
    if args.first().is_some_and(|name| Path::new(name).ends_with("edgectl")) {
        return status(edgectl::run(&args));
    }
    // The runtime's helpers are this same file: they must stay single-threaded and small, so
    // they are told apart before anything else is set up.
    match args.get(1).and_then(|word| word.to_str()) {
        Some("shim") => return status(edge_node::shim::main(&args[2..])),
        Some("runtime") => return status(edge_node::runtime::main(&args[2..])),
        Some("webserver") => return status(example::main(&args[2..])),
        Some("ctl") => return status(edgectl::run(&args[1..])),
        _ => {}
    }
    let layered = cli::layered(&args);
    upgrade::launch(&args, &layered);
    let code = cli::run(&layered);
    // With a status of its own it was told to end, or a setting is for a person to mend; and what
    // it refuses before it is ready, in words, the one before it would refuse as well.
    if matches!(code, 0 | cli::USAGE) || !notify::was_ready() {
        upgrade::told_to_end();
    }
    status(code)
}

/// A process exit status from a command's own.
fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
