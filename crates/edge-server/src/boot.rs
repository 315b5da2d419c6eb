//! What every cluster has from its first moment: the four namespaces, and the `kubernetes` Service
//! through which pods reach the API. A start that finds all of it as it should be writes nothing.

use crate::api::{Api, Place, WriteOptions};
use crate::auth::Identity;
use crate::config::ConfigError;
use edge_api::Object;
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use edge_core::consensus::Members;
use serde_json::json;
use std::net::SocketAddr;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
/// Which of the Services' addresses is the DNS server's.
const DNS: u32 = 10;

/// Whether the cluster, if it has begun, has Services in the range that this server is started
/// with: its boards would look for the API and for names where neither is.
///
/// # Errors
/// Names the range and the address that is outside of it.
pub(crate) fn agrees(api: &Api) -> Result<(), ConfigError> {
    let Ok(service) = api.object(Place::new(kinds::SERVICE, NAMESPACE, NAME)) else {
        return Ok(());
    };
    let have = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    match api.inner.services.nth(1) {
        Some(want) if !have.is_empty() && have != want.to_string() => Err(ConfigError {
            setting: "--service-cidr",
            value: api.inner.services.to_string(),
            reason: format!(
                "the cluster was founded with another range: its API is at {have}, which is the \
                 first address of it; give that range again"
            ),
        }),
        _ => Ok(()),
    }
}

/// Makes what is missing and corrects what is out of date.
pub(crate) async fn furnish(api: &Api, port: u16) -> Result<(), Status> {
    let who = Identity::system("apiserver");
    for name in NAMESPACES {
        let namespace = json!({ "metadata": { "name": name } });
        ensure(api, &who, kinds::NAMESPACE, "", name, namespace, |_, _| false).await?;
    }
    crate::tokens::furnish(api).await?;
    crate::auth::furnish(api).await?;
    let address = api.inner.services.nth(1).map(|ip| ip.to_string()).unwrap_or_default();
    let service = json!({
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
        },
    });
    let outdated = |have: &Object, want: &Object| {
        have["spec"]["ports"][0]["targetPort"] != want["spec"]["ports"][0]["targetPort"]
    };
    ensure(api, &who, kinds::SERVICE, NAMESPACE, NAME, service, outdated).await?;
    dns(api, &who).await?;
    let servers = servers(&api.inner.leadership.standing().members);
    if servers.is_empty() { Ok(()) } else { endpoints(api, &who, &servers).await }
}

/// The Service under which tools look for the cluster's DNS. Nothing stands behind it: every board
/// answers at its address itself.
async fn dns(api: &Api, who: &Identity) -> Result<(), Status> {
    let Some(address) = api.inner.services.nth(DNS) else { return Ok(()) };
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
        .map(|(name, protocol)| json!({ "name": name, "port": 53, "protocol": protocol }));
    let service = json!({
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": { "type": "ClusterIP", "clusterIP": address.to_string(), "ports": ports },
    });
    let made = ensure(api, who, kinds::SERVICE, "kube-system", "kube-dns", service, |_, _| false);
    match made.await {
        // Somebody's own Service has the address or the name: pods are answered all the same.
        Err(status) if status.code == 422 => {
            tracing::warn!("make the Service kube-system/kube-dns at {address}: {status}");
            Ok(())
        }
        other => other,
    }
}

/// Where the servers answer, for pods, and their names: in order, loopback addresses left out.
pub(crate) fn servers(members: &Members) -> Vec<(SocketAddr, String)> {
    let places = members.all().filter_map(|info| {
        let address: SocketAddr = info.api.strip_prefix("https://")?.parse().ok()?;
        (!address.ip().is_loopback()).then(|| (address, info.name.clone()))
    });
    let mut places: Vec<_> = places.collect();
    places.sort();
    places
}

async fn endpoints(
    api: &Api,
    who: &Identity,
    servers: &[(SocketAddr, String)],
) -> Result<(), Status> {
    // One port serves all, as Kubernetes has it; servers that listen elsewhere are left out.
    let (port, v4) = (servers[0].0.port(), servers[0].0.is_ipv4());
    let servers = servers.iter().filter(|(a, _)| a.port() == port && a.is_ipv4() == v4);
    let ips: Vec<(String, &String)> =
        servers.map(|(address, name)| (address.ip().to_string(), name)).collect();
    let old_form = json!({
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": ips.iter().map(|(ip, _)| json!({ "ip": ip })).collect::<Vec<_>>(),
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    });
    let outdated = |have: &Object, want: &Object| have["subsets"] != want["subsets"];
    ensure(api, who, kinds::ENDPOINTS, NAMESPACE, NAME, old_form, outdated).await?;
    let slice = json!({
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": NAME },
        },
        "addressType": if v4 { "IPv4" } else { "IPv6" },
        "endpoints": ips
            .iter()
            .map(|(ip, name)| {
                json!({ "addresses": [ip], "conditions": { "ready": true }, "nodeName": name })
            })
            .collect::<Vec<_>>(),
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    let outdated = |have: &Object, want: &Object| {
        // Whether they are ready is a controller's to say.
        let addresses = |slice: &Object| -> Vec<Object> {
            let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
            let place = |one: &Object| json!([one["addresses"], one["nodeName"]]);
            endpoints.iter().map(place).collect()
        };
        addresses(have) != addresses(want) || have["ports"][0]["port"] != want["ports"][0]["port"]
    };
    ensure(api, who, kinds::ENDPOINT_SLICE, NAMESPACE, NAME, slice, outdated).await
}

/// Creates an object, or replaces all but its metadata when it is out of date.
async fn ensure(
    api: &Api,
    who: &Identity,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    want: Object,
    outdated: impl Fn(&Object, &Object) -> bool,
) -> Result<(), Status> {
    let place = Place::new(kind, namespace, name);
    let options = WriteOptions::default();
    match api.object(place) {
        Ok(have) if !outdated(&have, &want) => Ok(()),
        Ok(have) => {
            let mut want = want;
            want["metadata"] = have["metadata"].clone();
            api.update(who, place, want, &options).await.map(|_| ())
        }
        Err(status) if status.is_not_found() => {
            api.create(who, kind, namespace, want, &options).await.map(|_| ())
        }
        Err(status) => Err(status),
    }
}
