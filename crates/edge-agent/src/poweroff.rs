//! `edged stop-pods`: what systemd runs before it switches the board off, when edged has ended.
//! Never at a restart or an upgrade of edged: pods go on through those.

use std::time::{Duration, Instant};

use clap::Args;
use edge_node::poweroff::{Bounds, stop};
use edge_node::runtime::RuntimeConfig;

use crate::cleanup;
use crate::config::{Config, Settings};
use crate::wire::{self, WireError, failed};

/// Of what ordinary pods have, critical ones have this part after them, as with the kubelet.
const CRITICAL: u32 = 2;

/// Which board's, and how long they may take.
#[derive(Debug, Args)]
pub(crate) struct StopPods {
    #[command(flatten)]
    pub(crate) settings: Box<Settings>,
    /// Seconds that ordinary pods have at most, whatever their grace; critical ones half of it
    #[arg(long, default_value_t = 20)]
    within: u32,
}

/// Stops them, and says how that went.
///
/// # Errors
/// When an edged runs, which would start them again, or what runs can't be found out.
pub(crate) fn run(args: &StopPods, config: &Config) -> Result<(), WireError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(failed("stop-pods", "needs root: use sudo"));
    }
    cleanup::idle("stop-pods", &config.run_dir, "net.lock")?;
    let ordinary = Duration::from_secs(args.within.into());
    let bounds = Bounds { ordinary, critical: ordinary / CRITICAL };
    let runtime = RuntimeConfig {
        run_dir: config.run_dir.clone(),
        data_dir: config.data_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        exe: None,
    };
    let began = Instant::now();
    let done = wire::runtime()?.block_on(stop(runtime, config.node_ip, bounds));
    let done = done.map_err(|e| failed("stop-pods", e))?;
    let took = began.elapsed().as_millis();
    println!("{} pods stopped in {took} ms, {} of them killed", done.pods, done.killed);
    Ok(())
}
