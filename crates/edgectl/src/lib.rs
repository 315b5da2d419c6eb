//! The command that people type, as a library: `edgectl` and `edged ctl` are the same code.
//!
//! Words, columns and messages are `kubectl`'s wherever it has one, because that is what people
//! know and what scripts read.

mod args;
mod commands;
mod describe;
mod fault;
mod input;
mod io;
mod output;
mod pods;
mod resource;
mod session;
mod targets;
mod terminal;
mod writing;

pub use io::Io;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use commands::labels::Field;
use fault::Fault;
use session::Session;
use std::ffi::OsString;

/// Runs one command on the process's own streams; the first argument is the program's name.
/// Gives the exit code.
pub fn run<I, T>(args: I) -> i32
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return 1;
        }
    };
    let code = runtime.block_on(run_on(args, Io::real()));
    // A thread may still wait for input that nobody will type.
    runtime.shutdown_background();
    code
}

/// Runs one command on any streams, within a runtime.
pub async fn run_on<I, T>(args: I, mut io: Io) -> i32
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args = plain_flags(args.into_iter().map(Into::into).collect());
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return usage(&error, &mut io),
    };
    let mut session = Session::new(io, args.global);
    let result = dispatch(args.command, &mut session).await;
    let result = result.and_then(|()| session.io.flush());
    match result {
        Ok(()) => 0,
        Err(fault) => {
            let text = fault.to_string();
            if !fault.is_broken_pipe() && !text.is_empty() {
                session.io.say(text);
            }
            fault.code()
        }
    }
}

/// `--watch=true` is `--watch`, and `--watch=false` is nothing, as people know it from `kubectl`.
fn plain_flags(args: Vec<OsString>) -> Vec<OsString> {
    let root = Args::command();
    let mut command = &root;
    for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let is_switch = |name: &str| {
        let mut all = root.get_arguments().chain(command.get_arguments());
        all.any(|argument| {
            argument.get_long() == Some(name)
                && matches!(argument.get_action(), clap::ArgAction::SetTrue)
        })
    };
    let mut done = false;
    let plain = |arg: OsString| {
        done |= arg == "--";
        let pair = arg.to_str().and_then(|text| text.strip_prefix("--")?.split_once('='));
        match pair.filter(|(name, _)| !done && is_switch(name)) {
            Some((name, "true")) => Some(format!("--{name}").into()),
            Some((_, "false")) => None,
            _ => Some(arg),
        }
    };
    args.into_iter().filter_map(plain).collect()
}

/// Help goes to the output, mistakes beside it.
fn usage(error: &clap::Error, io: &mut Io) -> i32 {
    if error.use_stderr() {
        io.say(error.to_string().trim_end());
        return 1;
    }
    match io.print(&error.to_string()).and_then(|()| io.flush()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

async fn dispatch(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Get(args) => commands::get::run(args, session).await,
        Command::Describe(args) => commands::describe::run(args, session).await,
        Command::Apply(args) => commands::apply::run(args, session).await,
        Command::Create(args) => commands::create::run(args, session).await,
        Command::Delete(args) => commands::delete::run(args, session).await,
        Command::Edit(args) => commands::edit::run(args, session).await,
        Command::Patch(args) => commands::patch::run(args, session).await,
        Command::Run(args) => commands::run::run(args, session).await,
        Command::Expose(args) => commands::expose::run(args, session).await,
        Command::Scale(args) => commands::scale::run(args, session).await,
        Command::Rollout(args) => commands::rollout::run(args, session).await,
        Command::Set(args) => commands::set::run(args, session).await,
        Command::Logs(args) => commands::logs::run(args, session).await,
        Command::Exec(args) => commands::exec::run(args, session).await,
        Command::PortForward(args) => commands::port_forward::run(args, session).await,
        Command::Wait(args) => commands::wait::run(args, session).await,
        Command::Label(args) => commands::labels::run(args, Field::Labels, session).await,
        Command::Annotate(args) => commands::labels::run(args, Field::Annotations, session).await,
        Command::Cordon(args) => commands::drain::cordon(args, true, session).await,
        Command::Uncordon(args) => commands::drain::cordon(args, false, session).await,
        Command::Drain(args) => commands::drain::drain(args, session).await,
        Command::Taint(args) => commands::taint::run(args, session).await,
        Command::Node(args) => commands::boards::node(args, session).await,
        Command::Server(args) => commands::boards::server(args, session).await,
        Command::Upgrade(args) => commands::upgrade::run(args, session).await,
        Command::Backup(args) => commands::backup::run(args, session).await,
        Command::Restore(args) => commands::backup::restore(args, session).await,
        Command::Net(args) => commands::net::run(args, session).await,
        Command::Image(args) => commands::image::run(args, session).await,
        Command::ClusterInfo => commands::info::cluster_info(session).await,
        Command::Version(args) => commands::info::version(args, session).await,
        Command::ApiResources(args) => commands::info::api_resources(args, session).await,
        Command::ApiVersions => commands::info::api_versions(session).await,
        Command::Config(args) => commands::info::config(args, session),
        Command::Flash(args) => commands::flash::run(&args, session),
        Command::Completion(args) => commands::completion::run(&args, session),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_take_true_and_false() {
        let plain = |line: &str| {
            let args = line.split(' ').map(OsString::from).collect();
            let words = plain_flags(args);
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let table = [
            ("x get pods --watch=false -A", "x get pods -A"),
            ("x get pods --watch=true", "x get pods --watch"),
            ("x rollout status d --watch=false", "x rollout status d --watch=false"),
            ("x exec p -- a --watch=false", "x exec p -- a --watch=false"),
            ("x get --no-headers=no", "x get --no-headers=no"),
        ];
        for (line, wanted) in table {
            assert_eq!(plain(line), wanted);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
