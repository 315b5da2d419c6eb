//! How this board comes into a cluster and stays there: it joins once with a token, keeps what it
//! got, and from then on needs nothing but its data directory.

mod ask;
mod clock;
mod error;
mod live;
mod reach;
mod refused;
mod room;
mod run;
mod saved;
mod told;

use edge_server::join::{JoinRequest, PROTOCOL, Role};
use edge_server::pki::{BoardKey, CertFacts, PkiError};

use crate::config::Config;
pub(crate) use error::JoinError;
pub(crate) use live::Live;
pub(crate) use run::run;
pub(crate) use saved::Saved;

/// The name that every server's certificate has, whatever its address is.
pub(crate) const SERVER_NAME: &str = "kubernetes.default.svc";

/// A board that belongs to a cluster.
pub(crate) struct Member {
    /// What the board keeps of its cluster.
    pub(crate) saved: Saved,
    /// Certificates that are renewed while it runs, and the cluster's time.
    pub(crate) live: std::sync::Arc<Live>,
}

/// Whether this board has joined a cluster that another founded.
pub(crate) fn joined(data_dir: &std::path::Path) -> bool {
    saved::exists(data_dir)
}

/// Gives what is kept of an earlier join, or joins now. Whatever is refused leaves the directory as
/// it was, but for the board's own key.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub(crate) async fn enter(config: &Config, role: Role) -> Result<Member, JoinError> {
    let entered = go_in(config, role).await;
    match &entered {
        Ok(_) => told::entered(config),
        Err(error) => told::refused(config, &error.to_string()),
    }
    entered
}

async fn go_in(config: &Config, role: Role) -> Result<Member, JoinError> {
    let key = BoardKey::open(&config.data_dir).map_err(JoinError::Pki)?;
    let (saved, key) = match Saved::read(&config.data_dir)? {
        Some(saved) => {
            check(config, role, &saved)?;
            saved.mend(&config.data_dir)?;
            match again(config, role, &saved).await? {
                Some(joined) => joined,
                None => (saved, key),
            }
        }
        None => {
            fresh(config, role)?;
            let saved = join(config, role, &key, &config.name, &config.join).await?;
            let fits = config.asked.are_of(&saved.as_ranges(), "the servers are of");
            fits.map_err(|error| JoinError::Told(error.to_string()))?;
            saved.write(&config.data_dir)?;
            (saved, key)
        }
    };
    tracing::debug!("this board is {} of the cluster {}", saved.name, saved.cluster);
    let live = Live::open(config, &saved, key)?;
    Ok(Member { saved, live: std::sync::Arc::new(live) })
}

/// A board that was thrown out and is given another token joins again, with another key, as the
/// board that it was: its pods and their volumes are still its own.
async fn again(
    config: &Config,
    role: Role,
    saved: &Saved,
) -> Result<Option<(Saved, BoardKey)>, JoinError> {
    let new = config.token.as_ref().is_some_and(|token| token.id != saved.token);
    if !new || role != Role::Agent {
        return Ok(None);
    }
    let old = BoardKey::open(&config.data_dir).map_err(JoinError::Pki)?;
    if !Live::open(config, saved, old)?.is_turned_away(&config.join).await {
        return Ok(None);
    }
    let key = BoardKey::another(&config.data_dir).map_err(JoinError::Pki)?;
    let known: Vec<String> = saved.servers.iter().map(|server| server.api.clone()).collect();
    let servers = if config.join.is_empty() { &known } else { &config.join };
    let joined = join(config, role, &key, &saved.name, servers).await?;
    key.keep().map_err(JoinError::Pki)?;
    joined.write(&config.data_dir)?;
    Ok(Some((joined, key)))
}

/// Whether a server with a token is told where to join: it would found a cluster of its own, and
/// its person would wait for it in the other.
///
/// # Errors
/// When it has a token, no server to join, and no cluster yet.
pub(crate) fn has_a_place(config: &Config) -> Result<(), JoinError> {
    let old = joined(&config.data_dir) || config.data_dir.join("pki/ca.key").exists();
    if old || config.token.is_none() || !config.join.is_empty() {
        return Ok(());
    }
    Err(JoinError::Told(
        "token: it is for joining a cluster: give --join https://SERVER:6443 as well, or leave it \
         out to found one"
            .to_owned(),
    ))
}

/// Whether a server that is to found a cluster, or to go on with its own, has no other's keys.
///
/// # Errors
/// When its joining was cut off: it would be a second cluster with the keys of the first.
pub(crate) fn is_its_own(config: &Config) -> Result<(), JoinError> {
    let dir = &config.data_dir;
    if dir.join("store").exists() || !saved::begun(dir) {
        return Ok(());
    }
    Err(JoinError::Told(format!(
        "{} holds the keys of a cluster, and its joining was cut off: give --join and the token \
         again, or empty the directory",
        dir.display()
    )))
}

/// Whether a board that has joined is what it is started as.
fn check(config: &Config, role: Role, saved: &Saved) -> Result<(), JoinError> {
    let dir = config.data_dir.display();
    let told = |what: String| Err(JoinError::Told(what));
    if saved.role != role.as_str() {
        return told(format!(
            "{dir} is the data directory of a board that joined as {}: start it with `edged {}`, \
             or choose another --data-dir",
            saved.role, saved.role
        ));
    }
    if config.named && config.name != saved.name {
        return told(format!(
            "{dir} belongs to the board {:?}, not to {:?}: leave --name out, or choose another \
             --data-dir",
            saved.name, config.name
        ));
    }
    let pin = CertFacts::read(&saved.ca).map(|facts| facts.pin).unwrap_or_default();
    match &config.token {
        Some(token) if token.pin != pin => told(format!(
            "{dir} belongs to the cluster {}, and the token is of another one: choose another \
             --data-dir, or remove this one to leave its cluster",
            saved.cluster
        )),
        _ => Ok(()),
    }
}

/// Whether a board that has not joined has a directory of its own to join with.
fn fresh(config: &Config, role: Role) -> Result<(), JoinError> {
    // Keys without a state are what a join leaves that was cut off.
    let leads = config.data_dir.join("store").exists();
    if leads && role == Role::Agent {
        return Err(JoinError::Told(format!(
            "{} is the data directory of a server: start it with `edged server`, or choose another \
             --data-dir",
            config.data_dir.display()
        )));
    }
    if leads {
        return Err(JoinError::Told(format!(
            "{} holds a cluster of its own, which would be lost by joining another: leave --join \
             out to go on with it, or choose another --data-dir",
            config.data_dir.display()
        )));
    }
    match (config.join.is_empty(), &config.token) {
        (true, _) => Err(JoinError::Told(format!(
            "this board has not joined a cluster yet: give --join https://SERVER:6443 and a token \
             of `edged token create{}`",
            if role == Role::Server { " --server" } else { "" }
        ))),
        (false, None) => Err(JoinError::Told(
            "--join needs a token of `edged token create`: give it in EDGED_TOKEN, --token-file or \
             --token"
                .to_owned(),
        )),
        (false, Some(_)) => Ok(()),
    }
}

async fn join(
    config: &Config,
    role: Role,
    key: &BoardKey,
    name: &str,
    servers: &[String],
) -> Result<Saved, JoinError> {
    let Some(token) = &config.token else {
        return Err(JoinError::Told("--join needs a token".to_owned()));
    };
    let at = |port| std::net::SocketAddr::new(config.node_ip, port);
    let request = JoinRequest {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        token: token.to_string(),
        csr: key.request(name).map_err(JoinError::Pki)?,
        name: name.to_owned(),
        role: role.as_str().to_owned(),
        addresses: vec![config.node_ip.to_string()],
        api: format!("https://{}", at(config.listen.port())),
        broker: at(config.broker_listen.port()).to_string(),
        pods: role == Role::Agent || !config.no_agent,
    };
    let has_room = |state| room::check(&config.data_dir, role, state);
    let waits = |why: &str| told::refused(config, why);
    let answer = ask::join(servers, config.node_ip, token, &request, (has_room, waits)).await?;
    for warning in &answer.warnings {
        tracing::warn!("{warning}");
    }
    let saved = Saved::from_answer(role, &token.id, answer)?;
    tracing::info!("joined the cluster {} as {role} {}", saved.cluster, saved.name);
    Ok(saved)
}

impl From<PkiError> for JoinError {
    fn from(error: PkiError) -> JoinError {
        JoinError::Pki(error)
    }
}
