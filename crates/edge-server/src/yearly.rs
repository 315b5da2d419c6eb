//! What lives a year on a server, and a process may live longer: the certificate that it serves
//! with, and that of the person at this board. Both are due by the cluster's time.

use crate::clock::passes;
use crate::config::Config;
use crate::pki::{self, Authority, PkiError, Renewing};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often certificates are looked at that live a year.
const RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets the person at this board in.
pub(crate) fn admin(authority: &Authority, config: &Config, port: u16) -> Result<(), PkiError> {
    let group = Some("system:masters");
    let leaf = authority.kept_leaf("admin", "kubernetes-admin", group, &BTreeSet::new())?;
    let server = format!("https://{}", SocketAddr::new(config.advertised(), port));
    pki::write_admin_kubeconfig(&config.data_dir, &server, authority.ca_pem(), &leaf)
}

/// Sees to it once a day by the cluster's clock, and when that has jumped; `judged` is when it was
/// done last, in seconds since 1970. A board whose own clock is behind hears the time late.
pub(crate) async fn renew(
    cert: Arc<Renewing>,
    authority: Arc<Authority>,
    config: Config,
    port: u16,
    mut judged: u64,
) {
    let clock = config.cluster.clock.clone();
    loop {
        passes(|| clock.now_secs(), judged, RENEWAL).await;
        judged = clock.now_secs();
        if let Err(error) = cert.renew(&authority) {
            tracing::warn!("renew the serving certificate: {error}");
        }
        if let Err(error) = admin(&authority, &config, port) {
            tracing::warn!("renew admin.kubeconfig: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::Cluster;
    use edge_core::clock::{ClusterClock, Reading};

    /// The board's clock has stood still in a drawer, and is right again after an hour that nobody
    /// lived through: what is served, and the person's kubeconfig, are made anew at once.
    #[tokio::test]
    async fn a_clock_that_hears_the_time_renews_what_is_over() {
        let dir = std::env::temp_dir().join(format!("edge-yearly-{}", std::process::id()));
        let stands = Reading { synchronised: false, ..crate::clock::read() };
        let clock = ClusterClock::new(0, move || stands);
        let cluster = Cluster { clock: clock.clone(), ..Cluster::default() };
        let config = Config {
            name: "board".to_owned(),
            data_dir: dir.clone(),
            listen: "127.0.0.1:6443".parse().unwrap(),
            node_ip: None,
            cluster_cidr: "10.42.0.0/16".to_owned(),
            service_cidr: "10.43.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            agent_port: 10250,
            cluster,
            nodes: crate::config::NodeSettings::default(),
        };
        let authority = Arc::new(Authority::open(&dir, clock.clone()).unwrap());
        let cert =
            Arc::new(Renewing::new(&authority, pki::serving_names(&config).unwrap()).unwrap());
        admin(&authority, &config, 6443).unwrap();
        let kept = || {
            let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
            [read("pki/server.crt"), read("pki/admin.crt"), read("admin.kubeconfig")]
        };
        let before = kept();
        let judged = clock.now_secs();
        // It was told before anybody began to wait for that.
        clock.tell(stands.wall_ms + 365 * 24 * 60 * 60 * 1000);
        let renewing = renew(cert, authority.clone(), config.clone(), 6443, judged);
        let moment = Duration::from_millis(100);
        assert!(tokio::time::timeout(moment, renewing).await.is_err(), "it goes on");
        let after = kept();
        assert!(before.iter().zip(&after).all(|(old, new)| old != new), "{after:?}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
