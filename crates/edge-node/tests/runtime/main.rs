//! The container runtime against this machine's kernel: real namespaces, cgroups and overlays.
//! It has a main of its own, because the runtime under test starts this executable again as
//! `shim` and as `runtime`.

// A harness of its own is a program, not a test, as far as clippy can see.
#![allow(clippy::unwrap_used, clippy::panic)]

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

const CASES: &[Case] = cases![
    basic::a_container_runs_and_its_end_is_told,
    basic::environment_user_directory_and_host_name_are_as_asked,
    basic::a_command_that_cannot_run_is_told_in_known_words,
    basic::signals_reach_init_and_kill_ends_all,
    basic::init_that_ends_on_the_boards_pids_takes_its_children_along,
    basic::a_terminal_is_one_stream_in_the_log,
    basic::long_lines_and_bursts_are_logged_whole,
    basic::volumes_are_mounted_whatever_the_image_holds_in_their_place,
    basic::any_number_of_layers_makes_one_root,
    basic::containers_of_a_pod_share_memory_and_nothing_else,
    basic::sysctls_are_the_pods_own,
    exec::a_command_has_the_containers_user_environment_and_confinement,
    exec::input_flows_and_ends,
    exec::a_terminal_has_a_size_and_control_characters,
    exec::a_command_that_does_not_exist_is_told,
    exec::a_command_dies_with_its_caller,
    limits::more_memory_than_the_limit_is_an_oom_kill,
    limits::limits_are_what_the_kernel_has,
    limits::a_fork_bomb_stays_within_its_limit_and_can_be_killed,
    limits::a_container_sees_its_own_limits_and_cannot_write_them,
    limits::a_full_disk_loses_no_end,
    hostile::an_ordinary_container_is_confined,
    hostile::a_privileged_container_has_the_boards_devices,
    hostile::the_runtimes_own_executable_cannot_be_overwritten,
    hostile::an_image_cannot_make_the_runtime_run_itself,
    hostile::links_in_the_image_do_not_lead_mounts_astray,
    hostile::passwd_may_be_a_trap,
    restart::containers_outlive_their_agent_and_nothing_of_them_is_lost,
    restart::an_agent_killed_while_it_starts_containers_leaves_whole_ones_or_none,
    restart::a_killed_shim_ends_its_container_as_unknown,
    restart::after_a_boot_all_have_ended,
];

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|a| a.to_str()) {
        Some("shim") => return code(edge_node::shim::main(&args[2..])),
        Some("runtime") => return code(edge_node::runtime::main(&args[2..])),
        Some("agent") => return code(restart::agent(&args[2..])),
        Some("bare") => return code(bench::bare(&args[2..])),
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
