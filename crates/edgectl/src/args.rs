//! The words of the command line.

use crate::commands;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Control an edged cluster
#[derive(Debug, Parser)]
#[command(
    name = "edgectl",
    version,
    disable_version_flag = true,
    arg_required_else_help = true,
    infer_long_args = false,
    after_help = "Configuration: --kubeconfig, then $KUBECONFIG, then ~/.kube/config, then \
                  /var/lib/edged/admin.kubeconfig"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Global {
    /// The namespace to work in
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) namespace: Option<String>,
    /// The kubeconfig file to use
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) context: Option<String>,
    /// The address of the API server
    #[arg(short, long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// A bearer token
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) token: Option<String>,
    /// The file with the certificate authority
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// Accept any certificate of the server
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) insecure_skip_tls_verify: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(commands::get::Get),
    Describe(commands::describe::Describe),
    Apply(commands::apply::Apply),
    Create(commands::create::Create),
    Delete(commands::delete::Delete),
    Edit(commands::edit::Edit),
    Patch(commands::patch::Patch),
    Run(commands::run::Run),
    Expose(commands::expose::Expose),
    Scale(commands::scale::Scale),
    Rollout(commands::rollout::Rollout),
    Set(commands::set::Set),
    Logs(commands::logs::Logs),
    Exec(commands::exec::Exec),
    PortForward(commands::port_forward::PortForward),
    Wait(commands::wait::Wait),
    /// Set or remove labels
    Label(commands::labels::Labels),
    /// Set or remove annotations
    Annotate(commands::labels::Labels),
    Cordon(commands::drain::Cordon),
    /// Mark a node as schedulable
    Uncordon(commands::drain::Cordon),
    Drain(commands::drain::Drain),
    Taint(commands::taint::Taint),
    Image(commands::image::Image),
    Net(commands::net::Net),
    Node(commands::boards::Node),
    Server(commands::boards::Server),
    Upgrade(commands::upgrade::Upgrade),
    Backup(commands::backup::Backup),
    Restore(commands::backup::Restore),
    /// Show where the cluster is
    ClusterInfo,
    Version(commands::info::Version),
    ApiResources(commands::info::ApiResources),
    /// Show the groups and versions that the server has
    ApiVersions,
    Config(commands::info::ConfigArgs),
    Flash(commands::flash::Flash),
    Completion(commands::completion::Completion),
}
