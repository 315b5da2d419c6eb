//! What every cluster has from its first moment: the four namespaces, and the `kubernetes` Service
//! through which pods reach the API. A start that finds all of it as it should be writes nothing.

use crate::api::{Api, Place, WriteOptions};
use crate::auth::Identity;
use crate::config::Config;
use edge_api::Object;
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use serde_json::json;
use std::net::IpAddr;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

/// Makes what is missing and corrects what is out of date.
pub(crate) async fn furnish(api: &Api, config: &Config, port: u16) -> Result<(), Status> {
    let who = Identity::system("apiserver");
    for name in NAMESPACES {
        let namespace = json!({ "metadata": { "name": name } });
        ensure(api, &who, kinds::NAMESPACE, "", name, namespace, |_, _| false).await?;
    }
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
    match config.reachable() {
        Some(ip) => endpoints(api, &who, ip, port).await,
        None => Ok(()),
    }
}

async fn endpoints(api: &Api, who: &Identity, ip: IpAddr, port: u16) -> Result<(), Status> {
    let old_form = json!({
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": [{ "ip": ip.to_string() }],
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
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [ip.to_string()], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    let outdated = |have: &Object, want: &Object| {
        have["endpoints"][0]["addresses"] != want["endpoints"][0]["addresses"]
            || have["ports"][0]["port"] != want["ports"][0]["port"]
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
