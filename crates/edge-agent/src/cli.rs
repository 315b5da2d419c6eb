//! What can be typed after `edged`, and what each word starts.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use nix::errno::Errno;

use crate::config::{self, Config, Settings};
use crate::{
    cleanup, demo, depart, doctor, firstboot, install, join, poweroff, restore, telemetry, token,
    uninstall, version, wire,
};

/// Exit status for a setting or argument that is wrong (`EX_USAGE` of sysexits.h).
pub(crate) const USAGE: i32 = 64;

/// Exit status for a command that was understood and failed.
const FAILED: i32 = 1;

#[derive(Parser)]
#[command(
    name = "edged",
    about = "Turns boards into a Kubernetes-compatible cluster",
    version = version::text(),
    disable_help_subcommand = true,
    after_help = "edgectl's commands are here too: edged ctl get pods"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lead a cluster from this board, and run pods on it
    #[command(args_conflicts_with_subcommands = true)]
    Server {
        #[command(flatten)]
        settings: Box<Settings>,
        /// Lead only: run no pods on this board
        #[arg(long, env = "EDGED_NO_AGENT")]
        no_agent: bool,
        #[command(subcommand)]
        then: Option<ServerThen>,
    },
    /// Run pods on this board, as the cluster's servers say
    Agent {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Make, list and delete the tokens that boards join with
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
    /// Go on alone with this server's state, when most servers are lost for good
    Recover {
        #[command(flatten)]
        settings: Box<Settings>,
        /// Do it; without this, only what it means is said
        #[arg(long)]
        force: bool,
    },
    /// Start a one-board cluster in a temporary directory, with an example running on it
    Demo,
    /// Say what is wrong with this board, why it bites and what to do; --fix does some of it
    #[command(after_help = "Exit status: 0 nothing wrong, or warnings only; 1 errors; 64 usage")]
    Doctor(doctor::Doctor),
    /// Stop this board's pods and remove all that edged made, but for its data directory
    Cleanup {
        #[command(flatten)]
        settings: Box<Settings>,
        /// Remove the data directory as well: state, images, volumes and logs
        #[arg(long)]
        data: bool,
    },
    /// Stop this board's pods in order; systemd runs it before the board goes off
    StopPods(poweroff::StopPods),
    /// Put this file onto this machine with its systemd units, and start it
    Install(install::Install),
    /// Remove all that edged made on this machine: pods, state, settings, units and itself
    Uninstall(uninstall::Uninstall),
    /// Take the settings of edged.yaml from the boot partition; systemd runs it before edged
    Firstboot(firstboot::Firstboot),
    /// Type edgectl's commands from this file
    #[command(disable_help_flag = true)]
    Ctl,
    /// Print the version
    Version,
}

#[derive(Subcommand)]
enum ServerThen {
    /// Take this server out of its cluster's servers
    Leave {
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

/// The words as typed, and beneath them what the installed board's service is given.
pub(crate) fn layered(args: &[OsString]) -> Vec<OsString> {
    let root = config::typed(args, "--root").unwrap_or_else(|| "/".into());
    let set = |name: &str| std::env::var_os(name).is_some();
    config::layered(&Cli::command(), args, set, &config::defaults(&root))
}

/// Parses `args` (with the program's name first), runs what they say, and returns the exit status.
pub(crate) fn run(args: &[OsString]) -> i32 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match cli.command {
        Command::Server { then: Some(ServerThen::Leave { settings }), .. } => {
            with_config(&settings, |config| finish(depart::leave(&config)))
        }
        Command::Recover { settings, force } => {
            with_config(&settings, |config| finish(depart::recover(&config, force)))
        }
        Command::Server { settings, no_agent, then: None } => {
            with_config(&settings, |mut config| {
                if restore::is_pending(&config) {
                    return finish(restore::run(&config));
                }
                let refused = |error: &dyn std::fmt::Display| {
                    eprintln!("edged: {error}");
                    USAGE
                };
                if let Err(error) = join::has_a_place(&config) {
                    return refused(&error);
                }
                if let Err(error) = config::fit(&config) {
                    return refused(&error);
                }
                config.no_agent |= no_agent;
                let with_agent = !config.no_agent;
                finish(wire::serve(config, with_agent))
            })
        }
        Command::Agent { settings } => with_config(&settings, |config| finish(join::run(config))),
        Command::Token { command } => {
            with_config(command.settings(), |config| finish(token::run(&command, &config)))
        }
        Command::Demo => finish(demo::run()),
        Command::Cleanup { settings, data } => with_config(&settings, |config| {
            finish(cleanup::check(&config).and_then(|()| cleanup::run(&config, data)))
        }),
        Command::StopPods(args) => {
            with_config(&args.settings, |config| finish(poweroff::run(&args, &config)))
        }
        Command::Install(args) => finish(install::run(&args)),
        Command::Uninstall(args) => {
            with_config(&args.settings, |config| finish(uninstall::run(&args, &config)))
        }
        Command::Doctor(args) => doctor::run(&args),
        Command::Firstboot(args) => firstboot::run(&args),
        // The word is taken before it comes here; it stands in the list for the help.
        Command::Ctl => edgectl::run(["edgectl"]),
        Command::Version => {
            println!("edged {}", version::own());
            0
        }
    }
}

/// Help goes out as it is; a mistake is one line that names it, with a guess at what was meant.
fn refuse(error: &clap::Error) -> i32 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has gone away is no reason to fail.
        let _ = error.print();
        return 0;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return USAGE;
    }
    eprintln!("edged: {}", one_line(&error.to_string()));
    USAGE
}

fn one_line(rendered: &str) -> String {
    let mut lines = rendered.lines();
    let first = lines.next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or(first);
    let tip = lines.find_map(|line| line.trim().strip_prefix("tip: "));
    match tip {
        Some(tip) => format!("{what}; {tip} (edged --help lists all)"),
        None => format!("{what} (edged --help lists all)"),
    }
}

fn with_config(settings: &Settings, then: impl FnOnce(Config) -> i32) -> i32 {
    match Config::settle(settings) {
        Ok(config) => {
            telemetry::start(config.log);
            then(config)
        }
        Err(error) => {
            eprintln!("edged: {error}");
            USAGE
        }
    }
}

fn finish<E: std::fmt::Display>(result: Result<(), E>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            let line = error.to_string();
            eprintln!("edged: {line}{}", advice(&line));
            FAILED
        }
    }
}

/// What to do about a disk that takes nothing, whatever was to be written.
fn advice(line: &str) -> &'static str {
    let says = |errno: Errno| line.contains(&std::io::Error::from(errno).to_string());
    if says(Errno::EROFS) {
        "; a card turns read-only at its end or after an error (see dmesg): check it and mount it \
         writable, or choose another --data-dir; pods that run go on"
    } else if says(Errno::ENOSPC) || says(Errno::EDQUOT) {
        "; make room (`edged doctor` says how much there is), or choose another --data-dir; pods \
         that run go on"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(args: &[&str]) -> String {
        let error = Cli::try_parse_from(args).err().expect("a mistake");
        one_line(&error.to_string())
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_with_what_to_do() {
        for (line, words) in [
            ("server: create /a/pki: Read-only file system (os error 30)", "see dmesg"),
            ("write /a/name: No space left on device (os error 28)", "make room"),
            ("write /a/name: Permission denied (os error 13)", ""),
        ] {
            let told = advice(line);
            assert!(told.contains(words) && told.is_empty() == words.is_empty(), "{told}");
        }
    }

    #[test]
    fn what_is_typed_about_the_board_sees_what_its_service_sees() {
        let file = "EDGED_ROLE=agent\nEDGED_DATA_DIR=/mnt/ssd\nEDGED_RUN_DIR=/run/x\n\
                    EDGED_ENCRYPT_PODS=yes\nEDGED_TOKEN=edged1.a\nEDGED_LOG=loud\n";
        let layered = |words: &str, set: &[&str]| {
            let args: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            let all = config::layered(&Cli::command(), &args, |name| set.contains(&name), file);
            let words: Vec<_> = all.iter().filter_map(|word| word.to_str()).collect();
            words.join(" ")
        };
        let more = "--log=loud --encrypt-pods --run-dir=/run/x --data-dir=/mnt/ssd";
        for words in ["doctor", "cleanup", "uninstall", "token create", "server leave", "recover"] {
            assert_eq!(layered(&format!("edged {words}"), &[]), format!("edged {words} {more}"));
        }
        let own = layered("edged uninstall --run-dir /a --yes", &["EDGED_LOG"]);
        assert_eq!(own, "edged uninstall --encrypt-pods --data-dir=/mnt/ssd --run-dir /a --yes");
        let read = Cli::try_parse_from(own.split(' ')).map(|cli| cli.command);
        let Ok(Command::Uninstall(args)) = read else { panic!("{:?}", read.err()) };
        assert_eq!(args.settings.data_dir.as_deref(), Some("/mnt/ssd".as_ref()));
        assert!(args.settings.encrypt_pods);
        // What runs edged is told by who runs it; and another place has other settings.
        for words in ["server", "agent --name a", "cleanup --data-dir /a", "doctor --config=/a"] {
            let words = format!("edged {words}");
            assert_eq!(layered(&words, &[]), words);
        }
        assert_eq!(layered("edged doctor", &["EDGED_DATA_DIR"]), "edged doctor");
        for words in ["edged", "edged version", "edged install --no-start", "edged --help"] {
            assert_eq!(layered(words, &[]), words);
        }
    }

    #[test]
    fn a_mistake_is_one_line_with_its_name() {
        for (args, word) in [
            (&["edged", "server", "--lissten", "x"][..], "--listen"),
            (&["edged", "serve"], "server"),
            (&["edged", "server", "--data-dir"], "--data-dir"),
        ] {
            let line = told(args);
            assert!(line.contains(word) && !line.contains('\n'), "{line}");
        }
    }
}
