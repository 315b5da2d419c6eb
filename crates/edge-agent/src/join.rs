//! How this board comes into a cluster and stays there: it joins once with a token, keeps what it
//! got, and from then on needs nothing but its data directory.

mod ask;
mod clock;
mod error;
mod live;
mod reach;
mod run;
mod saved;

use edge_server::join::{JoinRequest, PROTOCOL, Role};
use edge_server::pki::{BoardKey, CertFacts, PkiError};

use crate::config::Config;
pub(crate) use error::JoinError;
pub(crate) use live::Live;
pub(crate) use run::run;
pub(crate) use saved::Saved;

/// The name that every server's certificate has, whatever its address is.
pub(crate) const SERVER_NAME: &str = "kubernetes.default.svc";

/// The port of servers' brokers.
const BROKER_PORT: u16 = 8883;

/// A board that belongs to a cluster.
pub(crate) struct Member {
    /// What the board keeps of its cluster.
    pub(crate) saved: Saved,
    /// Certificates that are renewed while it runs, and the cluster's time.
    pub(crate) live: std::sync::Arc<Live>,
}

/// Whether this board has joined a cluster that another founded.
pub(crate) fn joined(data_dir: &std::path::Path) -> bool {
    data_dir.join(saved::FILE).exists()
}

/// Gives what is kept of an earlier join, or joins now. Whatever is refused leaves the directory as
/// it was, but for the board's own key.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub(crate) async fn enter(config: &Config, role: Role) -> Result<Member, JoinError> {
    let key = BoardKey::open(&config.data_dir).map_err(JoinError::Pki)?;
    let saved = match Saved::read(&config.data_dir)? {
        Some(saved) => {
            check(config, role, &saved)?;
            saved
        }
        None => {
            fresh(config, role)?;
            join(config, role, &key).await?
        }
    };
    let live = Live::open(config, &saved, key)?;
    Ok(Member { saved, live: std::sync::Arc::new(live) })
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
    let leads = config.data_dir.join("pki/ca.key").exists();
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

async fn join(config: &Config, role: Role, key: &BoardKey) -> Result<Saved, JoinError> {
    let Some(token) = &config.token else {
        return Err(JoinError::Told("--join needs a token".to_owned()));
    };
    let at = |port| std::net::SocketAddr::new(config.node_ip, port);
    let request = JoinRequest {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        token: token.to_string(),
        csr: key.request(&config.name).map_err(JoinError::Pki)?,
        name: config.name.clone(),
        role: role.as_str().to_owned(),
        addresses: vec![config.node_ip.to_string()],
        api: format!("https://{}", at(config.listen.port())),
        broker: at(BROKER_PORT).to_string(),
        pods: role == Role::Agent || !config.no_agent,
    };
    let answer = ask::join(&config.join, config.node_ip, token, &request).await?;
    for warning in &answer.warnings {
        tracing::warn!("{warning}");
    }
    let saved = Saved::from_answer(role, answer)?;
    saved.write(&config.data_dir)?;
    tracing::info!("joined the cluster {} as {role} {}", saved.cluster, saved.name);
    Ok(saved)
}

impl From<PkiError> for JoinError {
    fn from(error: PkiError) -> JoinError {
        JoinError::Pki(error)
    }
}
