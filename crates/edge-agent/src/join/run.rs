//! `edged agent`: a board that joins, or has joined, somebody else's cluster, and runs its pods.

use std::path::Path;

use edge_node::agent::{self, AgentConfig};
use edge_server::join::Role;
use tokio::sync::watch;

use super::{JoinError, Live, Saved, enter};
use crate::config::{AUTO, Config};
use crate::wire::{self, Ends, WireError, failed};
use crate::{cleanup, clock, doctor, identity, notify, upgrade, version};

/// Runs the agent of a board that joins, or has joined, somebody else's cluster, until SIGTERM or
/// SIGINT. Pods go on running after that, unless this board turned out to be a copy of another:
/// then that one runs them.
///
/// # Errors
/// Names what was refused or could not be started, and why.
pub(crate) fn run(config: Config) -> Result<(), WireError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(failed("agent", "running pods needs root: use sudo"));
    }
    clock::settle(&config.data_dir, &config.run_dir);
    match serve(&config)? {
        Ending::Stopped => Ok(()),
        Ending::Copy(why) => {
            if let Err(error) = cleanup::run(&config, false) {
                tracing::error!("stop the pods of this copy: {error}: run `edged cleanup`");
            }
            Err(why)
        }
    }
}

/// How an agent ended that nothing failed in.
enum Ending {
    /// It was told to; its pods run on.
    Stopped,
    /// Another board has its identity and its pods.
    Copy(WireError),
}

fn serve(config: &Config) -> Result<Ending, WireError> {
    wire::runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut ends = Ends::listen()?;
        let manager = notify::Manager::meet();
        manager.status(&format!("joining: asking {}", asked(config)));
        let member = tokio::select! {
            entered = enter(config, Role::Agent) => entered.map_err(WireError::from)?,
            () = ends.told() => return Ok(Ending::Stopped),
        };
        let tie = wire::tie(config, &member).await?;
        let mut settings = settings(config, &member.saved, &member.live);
        settings.beats = Some(wire::beats(tie.bus.clone(), &tie.news));
        settings.servers = Some(wire::servers(&tie.news, settings.api.servers.clone(), None));
        let mut seat = upgrade::Seat::of(&config.data_dir, config.upgrade_keys.clone());
        settings.upgrades = Some(seat.upgrades.clone());
        upgrade::prove(&settings.api, &settings.name);
        let mut agent = tokio::spawn(agent::run(settings, stopped));
        let saved = &member.saved;
        look(config, saved);
        manager.ready(&format!("agent: {} of the cluster {}", saved.name, saved.cluster));
        let (mut again, mut copy) = (false, None);
        let ended = tokio::select! {
            ended = &mut agent => Some(ended),
            () = ends.told() => None,
            () = member.live.clone().tell_refusals(&config.run_dir) => None,
            why = tie.doubled(config) => {
                copy = Some(why);
                None
            }
            () = seat.again() => {
                again = true;
                None
            }
            () = member.live.servers_moved() => {
                tracing::info!("the cluster's servers have moved: starting again with them");
                again = true;
                None
            }
            address = identity::moved(config.node_ip, config.fixed_ip) => {
                tracing::info!("the address is {address} now: starting again with it");
                again = true;
                None
            }
        };
        if ended.is_none() {
            upgrade::told_to_end();
        }
        match again {
            true => manager.status("starting again with what has moved"),
            false => manager.stopping(),
        }
        let _ = stop.send(true);
        let ended = match ended {
            Some(ended) => ended,
            None => agent.await,
        };
        tie.shutdown().await;
        ended.map_err(|e| failed("agent", e))?.map_err(|e| failed("agent", e))?;
        if let Some(why) = copy {
            return Ok(Ending::Copy(why));
        }
        match again {
            true => Err(failed("start again", identity::start_again())),
            false => Ok(Ending::Stopped),
        }
    })
}

/// Has the board looked at, once, with the ranges of its cluster.
fn look(config: &Config, saved: &Saved) {
    let joined = Config { ranges: saved.as_ranges(), ..config.clone() };
    tokio::spawn(doctor::once(doctor::of(&joined, Path::new("/")), true));
}

/// Whom a board asks to let it in, for people.
fn asked(config: &Config) -> String {
    match config.join.as_slice() {
        [] => "the servers that it knows".to_owned(),
        some if some.iter().any(|server| server == AUTO) => "the servers of the LAN".to_owned(),
        some => some.join(", "),
    }
}

/// How the agent of a joined board is set up.
fn settings(config: &Config, saved: &Saved, live: &Live) -> AgentConfig {
    AgentConfig {
        name: saved.name.clone(),
        node_ip: config.node_ip,
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        resolv_conf: config.resolv_conf.clone(),
        listen: config.agent_listen,
        pod_cidr: saved.pod_cidr.clone(),
        cluster_cidr: saved.cluster_cidr.clone(),
        service_cidr: saved.service_cidr.clone(),
        cluster_domain: saved.cluster_domain.clone(),
        encrypt_pods: config.encrypt_pods,
        wireguard_port: config.wireguard_port,
        api: live.api(),
        serving: live.server(),
        labels: std::collections::BTreeMap::new(),
        registries: wire::registries(config),
        beats: None,
        servers: None,
        version: version::kubelet(),
        upgrades: None,
    }
}

impl From<JoinError> for WireError {
    fn from(error: JoinError) -> WireError {
        WireError::line(error.to_string())
    }
}
