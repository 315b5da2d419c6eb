//! The configuration, settled once: flags before `EDGED_*` variables (last of all those of the
//! installed board's service) before the file before defaults. After this nothing reads the
//! environment or asks what was typed.

mod file;
mod installed;
mod lan;
mod nodes;
mod ranges;
mod servers;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::BoolishValueParser;
use tracing::level_filters::LevelFilter;

use crate::identity;
use edge_bus::{ExternalBroker, parse_broker};
use edge_core::controllers::load_balancer::LanPool;
use edge_core::upgrade::PublicKey;
use edge_node::upgrade::Upgrades;
use edge_server::join::Token;
pub(crate) use file::{File, Registry};
pub(crate) use installed::{data_dir, defaults, filed, layered, typed};
pub(crate) use ranges::{Ranges, fit, remember};
pub(crate) use servers::url as join_url;

/// Where the configuration file is looked for when no `--config` names one.
pub(crate) const FILE: &str = "/etc/edged/config.yaml";

/// Where the agent answers the servers; fixed by the contract.
const AGENT_PORT: u16 = 10250;

/// The word that stands for whatever servers the LAN has.
pub(crate) const AUTO: &str = "auto";

/// Settings as typed or exported; each is also a key of the file, without its dashes.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct Settings {
    /// Configuration file [default: /etc/edged/config.yaml, if it exists]
    #[arg(long, env = "EDGED_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What must survive a reboot: state, images, volumes, logs [default: /var/lib/edged]
    #[arg(long, env = "EDGED_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What dies with the board: sockets, namespaces [default: /run/edged]
    #[arg(long, env = "EDGED_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// This board's name in the cluster [default: the hostname]
    #[arg(long, env = "EDGED_NAME")]
    pub name: Option<String>,
    /// The address other boards reach this one at [default: that of the default route]
    #[arg(long, env = "EDGED_NODE_IP", value_name = "ADDRESS")]
    pub node_ip: Option<String>,
    /// Where the API listens [default: 0.0.0.0:6443]
    #[arg(long, env = "EDGED_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where the agent listens for the servers [default: 0.0.0.0:10250]
    #[arg(long, env = "EDGED_AGENT_LISTEN", value_name = "ADDRESS:PORT")]
    pub agent_listen: Option<String>,
    /// Addresses of pods, one part for each board [default: 10.42.0.0/16]
    #[arg(long, env = "EDGED_CLUSTER_CIDR", value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Addresses of Services [default: 10.43.0.0/16]
    #[arg(long, env = "EDGED_SERVICE_CIDR", value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Encrypt all that this board's pods and those of other boards say to each other
    #[arg(long, env = "EDGED_ENCRYPT_PODS", value_parser = BoolishValueParser::new())]
    pub encrypt_pods: bool,
    /// The UDP port of tunnels between boards [default: 51820]
    #[arg(long, env = "EDGED_WIREGUARD_PORT", value_name = "PORT")]
    pub wireguard_port: Option<String>,
    /// The cluster's DNS domain [default: cluster.local]
    #[arg(long, env = "EDGED_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Where the board says whom it asks for names [default: /etc/resolv.conf]
    #[arg(long, env = "EDGED_RESOLV_CONF", value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// The cgroup beneath which pods live [default: /edged]
    #[arg(long, env = "EDGED_CGROUP_PARENT", value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// A server of the cluster to join, or auto to find one on the LAN; may be given several times
    #[arg(long, env = "EDGED_JOIN", value_name = "https://HOST:6443", value_delimiter = ',')]
    pub join: Vec<String>,
    /// The joining token; better in the environment or a file, since arguments are for all to see
    #[arg(long, env = "EDGED_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file that holds the joining token
    #[arg(long, env = "EDGED_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// A broker of your own instead of the servers', mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT];
    /// may be given several times. Better in the environment or the file, for its password
    #[arg(
        long,
        env = "EDGED_BROKER",
        value_name = "URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub broker: Vec<String>,
    /// Where this server's broker listens [default: 0.0.0.0:8883]
    #[arg(long, env = "EDGED_BROKER_LISTEN", value_name = "ADDRESS:PORT")]
    pub broker_listen: Option<String>,
    #[command(flatten)]
    pub nodes: nodes::NodeFlags,
    #[command(flatten)]
    pub lan: lan::LanFlags,
    /// How much to say: error, warn, info, debug or trace [default: info]
    #[arg(long, env = "EDGED_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
}

/// The settled configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub name: String,
    pub node_ip: IpAddr,
    pub listen: SocketAddr,
    pub agent_listen: SocketAddr,
    /// The cluster's, once there is one.
    pub ranges: Ranges,
    /// Those that somebody asked for; empty where nobody did.
    pub asked: Ranges,
    /// Whether what pods say to those of other boards is to be encrypted.
    pub encrypt_pods: bool,
    /// The UDP port of tunnels.
    pub wireguard_port: u16,
    pub cgroup_parent: String,
    pub resolv_conf: PathBuf,
    pub registries: file::Registries,
    pub no_agent: bool,
    pub log: LevelFilter,
    /// Servers to join, as URLs, or `auto`.
    pub join: Vec<String>,
    pub token: Option<Token>,
    /// The user's own brokers, in place of the servers'.
    pub brokers: Vec<ExternalBroker>,
    /// Where this server's broker listens.
    pub broker_listen: SocketAddr,
    /// What is made of boards that fall silent.
    pub nodes: edge_server::NodeSettings,
    /// Addresses of the LAN that Services may have.
    pub lan_pool: LanPool,
    /// Whose signatures count on programs that are brought to this board.
    pub upgrade_keys: Vec<PublicKey>,
    /// How those come in, once it runs.
    pub upgrades: Option<Arc<Upgrades>>,
    /// Whether somebody chose the address; else it may change.
    pub fixed_ip: bool,
    /// Whether somebody chose the name.
    pub named: bool,
}

/// A setting that can't be used, or a file that can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn bad(key: &str, value: &str, want: &str) -> ConfigError {
    ConfigError(format!("{key}: {value:?} is not {want}"))
}

impl Config {
    /// Merges flags and variables (clap has done that) with the file and the defaults.
    ///
    /// # Errors
    /// Names the key and the value that can't be used.
    pub(crate) fn settle(settings: &Settings) -> Result<Config, ConfigError> {
        clock_is_true()?;
        let file = match &settings.config {
            Some(path) => File::read(path)?,
            None if Path::new(FILE).exists() => File::read(Path::new(FILE))?,
            None => File::default(),
        };
        Config::from_parts(settings, file)
    }

    pub(crate) fn from_parts(settings: &Settings, file: File) -> Result<Config, ConfigError> {
        let pick = |typed: &Option<String>, filed: Option<String>, default: &str| {
            typed.clone().or(filed).unwrap_or_else(|| default.to_owned())
        };
        let dir = |typed: &Option<PathBuf>, filed: Option<PathBuf>, default: &str| {
            typed.clone().or(filed).unwrap_or_else(|| default.into())
        };
        let join = servers::settle(settings, &file)?;
        let token = token(settings, &file)?;
        let brokers = brokers(settings, &file)?;
        let fixed_ip = settings.node_ip.is_some() || file.node_ip.is_some();
        let nodes = nodes::settle(&settings.nodes, &file)?;
        let named = settings.name.is_some() || file.name.is_some();
        let data_dir =
            absolute("data-dir", dir(&settings.data_dir, file.data_dir.clone(), "/var/lib/edged"))?;
        let name = name(settings.name.clone().or(file.name.clone()), &data_dir)?;
        if !edge_api::names::dns1123_subdomain(&name).is_empty() {
            return Err(bad("name", &name, "a lower-case DNS name (a-z, 0-9, '-', '.')"));
        }
        let node_ip = match settings.node_ip.clone().or(file.node_ip.clone()) {
            Some(text) => text.parse().map_err(|_| bad("node-ip", &text, "an IP address"))?,
            None => identity::node_ip().map_err(|e| ConfigError(format!("node-ip: {e}")))?,
        };
        let log = pick(&settings.log, file.log.clone(), "info");
        let asked = Ranges::asked(settings, &file);
        let ranges = Ranges::settle(&asked, &data_dir)?;
        let cidrs = (ranges.cluster_cidr.as_str(), ranges.service_cidr.as_str());
        let lan_pool = lan::settle(&settings.lan, &file, cidrs, node_ip)?;
        let agent_listen = format!("0.0.0.0:{AGENT_PORT}");
        Ok(Config {
            data_dir,
            run_dir: absolute("run-dir", dir(&settings.run_dir, file.run_dir, "/run/edged"))?,
            name,
            node_ip,
            listen: address("listen", &pick(&settings.listen, file.listen, "0.0.0.0:6443"))?,
            agent_listen: address(
                "agent-listen",
                &pick(&settings.agent_listen, file.agent_listen, &agent_listen),
            )?,
            ranges,
            asked,
            encrypt_pods: settings.encrypt_pods || file.encrypt_pods,
            wireguard_port: port(
                "wireguard-port",
                &pick(&settings.wireguard_port, file.wireguard_port, "51820"),
            )?,
            cgroup_parent: cgroup(pick(&settings.cgroup_parent, file.cgroup_parent, "/edged"))?,
            resolv_conf: (settings.resolv_conf.clone().or(file.resolv_conf))
                .unwrap_or_else(|| "/etc/resolv.conf".into()),
            registries: file.registries,
            upgrade_keys: upgrade_keys(&file.upgrade_keys)?,
            upgrades: None,
            no_agent: file.no_agent,
            join,
            token,
            brokers,
            broker_listen: address(
                "broker-listen",
                &pick(&settings.broker_listen, file.broker_listen, "0.0.0.0:8883"),
            )?,
            fixed_ip,
            lan_pool,
            nodes,
            named,
            log: log
                .parse()
                .map_err(|_| bad("log", &log, "one of error, warn, info, debug, trace"))?,
        })
    }
}

/// Programs that people run take no orders about the time.
fn clock_is_true() -> Result<(), ConfigError> {
    match cfg!(debug_assertions) || std::env::var_os(edge_server::clock::SKEW).is_none() {
        true => Ok(()),
        false => Err(ConfigError(format!("{} is for tests only", edge_server::clock::SKEW))),
    }
}

/// The name: the one that this board has in its cluster already, or the chosen one, or the host's.
fn name(chosen: Option<String>, data_dir: &Path) -> Result<String, ConfigError> {
    match (identity::remembered(data_dir), chosen) {
        (Some(had), Some(chosen)) if had != chosen => Err(ConfigError(format!(
            "name: {} belongs to the board {had:?}, not to {chosen:?}: leave --name out, or choose \
             another --data-dir",
            data_dir.display()
        ))),
        (Some(had), _) => Ok(had),
        (None, Some(chosen)) => Ok(chosen),
        (None, None) => identity::hostname().map_err(|e| ConfigError(format!("name: {e}"))),
    }
}

/// The user's own brokers. Their errors name no password.
fn brokers(settings: &Settings, file: &File) -> Result<Vec<ExternalBroker>, ConfigError> {
    let given = if settings.broker.is_empty() { &file.broker } else { &settings.broker };
    given.iter().map(|url| parse_broker(url).map_err(|e| ConfigError(e.to_string()))).collect()
}

fn upgrade_keys(texts: &[String]) -> Result<Vec<PublicKey>, ConfigError> {
    let key = |text: &String| PublicKey::parse(text);
    let keys: Result<_, _> = texts.iter().map(key).collect();
    keys.map_err(|error| ConfigError(format!("upgrade-keys: {error}")))
}

/// The token, from wherever it was given. It is never repeated in a message.
fn token(settings: &Settings, file: &File) -> Result<Option<Token>, ConfigError> {
    let path = match (&settings.token, &settings.token_file) {
        (Some(_), _) => None,
        (None, Some(path)) => Some(path),
        (None, None) if file.token.is_none() => file.token_file.as_ref(),
        (None, None) => None,
    };
    let text = match path {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| ConfigError(format!("token-file: {}: {e}", path.display())))?,
        ),
        None => settings.token.clone().or(file.token.clone()).filter(|text| !text.is_empty()),
    };
    let parse = |text: String| Token::parse(&text).map_err(|e| ConfigError(format!("token: {e}")));
    text.map(parse).transpose()
}

fn absolute(key: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|e| ConfigError(format!("{key}: {}: {e}", path.display())))
}

fn address(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| bad(key, text, "an address and port such as 0.0.0.0:6443"))
}

fn port(key: &str, text: &str) -> Result<u16, ConfigError> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| bad(key, text, "a port from 1 to 65535"))
}

fn cgroup(path: String) -> Result<String, ConfigError> {
    let good = path.starts_with('/') && path.len() > 1 && !path.split('/').any(|p| p == "..");
    if good { Ok(path) } else { Err(bad("cgroup-parent", &path, "an absolute cgroup path")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            name: Some("board-1".into()),
            node_ip: Some("192.0.2.7".into()),
            ..Settings::default()
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let mut typed = settings();
        typed.listen = Some("127.0.0.1:7000".into());
        let file = File::parse("listen: 127.0.0.1:1\nservice-cidr: 10.9.0.0/16\n").unwrap();
        let config = Config::from_parts(&typed, file).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7000");
        assert_eq!(config.ranges.service_cidr, "10.9.0.0/16");
        assert_eq!(config.ranges.cluster_cidr, "10.42.0.0/16");
        assert_eq!(config.data_dir, Path::new("/var/lib/edged"));
    }

    #[test]
    fn a_founder_keeps_its_name() {
        let dir = std::env::temp_dir().join(format!("edged-name-{}", std::process::id()));
        let named = |chosen: Option<&str>| name(chosen.map(str::to_owned), &dir);
        assert_eq!(named(Some("first")).unwrap(), "first");
        identity::remember(&dir, "first").unwrap();
        assert_eq!(named(None).unwrap(), "first", "whatever the host is called now");
        let error = named(Some("second")).unwrap_err().to_string();
        assert!(error.contains("belongs to the board \"first\", not to \"second\""), "{error}");
        std::fs::write(dir.join("name"), "\n").unwrap();
        assert_eq!(named(Some("second")).unwrap(), "second", "cut short by a power cut");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_bad_value_names_its_key() {
        type Change = fn(&mut Settings);
        let cases: &[(Change, &str)] = &[
            (|s| s.listen = Some("6443".into()), "listen: \"6443\""),
            (|s| s.node_ip = Some("here".into()), "node-ip: \"here\""),
            (|s| s.cluster_cidr = Some("10.42.0.0".into()), "cluster-cidr: \"10.42.0.0\""),
            (|s| s.wireguard_port = Some("0".into()), "wireguard-port: \"0\""),
            (|s| s.log = Some("loud".into()), "log: \"loud\""),
            (|s| s.name = Some("Not_A_Name".into()), "name: \"Not_A_Name\""),
            (|s| s.join = vec!["https://a/b".into()], "join: \"https://a/b\""),
            (|s| s.token = Some("edged1.abc".into()), "token: not a joining token"),
            (|s| s.token_file = Some("/no/such".into()), "token-file: /no/such"),
            (|s| s.cgroup_parent = Some("/a/../b".into()), "cgroup-parent: \"/a/../b\""),
        ];
        for (change, want) in cases {
            let mut typed = settings();
            change(&mut typed);
            let error = Config::from_parts(&typed, File::default()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
