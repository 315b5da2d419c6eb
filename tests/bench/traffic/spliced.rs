//! A board without nf_tables, in a network of its own: this process carries what its Services get,
//! as edged does there.

use std::net::SocketAddr;
use std::path::PathBuf;

use edge_core::proxy::Tables;
use edge_node::net::Net;
use edge_node::seams::PodNetwork;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::{PORT, SERVICE_PORT};
use crate::lab::namespace::Namespace;

const ADDRESS: &str = "10.43.0.9";

/// The board, for as long as this is kept.
pub(super) struct Board {
    net: Net,
    runtime: Option<Runtime>,
    dir: PathBuf,
    namespace: Namespace,
    /// The network of the pod that asks.
    pub(super) asks: PathBuf,
    /// The network of the pod that answers.
    pub(super) answers: PathBuf,
    /// The Service.
    pub(super) address: SocketAddr,
}

impl Board {
    pub(super) fn start() -> Board {
        let name = format!("eds{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&dir).expect("a fresh directory");
        let namespace = Namespace::new(&name);
        let (runtime, net, asks, answers) = namespace.within(|| {
            // Its threads stand where they are made: connections are made there.
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let (net, asks, answers) = runtime.block_on(open(&dir));
            (Some(runtime), net, asks, answers)
        });
        let address = SocketAddr::new(ADDRESS.parse().expect("an address"), SERVICE_PORT);
        Board { net, runtime, dir, namespace, asks, answers, address }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.namespace.within(|| {
            let _ = runtime.block_on(self.net.cleanup());
            drop(runtime);
        });
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn open(dir: &std::path::Path) -> (Net, PathBuf, PathBuf) {
    let net = super::change::open(dir, true);
    let asks = net.create_pod("asks", "asks", false).await.expect("a pod");
    let answers = net.create_pod("answers", "answers", false).await.expect("a pod");
    let service = json!({"metadata": {"name": "s", "namespace": "n"},
        "spec": {"clusterIP": ADDRESS, "ports": [{"port": SERVICE_PORT}]}});
    let slice = json!({"metadata": {"name": "s-x", "namespace": "n",
            "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [answers.ip]}]});
    net.apply_proxy(&Tables::gather([&service], [&slice], "me")).await.expect("served");
    let network = |pod: PodNetwork| pod.namespaces.net.expect("a network of its own");
    (net, network(asks), network(answers))
}
