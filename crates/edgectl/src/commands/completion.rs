//! `completion`: scripts that let a shell finish words.

use crate::args::Args;
use crate::fault::Fault;
use crate::session::Session;
use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

/// Print the script that completes words in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "For this session:  source <(edgectl completion bash)\n\
                        For all:           edgectl completion bash > \
                        /etc/bash_completion.d/edgectl")]
pub(crate) struct Completion {
    /// bash, zsh or fish
    #[arg(value_enum)]
    shell: Name,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &Completion, session: &mut Session) -> Result<(), Fault> {
    let shell = match args.shell {
        Name::Bash => Shell::Bash,
        Name::Zsh => Shell::Zsh,
        Name::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "edgectl", &mut script);
    session.io.write(&script)
}
