//! Leaving and surviving: `edged server leave` takes this server out of its cluster's servers, and
//! `edged recover --force` lets it go on alone when the majority is lost for good.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use edge_client::{Call, Client};
use edge_core::consensus::MemberInfo;
use edge_server::pki::BoardKey;
use edge_server::{Outside, Server};
use http::Method;

use crate::config::Config;
use crate::join::{self, Saved};
use crate::wire::{self, WireError, failed};

/// Waits until this server turns out to be none of its cluster's any more, which gives why it ends.
/// One that finds out while it runs says so once and stays, for the sake of its pods; it is not let
/// lead or answer, and will end when it is started again.
pub(crate) async fn outside(server: &Server, data_dir: &Path) -> WireError {
    let mut told = server.outside();
    let Ok(Some(outside)) = told.wait_for(Option::is_some).await.map(|told| told.clone()) else {
        return std::future::pending().await;
    };
    let line = outside_line(&outside, server.name(), data_dir);
    if outside.from_start {
        return WireError::line(line);
    }
    match left(data_dir).exists() {
        true => tracing::info!("{line}"),
        false => tracing::error!("{line}"),
    }
    std::future::pending().await
}

/// Says that this server's leaving was asked for here.
fn left(data_dir: &Path) -> PathBuf {
    data_dir.join("left")
}

fn outside_line(outside: &Outside, name: &str, data_dir: &Path) -> String {
    let what = match outside.refusal.as_str() {
        "" => "the other servers say that this one was removed from the cluster".to_owned(),
        why => format!("the other servers turn this one away: {why}"),
    };
    let (dir, node) = (data_dir.display(), without_its_node(name));
    if left(data_dir).exists() {
        return format!(
            "server {name} has left the cluster, as it was asked to; until edged is stopped here, \
             this board runs its pods. To join again: stop edged, remove {dir}, and {node}"
        );
    }
    format!(
        "server {name}: {what}. Stop edged here, remove {dir}, run {node}, and join again with a \
         token of `edged token create`, as a server or as an agent"
    )
}

/// The command that makes a board's name free for another key, whether it has a Node or not.
pub(crate) fn without_its_node(name: &str) -> String {
    format!("`edgectl delete node {name} --ignore-not-found`")
}

/// Takes this server out of the cluster's servers. Its agent's pods are not touched.
///
/// # Errors
/// When no server of the cluster could be asked, or it refused.
pub(crate) fn leave(config: &Config) -> Result<(), WireError> {
    let path = config.data_dir.join("admin.kubeconfig");
    if !path.exists() {
        let what = format!("{} is not there", path.display());
        return Err(failed("leave", format!("{what}: run this on the server that is to leave")));
    }
    let name = name(config)?;
    let told = edge_client::Config::from_kubeconfig(&path, None);
    let client = told.and_then(Client::new).map_err(|e| failed("leave", e))?;
    let call = Call::new(Method::DELETE, format!("/edged/v1/servers/{name}"));
    // Written before, so that the edged that runs here finds it whenever it learns of this.
    let mark = left(&config.data_dir);
    fs::write(&mark, b"").map_err(|e| failed("leave", format!("{}: {e}", mark.display())))?;
    if let Err(error) = wire::runtime()?.block_on(client.call(&call)) {
        // Whatever is left of it only makes a line in the log milder.
        let _ = fs::remove_file(&mark);
        return Err(failed("leave", error));
    }
    println!(
        "{name} is no server of the cluster any more; until edged is stopped here, this board runs \
         its pods. To join again: stop edged, remove {}, and {}.",
        config.data_dir.display(),
        without_its_node(&name)
    );
    Ok(())
}

/// Makes this server the only one of its cluster, and says what may be lost. Without `force` it
/// only says what that would mean.
///
/// # Errors
/// When edged still runs here, or the store cannot be read.
pub(crate) fn recover(config: &Config, force: bool) -> Result<(), WireError> {
    if !force {
        return Err(WireError::line(
            "recover: this makes the server of this data directory the only one of its cluster, \
             and loses what the others acknowledged without it. Do it only when most servers are \
             gone for good; take the server with the highest revision (edged_store_revision in \
             /metrics); then say --force"
                .to_owned(),
        ));
    }
    let store = config.data_dir.join("store");
    if !store.exists() {
        let what = format!("{} is not there", store.display());
        return Err(failed("recover", format!("{what}: name the server's --data-dir")));
    }
    let key = BoardKey::open(&config.data_dir).map_err(|e| failed("recover", e))?;
    let port = config.broker_listen.port();
    let me = MemberInfo {
        id: key.hash().member_id(),
        name: name(config)?,
        api: format!("https://{}", SocketAddr::new(config.node_ip, config.listen.port())),
        broker: SocketAddr::new(config.node_ip, port).to_string(),
    };
    let report = edge_store::recover_force(&store, me).map_err(|e| failed("recover", e))?;
    println!("{report}");
    Ok(())
}

/// The name that this board has in its cluster.
fn name(config: &Config) -> Result<String, WireError> {
    if !join::joined(&config.data_dir) {
        return Ok(config.name.clone());
    }
    let saved = Saved::read(&config.data_dir).map_err(WireError::from)?;
    Ok(saved.map_or(config.name.clone(), |saved| saved.name))
}
